import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from edge_agent.counters import Counters, Settlement, imbalance
from edge_agent.samples import Sample
from edge_agent.sources import queue as queue_module
from edge_agent.sources.queue import SampleQueue
from tests.broker import wait_until
from tests.settlements import ended


def sample(data: bytes = b"", on_done: Callable[[], None] | None = None) -> Sample:
    now = time.monotonic()
    return Sample(data, captured_at=time.time(), captured=now, origin={}, settlement=Settlement(on_done))


@pytest.fixture
def counters() -> Counters:
    return Counters()


def taken(queue: SampleQueue, most: int = 1) -> list[Sample]:
    """What comes out, worked on."""
    return ended(queue.get(most))


def dropped(counters: Counters) -> int:
    return int(counters.as_dict()["dropped"]["superseded"])


def test_samples_come_out_in_the_order_in_which_they_went_in(counters: Counters) -> None:
    queue = SampleQueue(3, counters, keep_newest=False)
    samples = [sample() for _ in range(3)]
    assert all(queue.put(one) for one in samples)
    assert taken(queue, 5) == samples
    assert counters.as_dict()["captured"] == 3


def test_put_into_a_full_queue_waits_for_room(counters: Counters) -> None:
    queue = SampleQueue(1, counters, keep_newest=False)
    first, second = sample(), sample()
    queue.put(first)
    putting = threading.Thread(target=queue.put, args=(second,))
    putting.start()
    with pytest.raises(AssertionError):
        wait_until(lambda: counters.as_dict()["captured"] == 2, 0.1, "the second gets in")
    assert taken(queue) == [first]
    putting.join(10)
    assert taken(queue) == [second]
    assert dropped(counters) == 0


def test_where_the_newest_is_kept_the_oldest_gives_way_and_is_counted(counters: Counters) -> None:
    queue = SampleQueue(2, counters, keep_newest=True)
    samples = [sample() for _ in range(5)]
    assert all(queue.put(one) for one in samples)
    assert dropped(counters) == 3
    assert taken(queue, 2) == samples[3:]


def test_put_drop_oldest_never_waits(counters: Counters) -> None:
    queue = SampleQueue(2, counters, keep_newest=False)
    samples = [sample() for _ in range(5)]
    assert all(queue.put_drop_oldest(one) for one in samples)
    assert dropped(counters) == 3
    assert taken(queue, 2) == samples[3:]


def test_a_sample_that_somebody_waits_for_never_gives_way(counters: Counters) -> None:
    queue = SampleQueue(4, counters, keep_newest=False)
    awaited = [sample(on_done=lambda: None) for _ in range(3)]
    for one in awaited:
        queue.put_drop_oldest(sample())
        queue.put(one)
        for _ in range(20):
            assert queue.put_drop_oldest(sample())
    newest = sample()
    queue.put_drop_oldest(newest)
    assert taken(queue, 10) == [*awaited, newest]


def test_a_sample_that_somebody_waits_for_displaces_one_that_nobody_waits_for(counters: Counters) -> None:
    queue = SampleQueue(2, counters, keep_newest=False)
    for _ in range(2):
        queue.put_drop_oldest(sample())
    awaited = [sample(on_done=lambda: None) for _ in range(2)]
    assert all(queue.put(one) for one in awaited)  # does not block
    assert dropped(counters) == 2
    assert taken(queue, 10) == awaited


def test_where_somebody_waits_for_everything_the_new_one_gives_way_and_is_counted(counters: Counters) -> None:
    queue = SampleQueue(2, counters, keep_newest=False)
    awaited = [sample(on_done=lambda: None) for _ in range(2)]
    for one in awaited:
        queue.put(one)
    assert queue.put_drop_oldest(sample())
    assert dropped(counters) == 1
    assert taken(queue, 10) == awaited


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "MAX_BYTES", 1000)


