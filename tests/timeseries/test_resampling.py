import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.timeseries.resampling import Interpolator, Resampler

SIZES = [1, 2, 7, 50, 333, 1000, 5, 64]


def wave(hertz: float, rate: float, seconds: float) -> NDArray[np.float32]:
    angles = 2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate
    return np.asarray(np.sin(angles), np.float32)[:, None]


def in_pieces(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    ends: list[int] = []
    at = 0
    while at < len(values):
        at += SIZES[len(ends) % len(SIZES)]
        ends.append(at)
    return np.split(values, ends[:-1])


@pytest.mark.parametrize(
    ("rate", "wanted", "hertz"),
    [(100, 26, 3), (44_100, 16_000, 1000), (8000, 16_000, 1000), (50, 100, 5), (416, 26, 2)],
)
def test_a_tone_is_the_same_tone_at_another_rate_however_it_is_cut(rate: float, wanted: float, hertz: float) -> None:
    seconds = 400 / hertz
    tone = wave(hertz, rate, seconds)
    resampler = Resampler(rate, wanted)
    resampled = np.concatenate([resampler.feed(piece) for piece in in_pieces(tone)])
    assert np.allclose(resampled, Resampler(rate, wanted).feed(tone), atol=1e-6)
    expected = wave(hertz, wanted, seconds)[: len(resampled)]
    middle = slice(100, -100)
    assert np.abs(resampled[middle] - expected[middle]).max() < 0.02
    assert 0 <= len(tone) * wanted / rate - len(resampled) <= 20 * max(1, wanted / rate)


def test_what_the_new_rate_can_not_hold_is_filtered_out_instead_of_folded_back() -> None:
    resampled = Resampler(100, 26).feed(wave(37, 100, 100))
    assert np.abs(resampled[100:-100]).max() < 0.02


def test_readings_that_come_when_they_come_are_made_even() -> None:
    rng = np.random.default_rng(1)
    times = np.arange(0, 20, 0.01) + rng.uniform(0, 0.002, 2000)
    interpolator = Interpolator(50)
    values = np.sin(2 * np.pi * 0.5 * times).astype(np.float32)[:, None]
    even = np.concatenate([interpolator.feed(values[i : i + 1], times[i]) for i in range(2000)])
    expected = np.sin(2 * np.pi * 0.5 * np.arange(len(even)) / 50)[:, None]
    assert abs(len(even) - 1000) <= 2
    assert np.abs(even - expected).max() < 0.05


def test_a_long_pause_between_readings_is_noticed() -> None:
    interpolator = Interpolator(100)
    interpolator.feed(np.zeros((1, 1), np.float32), 10.0)
    assert not interpolator.is_late(10.1)
    assert interpolator.is_late(10.6)
