"""Sound: raw samples (PCM), and WAV files.

The format of WAV: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html. Python's own `wave` reads
neither samples that are floating-point numbers nor, before 3.12, files whose format chunk is an extended one.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from edge_agent.errors import InputError
from edge_agent.samples import Series

if TYPE_CHECKING:
    from numpy.typing import NDArray

# FFmpeg's name of a sample format -> bytes per sample.
SAMPLE_BYTES = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}
# A live stream is read at most this many times as fast as real time.
_MAX_SPEED = 8
_MAX_CHANNELS, _MAX_RATE = 64, 768_000
_MAX_CHUNKS = 1000
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_FORMATS = {
    (_PCM, 8): "u8",
    (_PCM, 16): "s16le",
    (_PCM, 24): "s24le",
    (_PCM, 32): "s32le",
    (_FLOAT, 32): "f32le",
}
# Size in the header of a file that was written to a pipe.
_UNKNOWN = 0xFFFFFFFF


class Pcm:
    """Parses a stream of raw samples; see `StreamFormat`.

    Args:
        sample_format: a key of `SAMPLE_BYTES`.
        rate: samples per second.
        channels: number of interleaved channels.
    """

    def __init__(self, sample_format: str, rate: float, channels: int) -> None:
        self._sample_format = sample_format
        self._rate = rate
        self._channels = channels
        self._block = SAMPLE_BYTES[sample_format] * channels
        self._rest = b""
        self.max_bytes_per_second = _MAX_SPEED * rate * self._block

    def feed(self, data: bytes) -> Iterator[Series | InputError]:
        """The samples that these bytes complete, full scale -1 to 1."""
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
        """An error if the stream ended within a sample."""
        if self._rest:
            yield InputError(
                f"the stream ended within a sample, after {len(self._rest)} of {self._block} bytes: "
                "are sample_format and channels what the program writes?"
            )


def pcm(data: bytes, sample_format: str, channels: int) -> "NDArray[np.float32]":
    """Decodes raw samples.

    Args:
        data: whole samples, little-endian, channels interleaved.
        sample_format: a key of `SAMPLE_BYTES`.
        channels: number of channels.

    Returns:
        (samples, channels), float32, full scale -1 to 1.
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


@dataclass(frozen=True, slots=True)
class Header:
    """The format of a WAV file.

    Attributes:
        sample_format: a key of `SAMPLE_BYTES`.
        channels: number of channels.
        rate: samples per second.
        size: bytes of sound; None: up to the end of the file.
    """

    sample_format: str
    channels: int
    rate: int
    size: int | None

    @property
    def block(self) -> int:
        """Bytes of one sample of all channels (block align)."""
        return SAMPLE_BYTES[self.sample_format] * self.channels


def decode(data: bytes) -> Series:
    """Decodes a WAV file.

    Raises:
        InputError: it is not a WAV file, is cut off, or has an unsupported format.
    """
    file = io.BytesIO(data)
    header = read_header(file)
    sound = file.read() if header.size is None else file.read(header.size)
    if len(sound) % header.block or len(sound) < (header.size or 0):
        raise InputError(f"the WAV file is cut off: {len(sound)} of {header.size} bytes of sound")
    return Series(pcm(sound, header.sample_format, header.channels), rate=header.rate)


def read_header(file: BinaryIO) -> Header:
    """Reads the header, up to the first byte of sound.

    Raises:
        InputError: it is not a WAV file, or has an unsupported format.
    """
    start = file.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        raise InputError(f"not a WAV file: starts with {start[:8].hex(' ')}")
    facts: tuple[int, int, int, int] | None = None
    for _ in range(_MAX_CHUNKS):
        chunk = file.read(8)
        if len(chunk) < 8:  # noqa: PLR2004 - a name and a length, four bytes each
            break
        name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if name == b"data":
            if facts is None:
                raise InputError("a WAV file without a format before its sound")
            return _header(*facts, size)
        if name == b"fmt ":
            facts = _facts(file.read(min(size, 40)))
            size -= min(size, 40)
        file.seek(size + size % 2, 1)
    raise InputError("a WAV file without sound")


def _facts(content: bytes) -> tuple[int, int, int, int]:
    """Format code, channels, rate and bits per sample of a format chunk."""
    if len(content) < 16:  # noqa: PLR2004 - of the shortest kind
        raise InputError("a WAV file whose format is cut off")
    code, channels, bits = (int.from_bytes(content[at : at + 2], "little") for at in (0, 2, 14))
    if code == _EXTENSIBLE:
        code = int.from_bytes(content[24:26], "little")
    return code, channels, int.from_bytes(content[4:8], "little"), bits


def _header(code: int, channels: int, rate: int, bits: int, size: int) -> Header:
    sample_format = _FORMATS.get((code, bits))
    if sample_format is None:
        raise InputError(
            f"a WAV file of format {code} with {bits} bits: 8, 16, 24 and 32 bits (1) and 32-bit floats (3) are read"
        )
    if not 1 <= channels <= _MAX_CHANNELS or not 1 <= rate <= _MAX_RATE:
        raise InputError(f"a WAV file of {channels} channels at {rate} samples a second")
    return Header(sample_format, channels, rate, None if size in (0, _UNKNOWN) else size)
