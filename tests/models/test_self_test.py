import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent import settings
from edge_agent.errors import ModelError
from edge_agent.models import self_test_worker
from edge_agent.models.resolve import resolve_model
from edge_agent.models.self_test import run_self_test
from edge_agent.models.shipped import shipped
from edge_agent.system import memory
from tests.broker import PATIENCE, wait_until
from tests.models.hostile_models import classifier_options, crashing_tflite, hanging_onnx, memory_eating_onnx
from tests.processes import alive

DIGITS = shipped("digits")


@pytest.fixture
def hanging(tmp_path: Path) -> settings.Model:
    path = tmp_path / "hanging.onnx"
    path.write_bytes(hanging_onnx())
    return classifier_options(path)


@pytest.fixture
def crashing(tmp_path: Path) -> Path:
    return crashing_tflite(tmp_path)


def digits(path: Path = DIGITS) -> settings.Model:
    return settings.Model.model_validate(
        {"path": path, "labels": DIGITS / "labels.txt", "preprocess": {"color": "gray", "normalize": "unit"}}
    )


def children() -> set[int]:
    """The processes that this one has started and that still run."""
    listed = (path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    return {int(pid) for line in listed for pid in line.split() if alive(int(pid))}


def once_it_runs(do: Callable[[int], None], before: set[int]) -> threading.Thread:
    """Does something to the process of a trial as soon as it is there."""

    def act() -> None:
        (pid,) = wait_until(lambda: children() - before, 10, "the trial's process is there")
        wait_until(lambda: _interpreter_runs(pid), 10, "the process runs Python")
        do(pid)

    thread = threading.Thread(target=act)
    thread.start()
    return thread


@pytest.mark.parametrize("name", ["digits.tflite", "digits.onnx"])
def test_a_sound_model_passes_and_its_golden_samples_come_out_right(name: str) -> None:
    proof = run_self_test(resolve_model(settings.Model(path=DIGITS / name), Path.cwd()))
    assert proof.runtime.split()[0] in {"LiteRT", "tflite-runtime", "ONNX"}
    assert proof.accelerator == "cpu"
    assert len(proof.checks) == 14
    assert all(check.right for check in proof.checks)


def test_a_batch_is_tried_as_well() -> None:
    assert run_self_test(resolve_model(settings.Model(path=DIGITS), Path.cwd()), batch=6).checks


def test_a_model_whose_runtime_takes_no_batches_passes_with_one(data_dir: Path) -> None:
    """LiteRT refuses batches of this one, on processors with AVX-512 at least."""
    path = data_dir / "classify_tflite" / "mobilenet_v2_1.0_224_quant.tflite"
    options = settings.Model.model_validate({"path": path, "labels": "none"})
    assert run_self_test(replace(resolve_model(options, Path.cwd()), cores=2), batch=2).tuning is not None


def test_a_model_that_crashes_the_runtime_is_refused_with_the_signal_named(crashing: Path) -> None:
    with pytest.raises(ModelError, match=r"crashes the runtime \(SIG[A-Z]+.*\): the file is damaged") as caught:
        run_self_test(resolve_model(digits(crashing), Path.cwd()))
    assert str(caught.value).startswith(f"{crashing}: ")
    assert "\n" not in str(caught.value)


def test_the_command_line_lives_on_when_a_model_crashes_the_runtime(crashing: Path) -> None:
    picture = next((DIGITS / "golden").iterdir())
    command = [sys.executable, "-m", "edge_agent", "predict", str(crashing), str(picture)]
    command += ["--labels", str(DIGITS / "labels.txt"), "--normalize", "unit"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert "crashes the runtime" in line


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (signal.SIGSEGV, "the file is damaged"),
        (signal.SIGKILL, "memory runs out"),
        (signal.SIGILL, "this processor lacks"),
    ],
)
def test_each_way_to_be_ended_has_its_hint(number: signal.Signals, hint: str, hanging: settings.Model) -> None:
    actor = once_it_runs(lambda pid: os.kill(pid, number), children())
    with pytest.raises(ModelError, match=rf"\({number.name}\): .*{hint}"):
        run_self_test(resolve_model(hanging, Path.cwd()))
    actor.join()


def test_a_model_that_hangs_is_given_up_and_leaves_no_process(hanging: settings.Model) -> None:
    before, began = children(), time.monotonic()
    with pytest.raises(ModelError, match=r"nothing comes of it for 2 s: the model hangs, or is too large"):
        run_self_test(resolve_model(hanging, Path.cwd()), patience=2)
    assert time.monotonic() - began < 10 * PATIENCE
    assert children() <= before


def test_a_process_that_is_stopped_counts_as_hanging() -> None:
    actor = once_it_runs(lambda pid: os.kill(pid, signal.SIGSTOP), children())
    with pytest.raises(ModelError, match="nothing comes of it"):
        run_self_test(resolve_model(settings.Model(path=DIGITS), Path.cwd()), patience=2)
    actor.join()


@pytest.mark.parametrize("count", [10**12, 3 * 10**9])
def test_a_model_that_eats_memory_is_refused_before_it_has_it(count: int, tmp_path: Path) -> None:
    path = tmp_path / "hungry.onnx"
    path.write_bytes(memory_eating_onnx(count))
    with pytest.raises(ModelError, match=r"needs more than the [\d.]+ [MG]B of memory that a model may take here"):
        run_self_test(resolve_model(classifier_options(path), Path.cwd()))
    largest_child_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert largest_child_kb * 1024 < memory.MAX_OF_MODEL


