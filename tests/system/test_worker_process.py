import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.system import worker_process
from edge_agent.system.worker_process import MAX_LAST_LINE, WorkerEndedError, WorkerHungError, WorkerProcess
from tests.broker import PATIENCE, wait_until
from tests.processes import alive

MODULE = "tests.system.obedient_worker"
TIMEOUT = 20.0


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess(MODULE, keep_stderr=True) as started:
        yield started


def order(worker: WorkerProcess, name: str, argument: Any = None, timeout: float = TIMEOUT) -> Any:
    worker.send([name, argument])
    return worker.receive(timeout)


@pytest.mark.parametrize("value", [None, "", "ä\n\0", {"a": [1, 2.5, True]}, "x" * 1_000_000])
def test_messages_arrive_as_they_were_sent(worker: WorkerProcess, value: Any) -> None:
    assert order(worker, "echo", value) == value


def test_messages_wait_for_their_reader_in_order(worker: WorkerProcess) -> None:
    for number in range(10):
        worker.send(["echo", number])
    assert [worker.receive(TIMEOUT) for _ in range(10)] == list(range(10))


def test_what_is_printed_does_not_get_among_the_messages(
    worker: WorkerProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    assert order(worker, "write", ["{}", "[1]"]) is None
    assert order(worker, "echo", 1) == 1
    assert capfd.readouterr() == ("", "")


def test_without_keep_stderr_both_outputs_go_where_those_of_this_process_go(capfd: pytest.CaptureFixture[str]) -> None:
    with WorkerProcess(MODULE) as worker:
        order(worker, "write", ["a word"])
        assert capfd.readouterr() == ("", "a word\na word\n")
        with pytest.raises(WorkerEndedError, match=r"^exit code 3$"):
            order(worker, "end_with", 3)


@pytest.mark.parametrize("code", [0, 3])
def test_a_process_that_ends_by_itself_is_reported_with_its_exit_code(worker: WorkerProcess, code: int) -> None:
    with pytest.raises(WorkerEndedError) as caught:
        order(worker, "end_with", code)
    assert (str(caught.value), caught.value.signal) == (f"exit code {code}", "")
    assert not worker.alive
    with pytest.raises(WorkerEndedError):
        worker.send(["echo", 1])


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 3, f"signal {signal.SIGRTMIN + 3}")],
)
def test_a_process_that_is_ended_by_a_signal_is_reported_with_its_name(
    worker: WorkerProcess, number: int, name: str
) -> None:
    with pytest.raises(WorkerEndedError) as caught:
        order(worker, "end_by", number)
    assert (str(caught.value), caught.value.signal) == (name, name)


def test_the_last_line_of_standard_error_is_quoted(worker: WorkerProcess) -> None:
    order(worker, "write", ["first", "what(): bad ä" + "x" * 2 * MAX_LAST_LINE, " ", ""])
    with pytest.raises(WorkerEndedError) as caught:
        order(worker, "end_by", signal.SIGABRT)
    assert str(caught.value) == f"SIGABRT: what(): bad ä{'x' * MAX_LAST_LINE}"[: len("SIGABRT: ") + MAX_LAST_LINE]


def test_an_exception_in_the_module_ends_the_process(worker: WorkerProcess) -> None:
    with pytest.raises(WorkerEndedError, match=r"^exit code 1: RuntimeError: it is broken$"):
        order(worker, "fail", "it is broken")


def test_a_main_that_returns_ends_the_process(worker: WorkerProcess) -> None:
    with pytest.raises(WorkerEndedError, match=r"^exit code 0$"):
        order(worker, "return")


def test_a_module_that_is_not_there_ends_the_process() -> None:
    worker = WorkerProcess("tests.system.not_there", keep_stderr=True)
    with pytest.raises(WorkerEndedError, match=r"^exit code 1: ModuleNotFoundError: "):
        worker.receive(TIMEOUT)


@pytest.mark.parametrize("kind", ["in Python", "natively"])
def test_a_process_that_gives_no_answer_in_time_is_killed(worker: WorkerProcess, kind: str) -> None:
    order(worker, "echo")
    began = time.monotonic()
    with pytest.raises(WorkerHungError, match=r"^no answer for 0.2 s$"):
        order(worker, "hang", kind, timeout=0.2)
    assert time.monotonic() - began < 5 * PATIENCE
    assert not alive(worker.pid)


