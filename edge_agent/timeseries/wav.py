"""Sound as plain samples (PCM)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import InputError
from edge_agent.samples import Series

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Bytes a sample, by the names that FFmpeg gives the formats.
SAMPLE_BYTES = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}
_MANY_TIMES_AS_FAST = 8


class Pcm:
    """Takes samples out of a stream as they come.

    Args:
        sample_format: a key of `SAMPLE_BYTES`.
        rate: samples a second.
        channels: how many, interleaved.
    """

    def __init__(self, sample_format: str, rate: float, channels: int) -> None:
        self._sample_format = sample_format
        self._rate = rate
        self._channels = channels
        self._block = SAMPLE_BYTES[sample_format] * channels
        self._rest = b""
        self.most = _MANY_TIMES_AS_FAST * rate * self._block

    def feed(self, data: bytes) -> Iterator[Series | InputError]:
        """All whole samples so far."""
        data = self._rest + data
        whole = len(data) - len(data) % self._block
        self._rest = data[whole:]
        if whole:
            values = pcm(data[:whole], self._sample_format, self._channels)
            if np.isfinite(values).all():
                yield Series(values, rate=self._rate)
            else:
                yield InputError("samples that are no finite numbers")

    def end(self) -> Iterator[InputError]:
        """Says if the stream ended within a sample."""
        if self._rest:
            yield InputError(
                f"the stream ended within a sample, after {len(self._rest)} of {self._block} bytes: "
                "are sample_format and channels what the program writes?"
            )


def pcm(data: bytes, sample_format: str, channels: int) -> "NDArray[np.float32]":
    """Samples from their bytes: (samples, channels), full scale -1 to 1.

    Args:
        data: whole samples, little-endian, channels interleaved.
        sample_format: a key of `SAMPLE_BYTES`.
        channels: how many.
    """
    match sample_format:
        case "u8":
            values = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
        case "s16le":
            values = np.frombuffer(data, "<i2").astype(np.float32) / 2**15
        case "s24le":
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            values = wide.view("<i4").astype(np.float32) / 2**31
        case "s32le":
            values = np.frombuffer(data, "<i4").astype(np.float32) / 2**31
        case _:
            values = np.frombuffer(data, "<f4").astype(np.float32)
    return np.asarray(values, np.float32).reshape(-1, channels)
