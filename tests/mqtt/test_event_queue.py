import math
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from edge_agent.mqtt import event_queue
from edge_agent.mqtt.event_queue import EventQueue
from tests.broker import wait_until


class Owner:
    """Has events handled, and records by which threads."""

    def __init__(self) -> None:
        self.may_handle, self.over, self.due = True, False, math.inf
        self.threads: list[str] = []
        self.worked = 0
        self.queue = EventQueue(
            may_handle=lambda: self.may_handle,
            handled=lambda: None,
            work=self._work,
            due_at=lambda: self.due,
            is_over=lambda: self.over,
        )
        self.thread = threading.Thread(target=self.queue.run, name="own")
        self.thread.start()
        wait_until(lambda: self.worked, 10, "it waits")

    def _work(self) -> None:
        self.worked += 1

    def bring(self, event: Callable[[], Any] = lambda: None) -> None:
        def handled() -> None:
            self.threads.append(threading.current_thread().name)
            event()

        self.queue.add(handled)
        self.queue.handle()


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.over = True
    owner.queue.wake()
    owner.thread.join(10)
    assert not owner.thread.is_alive()


def test_events_of_many_threads_are_handled_one_at_a_time_and_each_threads_in_order(owner: Owner) -> None:
    handled: list[tuple[int, int]] = []
    inside = threading.Lock()

    def event(thread: int, number: int) -> None:
        assert inside.acquire(blocking=False)
        handled.append((thread, number))
        inside.release()

    def bring(thread: int) -> None:
        for number in range(500):
            owner.may_handle = number % 50 != 0
            owner.bring(partial(event, thread, number))

    threads = [threading.Thread(target=bring, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    wait_until(lambda: len(handled) == 2000, 10, "all are handled")
    for thread_number in range(4):
        assert [number for thread, number in handled if thread == thread_number] == list(range(500))


def test_an_event_is_handled_by_the_thread_that_brings_it_unless_it_may_have_to_wait(owner: Owner) -> None:
    owner.bring()
    assert owner.threads == [threading.current_thread().name]
    assert owner.worked == 1
    owner.may_handle = False
    owner.bring()
    wait_until(lambda: len(owner.threads) == 2, 10, "it is handled")
    assert owner.threads[1] == "own"
    wait_until(lambda: owner.worked == 2, 10, "the rest is done as well")


def test_an_event_that_comes_while_another_is_handled_is_handled_next_by_the_same_thread(owner: Owner) -> None:
    entered, goes_on = threading.Event(), threading.Event()

    def event() -> None:
        entered.set()
        goes_on.wait(10)

    first = threading.Thread(target=owner.bring, args=(event,), name="first")
    first.start()
    assert entered.wait(10)
    owner.bring()  # does not wait
    assert owner.threads == ["first"]
    goes_on.set()
    first.join(10)
    assert owner.threads == ["first", "first"]


def test_the_own_thread_wakes_earlier_where_an_event_has_made_something_due(owner: Owner) -> None:
    owner.bring()
    assert owner.worked == 1
    owner.due = 0.0
    owner.bring(lambda: None)
    wait_until(lambda: owner.worked > 1, 10, "it works")


def test_after_a_defect_the_own_thread_rests_and_then_goes_on(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_queue, "_REST", 0.05)
    owner.bring(lambda: 1 / 0)
    owner.bring()
    wait_until(lambda: len(owner.threads) == 2, 10, "the next one is handled")
    assert caplog.text.count("a defect in edge-agent") == 1
    wait_until(lambda: not owner.queue._failed, 10, "it has rested")
    owner.bring()
    assert owner.threads[2] == threading.current_thread().name
