import time
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.counters import Counters, Settlement, imbalance
from edge_agent.errors import InputError
from edge_agent.samples import Sample, Series
from edge_agent.settings.series import Input, Window
from edge_agent.timeseries.cutting import MAX_STREAMS, StreamCutter
from edge_agent.timeseries.numbers import SeriesPreprocess


def numbers(*shape: int, **stated: Any) -> SeriesPreprocess:
    return SeriesPreprocess(shape, True, "float32", 0.0, 0, input=Input.model_validate({"kind": "series"} | stated))


def stream_cutter(how: SeriesPreprocess, **options: Any) -> tuple[StreamCutter, Counters]:
    counters = Counters()
    return StreamCutter(how, Window.model_validate(options), counters), counters


def sample(data: Series | bytes | InputError, topic: str = "a", settled: list[str] | None = None) -> Sample:
    settlement = Settlement() if settled is None else Settlement(partial(settled.append, topic))
    return Sample(data, time.time(), time.monotonic(), {"topic": topic}, settlement=settlement)


def ramp(count: int, channels: int = 1, first: int = 0) -> NDArray[np.float32]:
    return np.arange(first, first + count, dtype=np.float32)[:, None].repeat(channels, axis=1)


def begins(samples: list[Sample]) -> list[float]:
    return [float(one.data.values.ravel()[0]) for one in samples if isinstance(one.data, Series)]


def test_pieces_of_any_size_become_windows_of_the_models_length() -> None:
    cut, _ = stream_cutter(numbers(10))
    found = [one for first in range(0, 60, 3) for one in cut(sample(Series(ramp(3, first=first), rate=10)))]
    assert begins(found) == [0, 10, 20, 30, 40, 50]
    assert [one.origin["position_s"] for one in found] == [0, 1, 2, 3, 4, 5]
    assert all(isinstance(one.data, Series) and one.data.values.shape == (10, 1) for one in found)
    assert [one.data.gap for one in found if isinstance(one.data, Series)] == [True] + [False] * 5


@pytest.mark.parametrize(
    ("hop", "expected"), [("4", [0, 4, 8, 12, 16, 20]), ("200ms", [*range(0, 21, 2)]), ("12", [0, 12]), ("15", [0, 15])]
)
def test_windows_overlap_or_leave_readings_out_as_the_hop_says(hop: str, expected: list[float]) -> None:
    cut, _ = stream_cutter(numbers(10), hop=hop)
    found = [one for first in range(0, 30, 7) for one in cut(sample(Series(ramp(7, first=first), rate=10)))]
    assert begins(found)[: len(expected)] == expected


def test_a_window_says_when_its_last_reading_was_taken() -> None:
    cut, _ = stream_cutter(numbers(10))
    whole = sample(Series(ramp(30), rate=10))
    assert [round(whole.captured - one.captured, 6) for one in cut(whole)] == [2, 1, 0]


def test_channels_are_taken_by_name_in_the_models_order() -> None:
    cut, _ = stream_cutter(numbers(4, 2, channels=["z", "x"]))
    values = np.stack([np.full(4, value, np.float32) for value in (1, 2, 3)], axis=1)
    [window] = cut(sample(Series(values, ("x", "y", "z"), 10)))
    assert isinstance(window.data, Series)
    assert window.data.values.tolist() == [[3, 1]] * 4
    [refused] = cut(sample(Series(values, ("x", "y", "w"), 10)))
    assert str(refused.data) == "expected the channels z, x, found x, y, w"


def test_a_flat_model_takes_several_channels_one_reading_after_the_other_and_others_their_own_order() -> None:
    flat, _ = stream_cutter(numbers(6))
    [window] = flat(sample(Series(np.array([[1, 10], [2, 20], [3, 30]], np.float32), rate=10)))
    assert isinstance(window.data, Series)
    assert window.data.values[:, 0].tolist() == [1, 10, 2, 20, 3, 30]
    first, _ = stream_cutter(numbers(2, 3))
    [window] = first(sample(Series(np.array([[1, 10], [2, 20], [3, 30]], np.float32), rate=10)))
    assert isinstance(window.data, Series)
    assert window.data.values.tolist() == [[1, 2, 3], [10, 20, 30]]


@pytest.mark.parametrize("how", [numbers(7), numbers(4, 3)])
def test_readings_with_channels_that_the_model_can_not_take_are_refused(how: SeriesPreprocess) -> None:
    cut, _ = stream_cutter(how)
    [refused] = cut(sample(Series(ramp(20, 2), rate=10)))
    assert str(refused.data).startswith("expected readings that make")


