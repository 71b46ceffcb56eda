"""Cuts streams of readings with names into one reading at a time, or into one value of all readings of some time."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import InputError
from edge_agent.samples import Sample, Series
from edge_agent.settings.statistics import Statistics
from edge_agent.timeseries.cutting import MAX_STREAMS
from edge_agent.timeseries.fields import read_fields
from edge_agent.timeseries.numbers import NumberFormat, read_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOLE = "value"
"""Name of a reading that has none."""


class ReadingCutter:
    """Cuts the streams of a source into samples of one reading each, or of the readings of some time.

    Args:
        options: of the detector.
        number_format: of messages.
    """

    def __init__(self, options: Statistics, number_format: NumberFormat) -> None:
        self._options = options
        self._number_format = number_format
        self._periods: OrderedDict[tuple[str | None, tuple[str, ...]], _Period] = OrderedDict()
        # When a live source hangs and is opened again, its abandoned thread may still deliver something.
        self._lock = threading.Lock()

    def __call__(self, sample: Sample) -> list[Sample]:
        """The readings of a sample; an error for a sample that can't be used."""
        with self._lock:
            try:
                series = self._series(sample)
            except InputError as error:
                return [replace(sample, data=error)]
            cut = list(self._cut(series, sample))
        if not cut:
            sample.settlement.done()
            return []
        settlements = sample.settlement.split(len(cut))
        return [
            replace(
                sample,
                data=Series(row.reshape(1, -1), series.channels),
                captured_at=sample.captured_at - ago,
                captured=sample.captured - ago,
                reply_to=sample.reply_to if number == len(cut) else None,
                settlement=settlement,
            )
            for number, ((row, ago), settlement) in enumerate(zip(cut, settlements, strict=True), 1)
        ]

    def _series(self, sample: Sample) -> Series:
        if isinstance(sample.data, Series):
            series = sample.data
        elif isinstance(sample.data, bytes):
            series = _from_message(sample.data, self._number_format)
        else:
            raise (
                sample.data if isinstance(sample.data, InputError) else InputError("expected readings, found a picture")
            )
        if not series.channels:
            count = series.values.shape[1]
            series = replace(series, channels=(SOLE,) if count == 1 else tuple(map(str, range(count))))
        return series

    def _cut(self, series: Series, sample: Sample) -> "Iterator[tuple[NDArray[np.float32], float]]":
        """Each reading, and how many seconds before the sample's time it was taken."""
        last = len(series.values) - 1
        for number, row in enumerate(series.values):
            ago = (last - number) / series.rate if series.rate else 0.0
            if self._options.every is None:
                yield row, ago
            else:
                period = self._period((sample.stream, series.channels), self._options.every)
                if (value := period.add(row, sample.captured - ago)) is not None:
                    yield value, ago

    def _period(self, key: tuple[str | None, tuple[str, ...]], every: float) -> "_Period":
        if key not in self._periods:
            while len(self._periods) >= MAX_STREAMS:
                self._periods.popitem(last=False)
            self._periods[key] = _Period(every, self._options.by)
        self._periods.move_to_end(key)
        return self._periods[key]


class _Period:
    """Makes one value of all readings of some time.

    Args:
        every: its length, in seconds.
        by: see `Statistics.by`.
    """

    def __init__(self, every: float, by: str) -> None:
        self._every, self._by = every, by
        self._number: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._count = 0
        self._mean = self._squares = np.zeros(1)
        self._least, self._most = np.full(1, np.inf), np.full(1, -np.inf)

    def add(self, row: "NDArray[np.float32]", at: float) -> "NDArray[np.float32] | None":
        """Takes a reading of each channel; returns the value of the period before, when another one begins."""
        number, value = int(at // self._every), None
        if number != self._number:
            if self._count:
                value = self._value()
            self._begin()
            self._number = number
        # Welford: https://en.wikipedia.org/wiki/Algorithms_for_calculating_variance
        self._count += 1
        away = row - self._mean
        self._mean = self._mean + away / self._count
        self._squares = self._squares + away * (row - self._mean)
        self._least, self._most = np.minimum(self._least, row), np.maximum(self._most, row)
        return value

    def _value(self) -> "NDArray[np.float32]":
        match self._by:
            case "rms":
                value = np.sqrt(self._squares / self._count)
            case "range":
                value = self._most - self._least
            case _:
                value = self._mean
        return np.asarray(value, np.float32)


def _from_message(data: bytes, number_format: NumberFormat) -> Series:
    if isinstance(number_format, Mapping):
        found = read_fields(data, list(number_format))
        return Series(np.array([list(found.values())], np.float32), tuple(found))
    numbers = read_numbers(data, number_format)
    values = numbers.values
    if values.ndim != 2:  # noqa: PLR2004 - readings, channels
        values = values.reshape(1, -1)
    return Series(values, numbers.channels)
