"""Cuts a stream of readings or sound into inputs of a model: windows of its length, at its rate."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edge_agent.errors import InputError
from edge_agent.samples import Series
from edge_agent.settings.series import Input, Window
from edge_agent.timeseries.features import Features
from edge_agent.timeseries.numbers import SeriesPreprocess, check_finite
from edge_agent.timeseries.resampling import Interpolator, Resampler

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Form(NamedTuple):
    """The properties of a stream; where they change, it is discontinuous."""

    channels: tuple[str, ...]
    columns: int
    rate: float | None


class CutWindow(NamedTuple):
    """One input of a model, cut from a stream.

    Attributes:
        series: the readings; its `gap` says that the window does not follow the previous one.
        ago: seconds from the end of the window to the end of the piece that completed it; 0 if no rate is known.
        begins: start of the window in seconds since the last gap; None if no rate is known.
    """

    series: Series
    ago: float
    begins: float | None


class WindowCutter:
    """Cuts one stream into windows. After missing readings it starts a new window.

    Args:
        numbers: the model's preprocessing of readings.
        options: of the pipeline.
    """

    def __init__(self, numbers: SeriesPreprocess, options: Window) -> None:
        self._numbers = numbers
        self._options = options
        self._form: Form | None = None
        self._segment: _Segment | None = None

    def is_discontinuous(self, series: Series, arrived: float) -> bool:
        """Whether a piece does not continue the stream before it.

        Args:
            series: the piece.
            arrived: when its last reading arrived, in seconds.
        """
        form = Form(series.channels, series.values.shape[1], series.rate)
        return series.gap or form != self._form or (self._segment is not None and self._segment.is_late(arrived))

    @property
    def unfinished(self) -> float:
        """How much of the next window has come: 0 to 1, without what it repeats of the one before."""
        return 0.0 if self._segment is None else self._segment.unfinished

    def discard(self) -> bool:
        """Drops an incomplete window; returns whether there was one."""
        segment, self._segment, self._form = self._segment, None, None
        return segment is not None and segment.has_begun

    def feed(self, series: Series, arrived: float) -> Iterator[CutWindow]:
        """The windows that a piece of the stream completes.

        Args:
            series: the piece.
            arrived: see `is_discontinuous`.

        Raises:
            InputError: the piece can't be used.
        """
        values = check_finite(chosen_channels(series, self._numbers.input))
        if self._segment is None:
            self._segment = _Segment(self._numbers, self._options, values.shape[1], series.rate)
            self._form = Form(series.channels, series.values.shape[1], series.rate)
        yield from self._segment.feed(values, arrived)


class _Segment:
    """A part of a stream without gaps.

    Args:
        numbers: the model's preprocessing of readings.
        options: of the pipeline.
        channels: number of channels.
        rate: readings per second; None: the time of a reading is when it arrived.

    Raises:
        InputError: the model does not take readings with this number of channels.
    """

    def __init__(self, numbers: SeriesPreprocess, options: Window, channels: int, rate: float | None) -> None:
        wanted, size = numbers.input.rate, math.prod(numbers.shape)
        self._resampler: Resampler | Interpolator | None = None
        if wanted is not None and rate is None:
            self._resampler = Interpolator(wanted)
        elif wanted is not None and rate is not None and rate != wanted:
            self._resampler = Resampler(rate, wanted)
        self._rate, columns = wanted or rate, channels
        self._features: Features | None = None
        if numbers.input.features is not None and self._rate is not None:
            self._features = Features(numbers.input.features, self._rate)
            self._rate, columns = self._features.per_second, self._features.columns
        if size % columns:
            raise InputError(f"expected readings that make {size} numbers, found {columns} channels, of which none do")
        self._length = size // columns
        self._hop = self._in_readings(options.hop, self._length - numbers.input.context)
        axes = [axis for axis in numbers.shape if axis != 1]
        self._flat = len(axes) == 1
        self._channels_first = axes == [columns, self._length] != [self._length, columns]
        if len(axes) > 1 and axes != [self._length, columns] and not self._channels_first:
            shape = " x ".join(map(str, axes))
            raise InputError(f"expected readings that make {shape} numbers, found {columns} channels")
        self._waiting = np.zeros((numbers.input.context, columns), np.float32)
        self._fresh, self._given, self._context = True, 0, numbers.input.context
        self._skip = 0

    def is_late(self, arrived: float) -> bool:
        """See `Interpolator.is_late`."""
        return isinstance(self._resampler, Interpolator) and self._resampler.is_late(arrived)

    @property
    def has_begun(self) -> bool:
        """Whether there are readings that have not been in any window yet."""
        return self.unfinished > 0

    @property
    def unfinished(self) -> float:
        """See `WindowCutter.unfinished`."""
        kept = self._context if self._fresh else max(0, self._length - self._hop)
        return max(0, len(self._waiting) - kept) / (self._length - kept)

    def feed(self, values: "NDArray[np.float32]", arrived: float) -> Iterator[CutWindow]:
        """The windows that these readings complete.

        Args:
            values: (readings, channels), float32.
            arrived: when the last reading arrived, in seconds.
        """
        if isinstance(self._resampler, Interpolator):
            values = self._resampler.feed(values, arrived)
        elif self._resampler is not None:
            values = self._resampler.feed(values)
        if self._features is not None:
            values = self._features.feed(values)
        waiting = values if not len(self._waiting) else np.concatenate([self._waiting, values])
        at = self._skip
        while at + self._length <= len(waiting):
            rows = waiting[at : at + self._length]
            if self._features is not None:
                rows = self._features.finish(rows)
            # A model with a flat input takes one reading after the other.
            rows = rows.reshape(-1, 1) if self._flat else rows.T if self._channels_first else rows
            left = len(waiting) - at - self._length
            yield CutWindow(
                Series(np.ascontiguousarray(rows), gap=self._fresh),
                left / self._rate if self._rate else 0.0,
                (self._given * self._hop) / self._rate if self._rate else None,
            )
            self._fresh = False
            self._given += 1
            at += self._hop
        self._skip = max(0, at - len(waiting))
        self._waiting = waiting[at:].copy()

    def _in_readings(self, span: float | None, default: int) -> int:
        if span is None:
            return default
        if isinstance(span, int):
            return span
        if self._rate is None:
            raise InputError("window.hop is a duration, and how many readings a second come is not known: state a rate")
        return max(1, round(span * self._rate))


def chosen_channels(series: Series, wanted: Input) -> "NDArray[np.float32]":
    """The channels that the model takes, in its order; of sound without named channels, the mean of all.

    Returns:
        (readings, channels), float32.

    Raises:
        InputError: a channel is missing.
    """
    if wanted.channels:
        names = series.channels or wanted.channels
        missing = [name for name in wanted.channels if name not in names]
        if missing or len(names) != series.values.shape[1]:
            found = ", ".join(series.channels) or f"{series.values.shape[1]} channels without names"
            raise InputError(f"expected the channels {', '.join(wanted.channels)}, found {found}")
        chosen = [names.index(name) for name in wanted.channels]
        return np.take(series.values, chosen, axis=1)
    if wanted.kind == "audio" and series.values.shape[1] > 1:
        return np.asarray(series.values.mean(axis=1, keepdims=True), np.float32)
    return series.values
