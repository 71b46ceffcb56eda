import threading

import pytest

from edge_agent.pipeline import frame_timing
from edge_agent.pipeline.frame_timing import LastMoment
from tests.clock import Clock

DEADLINE = 10.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(frame_timing, "time", clock)
    return clock


@pytest.fixture
def moment(clock: Clock) -> LastMoment:
    """Of a model that takes 100 s, with samples that take 20 s to prepare."""
    moment = LastMoment()
    moment.prepared(20)
    for _ in range(100):
        take(moment, 100, clock)
    return moment


def take(moment: LastMoment, seconds: float, clock: Clock) -> None:
    with moment.inference():
        clock.now += seconds


def returns(moment: LastMoment) -> bool:
    """Whether it is time to take a sample, with the clock standing still."""
    waiting = threading.Thread(target=moment.wait, daemon=True)
    waiting.start()
    waiting.join(0.1)  # more than enough, and if not, a test fails that waits for True
    return not waiting.is_alive()


def test_while_the_model_is_free_a_sample_is_taken_at_once(moment: LastMoment) -> None:
    moment.wait()


def test_before_anything_has_been_measured_a_sample_is_taken_at_once() -> None:
    moment = LastMoment()
    with moment.inference():
        moment.wait()


def test_a_sample_is_taken_just_in_time_to_be_prepared_when_the_model_is_free(moment: LastMoment, clock: Clock) -> None:
    with moment.inference():
        clock.now += 79
        assert not returns(moment)
        clock.now += 2
        moment.wait()


def test_when_the_model_is_free_sooner_than_expected_a_sample_is_taken_then(moment: LastMoment) -> None:
    order = []

    def take_the_next() -> None:
        moment.wait()
        order.append("taken")

    waiting = threading.Thread(target=take_the_next, daemon=True)
    with moment.inference():
        waiting.start()
        waiting.join(0.05)
        order.append("free")
    waiting.join(DEADLINE)
    assert order == ["free", "taken"]


def test_a_model_that_has_become_faster_does_not_wait_even_once(moment: LastMoment, clock: Clock) -> None:
    take(moment, 50, clock)
    with moment.inference():
        clock.now += 31
        moment.wait()


def test_what_once_took_longer_to_prepare_has_more_time_the_next_time(moment: LastMoment, clock: Clock) -> None:
    moment.prepared(60)
    with moment.inference():
        clock.now += 41
        moment.wait()


def test_one_slow_inference_changes_little(moment: LastMoment, clock: Clock) -> None:
    take(moment, 200, clock)
    with moment.inference():
        clock.now += 91
        moment.wait()


def test_an_inference_that_fails_is_over_too(moment: LastMoment) -> None:
    with pytest.raises(ZeroDivisionError), moment.inference():
        _ = 1 / 0
    moment.wait()