@pytest.mark.usefixtures("small")
def test_the_bytes_that_wait_are_bounded(counters: Counters) -> None:
    queue = SampleQueue(100, counters, keep_newest=False)
    for _ in range(10):
        queue.put_drop_oldest(sample(bytes(400)))
    assert dropped(counters) == 8
    putting = threading.Thread(target=queue.put, args=(sample(bytes(400)),))
    putting.start()
    with pytest.raises(AssertionError):
        wait_until(lambda: counters.as_dict()["captured"] > 10, 0.1, "it gets in")
    taken(queue)
    putting.join(10)
    assert counters.as_dict()["captured"] == 11
    assert dropped(counters) == 8
    queue.discard_pending()


@pytest.mark.usefixtures("small")
def test_a_sample_larger_than_the_bound_goes_through_alone(counters: Counters) -> None:
    queue = SampleQueue(100, counters, keep_newest=False)
    assert queue.put(sample(bytes(5000)))
    assert len(taken(queue)) == 1
    queue.put_drop_oldest(sample(b"x"))
    queue.put_drop_oldest(large := sample(bytes(5000)))
    assert taken(queue) == [large]


def test_a_closed_queue_takes_nothing_and_gives_what_it_has(counters: Counters) -> None:
    queue = SampleQueue(2, counters, keep_newest=False)
    queue.put(one := sample())
    queue.close()
    assert not queue.put(sample())
    assert not queue.put_drop_oldest(sample())
    assert taken(queue) == [one]
    assert taken(queue) == []
    assert counters.as_dict()["captured"] == 1


@pytest.mark.parametrize("put", ["put", "put_drop_oldest"])
def test_what_comes_too_late_is_returned_to_its_sender_also_in_pieces(put: str, counters: Counters) -> None:
    done: list[str] = []

    def cut(one: Sample) -> list[Sample]:
        return [replace(one, settlement=piece) for piece in one.settlement.split(3)]

    queue = SampleQueue(5, counters, keep_newest=False, cut=cut)
    assert getattr(queue, put)(sample(on_done=lambda: done.append("first")))
    queue.close()
    late = sample(on_done=lambda: done.append("late"))
    assert not getattr(queue, put)(late)
    taken(queue, 5)
    assert done == ["first"]
    assert counters.as_dict()["captured"] == 3
    whole = SampleQueue(1, counters, keep_newest=False)
    whole.close()
    assert not getattr(whole, put)(sample(on_done=lambda: done.append("late")))
    assert done == ["first"]


def test_to_discard_closes_and_counts_what_waited(counters: Counters) -> None:
    queue = SampleQueue(5, counters, keep_newest=False)
    for _ in range(3):
        queue.put(sample())
    assert queue.discard_pending() == 3
    assert taken(queue) == []
    assert not queue.put(sample())
    assert queue.discard_pending() == 0
    assert dropped(counters) == 3
    assert counters.as_dict()["in_progress"] == 0


def test_what_is_discarded_is_not_done_so_that_its_sender_sends_it_again(counters: Counters) -> None:
    done: list[int] = []
    queue = SampleQueue(5, counters, keep_newest=False)
    worked_on, waiting = sample(on_done=lambda: done.append(1)), sample(on_done=lambda: done.append(2))
    queue.put(worked_on)
    queue.put(waiting)
    queue.get()
    assert queue.discard_pending() == 1
    worked_on.settlement.infer()
    worked_on.settlement.done()
    assert done == [1]
    assert not imbalance(counters.as_dict())
    assert counters.as_dict()["in_progress"] == 0


def test_to_close_wakes_those_that_wait(counters: Counters) -> None:
    full, empty = SampleQueue(1, counters, keep_newest=False), SampleQueue(1, counters, keep_newest=False)
    full.put(sample())
    answers: list[object] = []
    waiting = [
        threading.Thread(target=lambda: answers.append(full.put(sample()))),
        threading.Thread(target=lambda: answers.append(empty.get())),
    ]
    for thread in waiting:
        thread.start()
    full.close()
    empty.close()
    for thread in waiting:
        thread.join(10)
    assert sorted(map(str, answers)) == ["False", "[]"]
    full.discard_pending()
