import gc
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.engines import Share, TensorSpec, crash_record
from edge_agent.engines.crash_record import MAX_CRASHES, STEADY, CrashRecord
from edge_agent.engines.supervised import StuckError, Supervised
from edge_agent.errors import ModelError
from tests.broker import wait_until

GIVEN = [np.ones(1, np.float32)]


class Slow:
    """An engine that adds one, once it may."""

    runtime, accelerator, share = "a runtime", "npu", Share(1, 2)
    inputs = outputs = (TensorSpec("x", (-1,), "float32"),)

    def __init__(self) -> None:
        self.may = threading.Event()
        self.may.set()
        self.closed = False
        self.threads: set[str] = set()

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        self.may.wait()
        self.threads.add(threading.current_thread().name)
        return [inputs[0] + 1]

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where crash records lie."""
    monkeypatch.setattr(crash_record, "_SHARED_MEMORY", tmp_path)
    return tmp_path


def crashes(key: str) -> int:
    """How many are known of."""
    record = CrashRecord(key)
    record.close()
    return record.crashes


def ended_inside(key: str) -> None:
    """Leaves the record of a process that has crashed."""
    record = CrashRecord(key)
    record.__enter__()
    assert not isinstance(record._memory, bytearray)
    record._memory.close()
    os.close(record._file)


def test_it_is_the_engine_that_it_watches_over_in_one_thread_of_its_own() -> None:
    slow = Slow()
    engine = Supervised(lambda: slow, CrashRecord("it"), 5)
    assert engine.run(GIVEN) == [2]
    assert (engine.runtime, engine.accelerator, engine.share) == ("a runtime", "npu", Share(1, 2))
    assert slow.threads == {"accelerator"}
    engine.close()
    wait_until(lambda: slow.closed and _no_thread(), 5, "it is closed")
    with pytest.raises(ModelError, match="has been closed"):
        engine.run(GIVEN)


def test_who_asks_one_that_hangs_is_told_in_time_and_at_once_from_then_on() -> None:
    slow = Slow()
    engine = Supervised(lambda: slow, CrashRecord("it"), 0.05)
    slow.may.clear()
    for _ in range(2):
        with pytest.raises(StuckError, match=r"^gives no answer for 0.05 s$"):
            engine.run(GIVEN)
    engine.close()
    slow.may.set()
    wait_until(_no_thread, 5, "its thread ends once the driver answers")
    assert crashes("it") == 0


def test_what_goes_wrong_is_told_to_who_asks() -> None:
    def load() -> Slow:
        raise ModelError("refused")

    with pytest.raises(ModelError, match="refused"):
        Supervised(load, CrashRecord("it"), 5)
    wait_until(_no_thread, 5, "nothing stays behind")


def test_one_that_nobody_uses_any_more_goes_with_its_thread() -> None:
    engine = Supervised(Slow, CrashRecord("it"), 5)
    engine.run(GIVEN)
    del engine
    gc.collect()
    wait_until(_no_thread, 5, "nothing stays behind")


def _no_thread() -> bool:
    return not any(one.name == "accelerator" for one in threading.enumerate())


def test_processes_that_end_inside_are_counted() -> None:
    for number in range(1, MAX_CRASHES + 1):
        ended_inside("it")
        assert [crashes("it"), crashes("it")] == [number, number]


def test_one_that_has_ended_well_is_no_crash() -> None:
    record = CrashRecord("it")
    with record:
        pass
    record.close()
    assert crashes("it") == 0


def test_after_long_service_a_crash_is_the_first_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    ended_inside("it")
    ended_inside("it")
    real = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + STEADY + 1)
    assert crashes("it") == 1


def test_records_of_others_are_apart_and_one_that_is_in_use_is_left_alone() -> None:
    ended_inside("it")
    assert crashes("another") == 0
    first = CrashRecord("it")
    second = CrashRecord("it")
    assert (first.crashes, second.crashes) == (1, 0)
    with second:
        pass
    first.close()
    assert crashes("it") == 1


def test_where_no_record_can_be_kept_there_are_no_crashes(folder: Path) -> None:
    (folder / f"edge-agent-{os.getuid()}").write_text("in the way")
    record = CrashRecord("it")
    with record:
        pass
    assert record.crashes == 0
    record.close()
