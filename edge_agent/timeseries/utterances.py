"""Cuts streams of sound into utterances: what is spoken between two silences."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import InputError, MissingExtraError
from edge_agent.samples import Sample, Series
from edge_agent.timeseries import wav
from edge_agent.timeseries.cutting import MAX_STREAMS
from edge_agent.timeseries.resampling import Resampler

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pocketsphinx import Endpointer

RATE = 16000
"""Samples a second of what is recognized."""
# Seconds: what is longer is no phrase. Bounds the memory of a stream in which somebody never stops.
MAX_UTTERANCE = 12.0


def endpointer() -> "Endpointer":
    """Finds where speech begins and ends, 30 ms at a time (WebRTC's voice activity detection).

    Raises:
        MissingExtraError: pocketsphinx is not installed.
    """
    try:
        from pocketsphinx import Endpointer
    except ImportError as error:
        raise MissingExtraError("recognizing speech", "speech", error) from None
    return Endpointer(sample_rate=RATE)


def mono(series: Series) -> Series:
    """The mean of the channels, as (samples, 1).

    Raises:
        InputError: there is no rate.
    """
    if not series.rate:
        raise InputError("expected sound with a sample rate, found readings: take it from a microphone or a WAV file")
    return replace(series, values=series.values.mean(axis=1, keepdims=True, dtype=np.float32), channels=())


def whole(data: bytes) -> "NDArray[np.int16]":
    """A WAV file, as one utterance.

    Returns:
        (samples,), int16, 16 kHz.

    Raises:
        InputError: it is none, or too long.
    """
    if not data.startswith(wav.MAGICS):
        raise InputError("expected a WAV file")
    series = mono(wav.decode(data))
    seconds = len(series.values) / (series.rate or RATE)
    if seconds > MAX_UTTERANCE:
        raise InputError(f"expected a spoken phrase, at most {MAX_UTTERANCE:g} s, found {seconds:.0f} s")
    return as_pcm(Resampler(series.rate or RATE, RATE).feed(series.values))


def as_pcm(values: "NDArray[np.float32]") -> "NDArray[np.int16]":
    """Samples from -1 to 1, (samples, 1), as (samples,), int16."""
    scaled: NDArray[np.int16] = np.clip(values[:, 0] * 32768, -32768, 32767).astype(np.int16)
    return scaled


class UtteranceCutter:
    """Cuts the streams of one source. Each topic is a stream of its own; silence is no input, and is not counted."""

    def __init__(self) -> None:
        self._streams: OrderedDict[str | None, _Stream] = OrderedDict()
        # When a live source hangs and is opened again, its abandoned thread may still deliver something.
        self._lock = threading.Lock()

    def __call__(self, sample: Sample) -> list[Sample]:
        """The utterances that end in a sample, each (samples, 1) at 16 kHz; an error for a sample without sound."""
        with self._lock:
            try:
                cut = list(self._stream(sample.stream).feed(self._series(sample)))
            except InputError as error:
                return [replace(sample, data=error)]
        if not cut:
            sample.settlement.done()
            return []
        settlements = sample.settlement.split(len(cut))
        return [
            replace(
                sample,
                data=Series(values, rate=RATE),
                captured_at=sample.captured_at - ago,
                captured=sample.captured - ago,
                settlement=settlement,
            )
            for (values, ago), settlement in zip(cut, settlements, strict=True)
        ]

    @staticmethod
    def _series(sample: Sample) -> Series:
        if isinstance(sample.data, Series):
            return mono(sample.data)
        if isinstance(sample.data, bytes):
            return mono(wav.decode(sample.data))
        raise sample.data if isinstance(sample.data, InputError) else InputError("expected sound, found a picture")

    def _stream(self, stream: str | None) -> "_Stream":
        if stream not in self._streams:
            while len(self._streams) >= MAX_STREAMS:
                self._streams.popitem(last=False)
            self._streams[stream] = _Stream()
        self._streams.move_to_end(stream)
        return self._streams[stream]


class _Stream:
    """One stream of sound, and the utterance that is being spoken."""

    def __init__(self) -> None:
        self._rate: float | None = None
        self._begin()

    def _begin(self) -> None:
        self._endpointer = endpointer()
        self._frame = self._endpointer.frame_bytes
        self._waiting = b""
        self._spoken = bytearray()

    def feed(self, series: Series) -> "Iterator[tuple[NDArray[np.float32], float]]":
        """Utterances, (samples, 1), and how many seconds before the end of this piece each has ended."""
        if series.gap or series.rate != self._rate:
            self._begin()
            self._rate = series.rate
            self._resampler = Resampler(series.rate or RATE, RATE)
        self._waiting += as_pcm(self._resampler.feed(series.values)).tobytes()
        while len(self._waiting) >= self._frame:
            frame, self._waiting = self._waiting[: self._frame], self._waiting[self._frame :]
            speech = self._endpointer.process(frame)
            self._spoken += speech or b""
            too_long = len(self._spoken) > MAX_UTTERANCE * RATE * 2
            if self._spoken and (too_long or not self._endpointer.in_speech):
                values = np.frombuffer(bytes(self._spoken), np.int16).astype(np.float32)
                self._spoken.clear()
                yield values.reshape(-1, 1) * np.float32(1 / 32768), len(self._waiting) / 2 / RATE
