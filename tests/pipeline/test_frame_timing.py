import threading

import pytest

from edge_agent.pipeline import frame_timing
from edge_agent.pipeline.frame_timing import FrameScheduler
from tests.clock import Clock

DEADLINE = 10.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(frame_timing, "time", clock)
    return clock


@pytest.fixture
def scheduler(clock: Clock) -> FrameScheduler:
    """Of a model that takes 100 s, with samples that take 20 s to prepare."""
    scheduler = FrameScheduler()
    scheduler.prepared(20)
    for _ in range(100):
        take(scheduler, 100, clock)
    return scheduler


def take(scheduler: FrameScheduler, seconds: float, clock: Clock) -> None:
    with scheduler.inference():
        clock.now += seconds


def returns(scheduler: FrameScheduler) -> bool:
    """Whether it is time to take a sample, with the clock standing still."""
    waiting = threading.Thread(target=scheduler.wait, daemon=True)
    waiting.start()
    waiting.join(0.1)  # more than enough, and if not, a test fails that waits for True
    return not waiting.is_alive()


def test_while_the_model_is_free_a_sample_is_taken_at_once(scheduler: FrameScheduler) -> None:
    scheduler.wait()


def test_before_anything_has_been_measured_a_sample_is_taken_at_once() -> None:
    scheduler = FrameScheduler()
    with scheduler.inference():
        scheduler.wait()


def test_a_sample_is_taken_just_in_time_to_be_prepared_when_the_model_is_free(
    scheduler: FrameScheduler, clock: Clock
) -> None:
    with scheduler.inference():
        clock.now += 79
        assert not returns(scheduler)
        clock.now += 2
        scheduler.wait()


def test_when_the_model_is_free_sooner_than_expected_a_sample_is_taken_then(scheduler: FrameScheduler) -> None:
    order = []

    def take_the_next() -> None:
        scheduler.wait()
        order.append("taken")

    waiting = threading.Thread(target=take_the_next, daemon=True)
    with scheduler.inference():
        waiting.start()
        waiting.join(0.05)
        order.append("free")
    waiting.join(DEADLINE)
    assert order == ["free", "taken"]


def test_a_model_that_has_become_faster_does_not_wait_even_once(scheduler: FrameScheduler, clock: Clock) -> None:
    take(scheduler, 50, clock)
    with scheduler.inference():
        clock.now += 31
        scheduler.wait()


def test_what_once_took_longer_to_prepare_has_more_time_the_next_time(scheduler: FrameScheduler, clock: Clock) -> None:
    scheduler.prepared(60)
    with scheduler.inference():
        clock.now += 41
        scheduler.wait()


def test_one_slow_inference_changes_little(scheduler: FrameScheduler, clock: Clock) -> None:
    take(scheduler, 200, clock)
    with scheduler.inference():
        clock.now += 91
        scheduler.wait()


def test_an_inference_that_fails_is_over_too(scheduler: FrameScheduler) -> None:
    with pytest.raises(ZeroDivisionError), scheduler.inference():
        _ = 1 / 0
    scheduler.wait()


def test_with_two_engines_a_sample_is_taken_while_one_is_in_the_model_but_not_while_two_are(clock: Clock) -> None:
    scheduler = FrameScheduler(lambda: 2)
    take(scheduler, 1.0, clock)
    with scheduler.inference():
        assert returns(scheduler)
        with scheduler.inference():
            assert not returns(scheduler)
        assert returns(scheduler)