def test_a_gap_drops_the_window_that_has_begun_and_is_counted() -> None:
    cut, counters = stream_cutter(numbers(10))
    found = cut(sample(Series(ramp(15), rate=10)))
    found += cut(sample(Series(ramp(12, first=100), rate=10, gap=True)))
    assert begins(found) == [0, 100]
    assert [one.data.gap for one in found if isinstance(one.data, Series)] == [True, True]
    counts = counters.as_dict()
    assert (counts["captured"], counts["dropped"]["stale"], imbalance(counts)) == (1, 1, "")


def test_a_gap_between_two_windows_costs_none() -> None:
    cut, counters = stream_cutter(numbers(10))
    cut(sample(Series(ramp(10), rate=10)))
    cut(sample(Series(ramp(10), rate=10, gap=True)))
    assert counters.as_dict()["dropped"]["stale"] == 0


def test_what_can_not_be_read_goes_on_as_an_error_and_leaves_a_gap() -> None:
    cut, counters = stream_cutter(numbers(10))
    cut(sample(Series(ramp(5), rate=10)))
    [refused] = cut(sample(InputError("no reading")))
    assert isinstance(refused.data, InputError)
    [again] = cut(sample(Series(ramp(10, first=50), rate=10)))
    assert begins([again]) == [50]
    assert counters.as_dict()["dropped"]["stale"] == 1


def test_each_topic_is_a_stream_of_its_own_and_their_number_is_bounded() -> None:
    cut, counters = stream_cutter(numbers(10))
    for part in range(2):
        for topic in range(MAX_STREAMS):
            found = cut(sample(ramp(5, first=5 * part).tobytes(), str(topic)))
            assert len(found) == part
    for topic in range(2 * MAX_STREAMS):
        cut(sample(ramp(5).tobytes(), f"new {topic}"))
    assert counters.as_dict()["dropped"]["stale"] == MAX_STREAMS


def test_a_message_is_settled_with_the_last_window_that_it_completes_or_at_once() -> None:
    settled: list[str] = []
    cut, _ = stream_cutter(numbers(10))
    assert cut(sample(ramp(5).tobytes(), settled=settled)) == []
    assert settled == ["a"]
    first, last = cut(sample(ramp(20).tobytes(), settled=settled))
    first.settlement.done()
    assert settled == ["a"]
    last.settlement.done()
    assert settled == ["a", "a"]


def test_a_stream_at_another_rate_is_brought_to_the_models() -> None:
    cut, _ = stream_cutter(numbers(26, rate=26))
    tone = np.sin(2 * np.pi * np.arange(1000) / 100).astype(np.float32)[:, None]
    found = [one for first in range(0, 1000, 10) for one in cut(sample(Series(tone[first : first + 10], rate=100)))]
    assert len(found) == 9
    window = found[4].data
    assert isinstance(window, Series)
    assert np.allclose(window.values[:, 0], np.sin(2 * np.pi * np.arange(26) / 26), atol=0.02)


def test_the_mean_of_all_channels_is_the_sound() -> None:
    cut, _ = stream_cutter(numbers(4, kind="audio"))
    [window] = cut(sample(Series(np.array([[1, 3]] * 4, np.float32), rate=10)))
    assert isinstance(window.data, Series)
    assert window.data.values.tolist() == [[2]] * 4


def test_context_comes_before_each_window_and_is_silence_at_first() -> None:
    cut, _ = stream_cutter(numbers(6, context=2))
    found = cut(sample(Series(ramp(8, first=1), rate=10)))
    assert [one.data.values[:, 0].tolist() for one in found if isinstance(one.data, Series)] == [
        [0, 0, 1, 2, 3, 4],
        [3, 4, 5, 6, 7, 8],
    ]


@pytest.mark.parametrize("peak", [True, False])
def test_features_are_the_same_however_windows_overlap_and_pieces_are_cut(peak: bool) -> None:
    how = numbers(49, 10, 1, kind="audio", rate=16_000, features={"kind": "mfcc", "peak": peak})
    noise = np.random.default_rng(1).normal(0, 0.1, (32_000, 1)).astype(np.float32)
    once, _ = stream_cutter(how, hop="100ms")
    whole = once(sample(Series(noise, rate=16_000)))
    pieces, _ = stream_cutter(how, hop="100ms")
    found = [one for at in range(0, 32_000, 1234) for one in pieces(sample(Series(noise[at : at + 1234], rate=16_000)))]
    assert len(whole) == len(found) == 11
    for one, other in zip(whole, found, strict=True):
        assert isinstance(one.data, Series)
        assert isinstance(other.data, Series)
        assert np.allclose(one.data.values, other.data.values, atol=1e-4)
    alone, _ = stream_cutter(how)
    [third] = alone(sample(Series(noise[3200 : 3200 + 16_000], rate=16_000)))
    assert isinstance(third.data, Series)
    assert isinstance(whole[2].data, Series)
    assert np.allclose(third.data.values, whole[2].data.values, atol=1e-4)
