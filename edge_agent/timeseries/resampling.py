"""Resamples a stream of readings to the rate that a model was trained with, piece by piece."""

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Largest denominator of the ratio of the two rates.
MAX_RATIO = 1000
# Zero crossings of the sinc on each side. More make the filter steeper and its delay longer.
CROSSINGS = 8
# Readings without a rate: a pause longer than this many readings, and than this many seconds, is a gap.
PAUSE_READINGS = 10
PAUSE_SECONDS = 0.5


class Resampler:
    """Resamples evenly spaced readings by band-limited interpolation: https://ccrma.stanford.edu/~jos/resample/.

    Args:
        rate: of the input, in readings per second.
        wanted: of the output, in readings per second.
    """

    def __init__(self, rate: float, wanted: float) -> None:
        ratio = Fraction(wanted / rate).limit_denominator(MAX_RATIO)
        self._up, self._down = max(1, ratio.numerator), ratio.denominator
        cutoff = min(1.0, self._up / self._down)
        self._reach = math.ceil(CROSSINGS / cutoff)
        offsets = np.arange(1 - self._reach, self._reach + 1) - np.arange(self._up)[:, None] / self._up
        kernels = np.sinc(cutoff * offsets) * (0.5 + 0.5 * np.cos(np.pi * np.clip(offsets / self._reach, -1, 1)))
        self._kernels = (kernels / kernels.sum(axis=1, keepdims=True)).astype(np.float32)
        self._waiting: NDArray[np.float32] | None = None
        self._step = 0

    def feed(self, values: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """The output readings that these input readings complete.

        Args:
            values: (readings, channels), float32.

        Returns:
            (readings at the new rate, channels), float32.
        """
        if not len(values):
            return values
        if self._waiting is None:  # before its start, the stream is taken to hold its first value
            self._waiting = np.repeat(values[:1], self._reach - 1, axis=0)
        waiting = np.concatenate([self._waiting, values])
        taps = 2 * self._reach
        # Output reading k lies at k * down / up of the input; waiting[0] is reach - 1 before that.
        count = max(0, ((len(waiting) - taps + 1) * self._up - self._step - 1) // self._down + 1)
        places = self._step + np.arange(count) * self._down
        starts, phases = places // self._up, places % self._up
        windows = np.lib.stride_tricks.sliding_window_view(waiting, taps, axis=0)[starts] if count else None
        resampled = values[:0] if windows is None else np.einsum("nct,nt->nc", windows, self._kernels[phases])
        self._step += count * self._down
        done = min(self._step // self._up, len(waiting))
        self._step -= done * self._up
        self._waiting = waiting[done:]
        return np.asarray(resampled, np.float32)


class Interpolator:
    """Resamples readings without a rate by linear interpolation between their times of arrival.

    Args:
        wanted: rate of the output, in readings per second.
    """

    def __init__(self, wanted: float) -> None:
        self._step = 1 / wanted
        self._pause = max(PAUSE_SECONDS, PAUSE_READINGS * self._step)
        self._last: NDArray[np.float32] | None = None
        self._last_at = self._next_at = 0.0

    def is_late(self, arrived: float) -> bool:
        """Whether the pause before `arrived` (in seconds) means that readings must be missing."""
        return self._last is not None and arrived - self._last_at > self._pause

    def feed(self, values: "NDArray[np.float32]", arrived: float) -> "NDArray[np.float32]":
        """The output readings up to `arrived`.

        Args:
            values: (readings, channels), float32.
            arrived: when the last of them arrived, in seconds.

        Returns:
            (readings at the output rate, channels), float32.
        """
        if not len(values):
            return values
        if self._last is None:
            self._last, self._last_at, self._next_at = values[:1], arrived - len(values) * self._step, arrived
            self._next_at = self._last_at + self._step
        arrived = max(arrived, self._last_at + 1e-6)
        # Readings that arrive together are spread evenly over the time since the last arrival.
        times = np.linspace(self._last_at, arrived, len(values) + 1)
        known = np.concatenate([self._last, values])
        wanted = np.arange(self._next_at, arrived + 1e-9, self._step)
        self._last, self._last_at = values[-1:], arrived
        self._next_at += len(wanted) * self._step
        columns = [np.interp(wanted, times, known[:, channel]) for channel in range(known.shape[1])]
        return np.stack(columns, axis=1).astype(np.float32)
