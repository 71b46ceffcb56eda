"""Cuts the streams of a source into windows, each a sample of its own, before they enter the queue of the pipeline."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_agent.counters import Counters, Settlement
from edge_agent.errors import InputError
from edge_agent.samples import Sample, Series
from edge_agent.settings.series import Window
from edge_agent.system.units import counted
from edge_agent.timeseries import wav
from edge_agent.timeseries.numbers import NumberFormat, Numbers, SeriesPreprocess, read_numbers
from edge_agent.timeseries.windows import WindowCutter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Maximum number of streams (topics) of a pipeline. Beyond it, the one that was silent for longest starts again.
MAX_STREAMS = 256


class StreamCutter:
    """Cuts the streams of one source. Each topic is a stream of its own.

    An incomplete window before a gap is counted as captured, and as dropped for being stale.

    Args:
        numbers: the model's preprocessing of readings.
        options: of the pipeline.
        counters: of the pipeline.
        number_format: of messages, as the source states it.
    """

    def __init__(
        self,
        numbers: SeriesPreprocess,
        options: Window,
        counters: Counters,
        number_format: NumberFormat = None,
    ) -> None:
        self._numbers = numbers
        self._number_format = number_format
        self._options = options
        self._counters = counters
        self._streams: OrderedDict[str | None, WindowCutter] = OrderedDict()
        # When a live source hangs and is opened again, its abandoned thread may still deliver something.
        self._lock = threading.Lock()

    def __call__(self, sample: Sample) -> list[Sample]:
        """The windows that a sample completes; an error for a sample that can't be used.

        The sample is done when all windows that it completes are done; if it completes none, at once.
        """
        with self._lock:
            windows = self._windows_of(sample.stream)
            try:
                pieces = list(self._cut(sample, windows))
            except InputError as error:
                self._discard(windows)
                return [replace(sample, data=error)]
        if not pieces:
            sample.settlement.done()
        return pieces

    def _cut(self, sample: Sample, windows: WindowCutter) -> Iterator[Sample]:
        series = self._series(sample)
        if windows.is_discontinuous(series, sample.captured):
            self._discard(windows)
        cut = list(windows.feed(series, sample.captured))
        settlements = sample.settlement.split(len(cut)) if cut else []
        for number, ((window, ago, begins), settlement) in enumerate(zip(cut, settlements, strict=True), 1):
            yield Sample(
                window,
                captured_at=sample.captured_at - ago,
                captured=sample.captured - ago,
                origin=sample.origin if begins is None else {**sample.origin, "position_s": round(begins, 3)},
                reply_to=sample.reply_to if number == len(cut) else None,
                settlement=settlement,
                senders=sample.senders,
            )

    def _series(self, sample: Sample) -> Series:
        if isinstance(sample.data, bytes):
            return read_series(sample.data, self._numbers, self._number_format)
        if isinstance(sample.data, Series):
            return sample.data
        raise sample.data if isinstance(sample.data, InputError) else InputError("expected readings, found a picture")

    def _discard(self, windows: WindowCutter) -> None:
        if windows.discard():
            incomplete = Settlement()
            incomplete.capture(self._counters)
            incomplete.give_up("stale")

    def _windows_of(self, stream: str | None) -> WindowCutter:
        if stream not in self._streams:
            while len(self._streams) >= MAX_STREAMS:
                self._discard(self._streams.popitem(last=False)[1])
            self._streams[stream] = WindowCutter(self._numbers, self._options)
        self._streams.move_to_end(stream)
        return self._streams[stream]


def read_series(data: bytes, numbers: SeriesPreprocess, number_format: NumberFormat = None) -> Series:
    """Parses a message that is a piece of a stream: numbers at the model's rate, or a WAV file.

    Args:
        data: the message.
        numbers: the model's preprocessing of readings.
        number_format: as the source states it.

    Raises:
        InputError: it is neither.
    """
    if data.startswith(wav.MAGICS):
        return wav.decode(data)
    found = read_numbers(data, number_format, numbers.input.channels)
    return Series(_as_rows(found, numbers), found.channels, rate=found.rate or numbers.input.rate)


def _as_rows(found: Numbers, numbers: SeriesPreprocess) -> "NDArray[np.float32]":
    """The numbers of a message as readings.

    Args:
        found: (readings, channels), or one row that holds one reading after the other.
        numbers: the model's preprocessing, for the number of channels.

    Returns:
        (readings, channels), float32.

    Raises:
        InputError: they are nested deeper, or the last reading is incomplete.
    """
    values = found.values
    if values.ndim == 2:  # noqa: PLR2004 - readings, channels
        return values
    channels = channel_count(numbers)
    if values.ndim > 2 or values.size % channels:  # noqa: PLR2004 - as above
        shape = " x ".join(map(str, values.shape))
        raise InputError(f"expected readings of {counted(channels, 'channel')}, found {shape} numbers")
    return values.reshape(-1, channels)


def channel_count(numbers: SeriesPreprocess) -> int:
    """The number of channels that a model takes."""
    axes = [axis for axis in numbers.shape if axis != 1]
    return len(numbers.input.channels) or (axes[-1] if len(axes) > 1 and not numbers.input.features else 1)