def test_a_model_that_eats_memory_for_some_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bright.onnx"
    path.write_bytes(memory_eating_onnx(400_000_000, only_if_bright=True))
    source = replace(resolve_model(classifier_options(path), Path.cwd()), model_memory=100_000_000)
    with pytest.raises(ModelError, match=r"needs more than the 600.0 MB of memory that a model may take here"):
        run_self_test(source)


def test_a_model_may_take_memory_within_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    path.write_bytes(memory_eating_onnx(50_000_000))
    assert run_self_test(resolve_model(classifier_options(path), Path.cwd())).checks == ()


def test_what_is_compiled_for_an_accelerator_says_for_which(data_dir: Path) -> None:
    path = data_dir / "classify_tflite/mobilenet_v1_0.5_160_quant_edgetpu.tflite"
    with pytest.raises(ModelError, match=r"edgetpu-custom-op, .*: it is compiled for the Edge TPU"):
        run_self_test(resolve_model(settings.Model(path=path), Path.cwd()))


@pytest.mark.parametrize("name", ["model_invoking_error", "person_detect_vela", "sentencepiece_tokenizer_flex_op"])
def test_models_that_no_plain_runtime_takes_end_in_one_sentence(name: str, data_dir: Path) -> None:
    path = data_dir / "bad_models" / f"{name}.tflite"
    with pytest.raises(ModelError) as caught:
        run_self_test(resolve_model(settings.Model.model_validate({"path": path, "labels": "none"}), Path.cwd()))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes((DIGITS / "digits.tflite").read_bytes()[:100_000])
    with pytest.raises(ModelError, match="damaged"):
        run_self_test(resolve_model(digits(path), Path.cwd()))


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="there is no such file or folder"):
        run_self_test(resolve_model(settings.Model(path=Path("gone.tflite")), Path.cwd()))


def test_what_waiting_raises_ends_the_trial(hanging: settings.Model) -> None:
    class Stopped(Exception):  # noqa: N818 - no error
        pass

    def stop() -> None:
        raise Stopped

    before = children()
    with pytest.raises(Stopped):
        run_self_test(resolve_model(hanging, Path.cwd()), waiting=stop)
    assert children() <= before


def test_the_process_has_no_socket_of_ours_and_no_terminal(hanging: settings.Model) -> None:
    found: list[str] = []
    sessions: list[int] = []

    def look(pid: int) -> None:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since
                found.append(str(path.readlink()))
        sessions.append(os.getsid(pid))
        os.kill(pid, signal.SIGKILL)

    with socket.socket() as ours:
        ours.set_inheritable(True)
        inode = os.fstat(ours.fileno()).st_ino
        actor = once_it_runs(look, children())
        with pytest.raises(ModelError):
            run_self_test(resolve_model(hanging, Path.cwd()))
        actor.join()
    assert found
    assert f"socket:[{inode}]" not in found
    assert sum(target.startswith("socket:") for target in found) == 1  # the one that its messages go through
    assert not any(target.startswith(("/dev/pts", "/dev/tty")) for target in found)
    assert sessions != [os.getsid(0)]


def _interpreter_runs(pid: int) -> bool:
    return b"edge_agent.models.self_test_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_process_ends_with_its_parent(hanging: settings.Model) -> None:
    script = (
        "import sys; from pathlib import Path; from edge_agent import settings;"
        "from edge_agent.models import self_test; from edge_agent.models.resolve import resolve_model;"
        "self_test.run_self_test(resolve_model(settings.Model.model_validate_json(sys.argv[1]), Path.cwd()))"
    )
    with subprocess.Popen([sys.executable, "-c", script, hanging.model_dump_json()]) as parent:
        of_parent = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        (pid,) = wait_until(lambda: of_parent.read_text().split(), 10, "the trial's process is there")
        wait_until(lambda: _interpreter_runs(int(pid)), 10, "the process runs Python")
        parent.kill()
    wait_until(lambda: not alive(int(pid)), 10, "the process has ended, too")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "m.onnx: it needs more than the 2.0 GB of memory that a model may take here"),
        (ValueError("Tensor data\nis null"), "m.onnx: the runtime fails on it: ValueError: Tensor data is null"),
        (ModelError("m.onnx: refused"), "m.onnx: refused"),
    ],
)
def test_whatever_a_runtime_raises_becomes_one_sentence(error: Exception, sentence: str) -> None:
    assert self_test_worker._refusal(error, Path("m.onnx"), 2_000_000_000) == sentence


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        ("std::bad_alloc", "it needs more than the 2.0 GB of memory"),
        ("Failed to allocate memory for requested buffer of size 4000000000000", "it needs more than the 2.0 GB"),
        ("", "refused: no reason given; it may be that it needs more than the 2.0 GB of memory here"),
    ],
)
def test_lack_of_memory_is_told_from_what_the_runtime_says(cause: str, sentence: str) -> None:
    error = ModelError("m.onnx: refused")
    error.__cause__ = RuntimeError(cause)
    assert sentence in self_test_worker._refusal(error, Path("m.onnx"), 2_000_000_000)
