import threading
import time

import pytest

from edge_agent.counters import Counters
from edge_agent.samples import Sample
from edge_agent.sources import queue as intake_module
from edge_agent.sources.queue import Intake
from tests.broker import wait_until


def sample(data: bytes = b"") -> Sample:
    return Sample(data, captured_at=time.time(), captured=time.monotonic(), origin={})


@pytest.fixture
def counters() -> Counters:
    return Counters()


def dropped(counters: Counters) -> int:
    return int(counters.as_dict()["dropped"]["superseded"])


def test_samples_come_out_in_the_order_in_which_they_went_in(counters: Counters) -> None:
    intake = Intake(3, counters, keep_newest=False)
    samples = [sample() for _ in range(3)]
    assert all(intake.put(one) for one in samples)
    assert intake.get(5) == samples
    assert counters.as_dict()["captured"] == 3


def test_whoever_puts_into_a_full_intake_waits_for_room(counters: Counters) -> None:
    intake = Intake(1, counters, keep_newest=False)
    first, second = sample(), sample()
    intake.put(first)
    putting = threading.Thread(target=intake.put, args=(second,))
    putting.start()
    with pytest.raises(AssertionError):
        wait_until(lambda: counters.as_dict()["captured"] == 2, 0.1, "the second gets in")
    assert intake.get() == [first]
    putting.join(10)
    assert intake.get() == [second]
    assert dropped(counters) == 0


def test_where_the_newest_is_kept_the_oldest_gives_way_and_is_counted(counters: Counters) -> None:
    intake = Intake(2, counters, keep_newest=True)
    samples = [sample() for _ in range(5)]
    assert all(intake.put(one) for one in samples)
    assert dropped(counters) == 3
    assert intake.get(2) == samples[3:]


def test_an_offer_never_waits(counters: Counters) -> None:
    intake = Intake(2, counters, keep_newest=False)
    samples = [sample() for _ in range(5)]
    assert all(intake.offer(one) for one in samples)
    assert dropped(counters) == 3
    assert intake.get(2) == samples[3:]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "MAX_BYTES", 1000)


@pytest.mark.usefixtures("small")
def test_the_bytes_that_wait_are_bounded(counters: Counters) -> None:
    intake = Intake(100, counters, keep_newest=False)
    for _ in range(10):
        intake.offer(sample(bytes(400)))
    assert dropped(counters) == 8
    putting = threading.Thread(target=intake.put, args=(sample(bytes(400)),))
    putting.start()
    with pytest.raises(AssertionError):
        wait_until(lambda: counters.as_dict()["captured"] > 10, 0.1, "it gets in")
    intake.get()
    putting.join(10)
    assert counters.as_dict()["captured"] == 11
    assert dropped(counters) == 8


@pytest.mark.usefixtures("small")
def test_a_sample_larger_than_the_bound_goes_through_alone(counters: Counters) -> None:
    intake = Intake(100, counters, keep_newest=False)
    assert intake.put(sample(bytes(5000)))
    assert len(intake.get()) == 1
    intake.offer(sample(b"x"))
    intake.offer(large := sample(bytes(5000)))
    assert intake.get() == [large]


def test_a_closed_intake_takes_nothing_and_gives_what_it_has(counters: Counters) -> None:
    intake = Intake(2, counters, keep_newest=False)
    intake.put(one := sample())
    intake.close()
    assert not intake.put(sample())
    assert not intake.offer(sample())
    assert intake.get() == [one]
    assert intake.get() == []
    assert counters.as_dict()["captured"] == 1


def test_to_abandon_closes_and_counts_what_waited(counters: Counters) -> None:
    intake = Intake(5, counters, keep_newest=False)
    for _ in range(3):
        intake.put(sample())
    assert intake.abandon() == 3
    assert intake.get() == []
    assert not intake.put(sample())
    assert intake.abandon() == 0
    assert dropped(counters) == 3
    assert counters.as_dict()["in_progress"] == 0


def test_to_close_sets_free_whoever_waits(counters: Counters) -> None:
    full, empty = Intake(1, counters, keep_newest=False), Intake(1, counters, keep_newest=False)
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
