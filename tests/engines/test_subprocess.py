import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent import settings
from edge_agent.chips import tensors
from edge_agent.engines.subprocess import SubprocessEngine
from edge_agent.engines.supervised import EngineLostError
from edge_agent.errors import ModelError
from edge_agent.models.shipped import shipped
from edge_agent.testing.engine_contract import identity
from tests.broker import wait_until
from tests.delegates import TestDelegate
from tests.models.hostile_models import memory_eating_onnx

DIGITS = shipped("digits/digits.tflite")
TIMEOUT = 10.0


def noise() -> NDArray[np.int8]:
    return np.random.default_rng(0).integers(-128, 128, (1, 32, 24, 1)).astype(np.int8)


def test_tensors_that_do_not_fit_the_shared_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SubprocessEngine(identity(DIGITS), "cpu", 1, TIMEOUT)
    monkeypatch.setattr(tensors, "MAX_TENSORS", 100)
    with pytest.raises(ModelError, match="it can't be isolated"):
        engine.run([noise()])
    monkeypatch.undo()
    assert engine.run([noise()])[0].shape == (1, 11)
    engine.close()


def test_an_isolated_model_that_takes_too_much_memory_for_an_input_fails_at_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "bright.onnx"
    path.write_bytes(memory_eating_onnx(400_000_000, only_if_bright=True))
    engine = SubprocessEngine(identity(path), "cpu", 1, TIMEOUT, model_memory=100_000_000)
    dark, bright = (np.full((1, 1, 16, 2), value, np.float32) for value in (0, 1))
    for _ in range(2):
        with pytest.raises(ModelError, match=r"allocate memory|bad_alloc"):
            engine.run([bright])
        assert engine.run([dark])[0].shape == (1, 32)
    engine.close()


def test_a_model_that_can_not_be_loaded_leaves_no_process_behind(tmp_path: Path) -> None:
    before = _children()
    model = identity(Path(shutil.copy(DIGITS, tmp_path / "gone.tflite")))
    model.path.unlink()
    with pytest.raises(ModelError, match=r"gone\.tflite: can't be read"):
        SubprocessEngine(model, "cpu", 1, TIMEOUT)
    assert _children() == before


def test_a_crash_ends_its_process_alone_and_who_asks_is_told_how(delegate: TestDelegate) -> None:
    engine = SubprocessEngine(identity(DIGITS), _entry(delegate, "crash"), 1, TIMEOUT)
    delegate.do_harm()
    with pytest.raises(EngineLostError, match=r"^its process has crashed \(SIGSEGV\)$"):
        engine.run([noise()])
    with pytest.raises(EngineLostError):
        engine.run([noise()])


def test_what_hangs_is_ended(delegate: TestDelegate) -> None:
    engine = SubprocessEngine(identity(DIGITS), _entry(delegate, "hang"), 1, 0.5)
    before = _children()
    delegate.do_harm()
    with pytest.raises(EngineLostError, match=r"^gives no answer for 0.5 s$"):
        engine.run([noise()])
    assert len(_children()) == len(before) - 1


def test_it_ends_with_its_parent_even_if_it_hangs(delegate: TestDelegate, tmp_path: Path) -> None:
    delegate.do_harm()
    program = (
        "import sys; from pathlib import Path; from edge_agent import settings;"
        "from edge_agent.engines.subprocess import SubprocessEngine;"
        "from edge_agent.modelfile import inspect;"
        "print('begun', flush=True);"
        "entry = settings.Delegate.model_validate_json(sys.argv[2]);"
        "SubprocessEngine(inspect.read(Path(sys.argv[1])).identity, entry, 1, 60)"
    )
    entry = _entry(delegate, "hang")
    command = [sys.executable, "-c", program, str(DIGITS), entry.model_dump_json()]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        wait_until(lambda: _maps(delegate.library) != set(), 20, "the model is loaded")
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: _maps(delegate.library) == set(), 10, "its process ends")


def _entry(delegate: TestDelegate, harm: str) -> settings.Delegate:
    return settings.Delegate.model_validate(delegate.entry(harm, at_will=True))


def _children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def _maps(library: Path) -> set[int]:
    """The processes that have a library in their memory."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/maps"):
        try:
            if str(library) in file.read_text(errors="replace"):
                found.add(int(file.parent.name))
        except OSError:
            continue
    return found