def test_a_process_that_does_not_read_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "STALL_TIMEOUT", 1.0)
    with WorkerProcess(MODULE) as worker:
        worker.send(["hang", "in Python"])
        with pytest.raises(WorkerHungError):
            worker.send(["echo", "x" * 10_000_000])
        assert not alive(worker.pid)


def test_a_process_that_stops_in_the_middle_of_a_message_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "STALL_TIMEOUT", 1.0)
    with WorkerProcess(MODULE) as worker:
        channel = next(
            int(number) for number, file in order(worker, "descriptors").items() if file.startswith("socket")
        )
        worker.send(["half", channel])
        with pytest.raises(WorkerHungError):
            worker.receive(TIMEOUT)
        assert not alive(worker.pid)


def test_a_message_that_is_too_large_ends_the_process(worker: WorkerProcess) -> None:
    with pytest.raises(WorkerEndedError):
        order(worker, "too_large")
    assert not alive(worker.pid)


def test_waiting_is_called_meanwhile_and_what_it_raises_is_passed_on(worker: WorkerProcess) -> None:
    class Stop(Exception):  # noqa: N818 - no error
        pass

    calls: list[float] = []

    def waiting() -> None:
        calls.append(time.monotonic())
        if len(calls) == 3:
            raise Stop

    order(worker, "echo")
    worker.send(["hang", "in Python"])
    began = time.monotonic()
    with pytest.raises(Stop):
        worker.receive(TIMEOUT, waiting)
    assert 1 < calls[-1] - began < 10
    assert worker.alive


def test_kill_may_be_called_while_another_thread_waits_and_more_than_once(worker: WorkerProcess) -> None:
    order(worker, "echo")
    threading.Timer(0.3, worker.kill).start()
    with pytest.raises(WorkerEndedError, match="SIGKILL"):
        order(worker, "hang", "natively")
    worker.kill()
    assert not worker.alive


def test_what_the_process_has_started_is_killed_with_it(worker: WorkerProcess) -> None:
    child = order(worker, "start_child")
    assert alive(child)
    worker.kill()
    wait_until(lambda: not alive(child), 10, "its child has ended")


def test_it_ends_when_nobody_refers_to_it_any_more() -> None:
    before = set(Path("/proc/self/fd").iterdir())
    worker = WorkerProcess(MODULE, keep_stderr=True)
    pid = worker.pid
    order(worker, "echo")
    del worker
    assert not alive(pid)
    assert set(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("kind", ["in Python", "natively"])
def test_it_ends_with_its_parent_even_if_it_hangs(kind: str) -> None:
    program = (
        "import sys, time; from edge_agent.system.worker_process import WorkerProcess;"
        f"worker = WorkerProcess('{MODULE}'); worker.send(['echo', 1]); worker.receive(20);"
        "worker.send(['hang', sys.argv[1]]); print(worker.pid, flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", program, kind], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    wait_until(lambda: not alive(pid), 10, "it has ended")


def test_it_outlives_the_thread_that_has_started_it() -> None:
    started: list[WorkerProcess] = []
    thread = threading.Thread(target=lambda: started.append(WorkerProcess(MODULE)))
    thread.start()
    thread.join()
    assert order(started[0], "echo", 1) == 1
    time.sleep(0.2)
    assert order(started[0], "echo", 2) == 2
    started[0].kill()


def test_it_has_a_session_of_its_own_and_our_import_path_but_no_descriptor_of_ours(worker: WorkerProcess) -> None:
    with socket.socket() as ours:
        ours.set_inheritable(True)
        with WorkerProcess(MODULE, keep_stderr=True) as other:
            files = order(other, "descriptors")
            facts = order(other, "limits")
    assert facts["session"] == facts["pid"] != os.getsid(0)
    assert facts["path"] == sys.path
    kinds = sorted(file.split(":")[0].split(" ")[0] for file in files.values())
    assert kinds == ["/dev/null", "/memfd", "/memfd", "pipe", "socket"]


def test_descriptors_are_passed_on_under_their_numbers() -> None:
    file = os.memfd_create("shared")
    os.pwrite(file, b"shared", 0)
    with WorkerProcess(MODULE, pass_fds=[file]) as worker:
        assert order(worker, "read_from", file) == "shared"
    os.close(file)


def test_a_crash_leaves_no_core_file(worker: WorkerProcess) -> None:
    limits = Path(f"/proc/{worker.pid}/limits")
    order(worker, "echo")
    assert "Max core file size        0" in limits.read_text()
    assert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0
