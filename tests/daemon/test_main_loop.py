"""The main thread's loop: calls from elsewhere, and what is due again."""

import errno
import itertools
import threading
import time

import pytest

from edge_agent.daemon.main_loop import MainLoop
from tests.broker import PATIENCE

LONG = 3600.0


def loop_with(done: list[str]) -> MainLoop:
    """A loop with something that is due in an hour."""
    loop = MainLoop()
    loop.every(lambda: LONG, lambda: done.append("late"), "late", at_once=False)
    return loop


def test_calls_of_other_threads_run_in_their_order_in_the_thread_of_the_loop() -> None:
    done: list[str] = []
    loop = loop_with(done)

    def call() -> None:
        for name in "abc":
            loop.call(lambda name=name: done.append(f"{name} {threading.current_thread().name}"))  # type: ignore[misc]
        loop.call(loop.stop)

    threading.Timer(0.05, call).start()
    loop.run()
    here = threading.current_thread().name
    assert done == [f"a {here}", f"b {here}", f"c {here}"]


def test_actions_run_when_they_are_due_and_again_after_their_interval_as_it_is_then() -> None:
    done: list[float] = []
    loop = MainLoop()
    intervals = iter((0.02, 0.05, 0.01))

    def act() -> None:
        done.append(time.monotonic())
        if len(done) == 4:
            loop.stop()

    loop.every(lambda: next(intervals, LONG), act, "it")
    loop.run()
    gaps = [later - earlier for earlier, later in itertools.pairwise(done)]
    assert all(gap >= interval for gap, interval in zip(gaps, (0.02, 0.05, 0.01), strict=True))


def test_an_action_that_a_limit_of_the_system_stops_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    loop = MainLoop()
    tries = iter((OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread"), None))

    def act() -> None:
        if (error := next(tries)) is not None:
            raise error
        loop.stop()

    loop.every(lambda: 0.001, act, "figures")
    loop.run()
    assert ["RLIMIT_NOFILE" in caplog.messages[0], "RLIMIT_NPROC" in caplog.messages[1]] == [True, True]
    assert all(message.startswith("figures: ") for message in caplog.messages)


def test_an_action_that_fails_for_another_reason_ends_the_loop() -> None:
    def act() -> None:
        raise OSError(errno.EIO, "Input/output error")

    loop = MainLoop()
    loop.every(lambda: LONG, act, "figures")
    with pytest.raises(OSError, match="Input/output"):
        loop.run()


def test_after_a_stop_nothing_else_runs() -> None:
    done: list[str] = []
    loop = loop_with(done)
    loop.every(lambda: LONG, loop.stop, "stop")
    loop.every(lambda: LONG, lambda: done.append("after"), "after")
    loop.call(lambda: done.append("call"))
    loop.run()
    assert done == ["call"]


def test_it_waits_for_a_condition_until_it_is_true() -> None:
    event = threading.Event()
    threading.Timer(0.05, event.set).start()
    assert loop_with([]).wait(event.wait, 10)


def test_it_waits_no_longer_than_it_is_given() -> None:
    began = time.monotonic()
    assert not loop_with([]).wait(lambda _: False, 0.05)
    assert time.monotonic() - began < 5 * PATIENCE


def test_it_does_not_wait_while_a_call_is_waiting() -> None:
    loop = loop_with([])
    loop.call(loop.stop)
    began = time.monotonic()
    assert not loop.wait(threading.Event().wait, 30)
    assert time.monotonic() - began < 5 * PATIENCE
