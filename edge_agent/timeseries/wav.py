"""Sound: raw samples (PCM), and WAV files.

The format of WAV: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html. Python's own `wave` reads
neither samples that are floating-point numbers nor, before 3.12, files whose format chunk is an extended one.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from edge_agent.errors import InputError
from edge_agent.samples import Series
from edge_agent.system.units import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

# FFmpeg's name of a sample format -> bytes per sample; s24_32le: 24 bits in four bytes, as ALSA's S24_LE.
SAMPLE_BYTES = {"u8": 1, "s16le": 2, "s24le": 3, "s24_32le": 4, "s32le": 4, "f32le": 4, "f64le": 8}
# What a WAV file, or a stream of raw samples, may begin with.
MAGICS = (b"RIFF", b"RF64", b"BW64")
# A live stream is read at most this many times as fast as real time.
_MAX_SPEED = 8
_MAX_CHANNELS, _MAX_RATE = 64, 768_000
_MAX_CHUNKS = 1000
_MAX_HEADER = 65536
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# By kind and bytes per sample.
_FORMATS = {
    (_PCM, 1): "u8",
    (_PCM, 2): "s16le",
    (_PCM, 3): "s24le",
    (_PCM, 4): "s32le",
    (_FLOAT, 4): "f32le",
    (_FLOAT, 8): "f64le",
}
# Who writes to a pipe can't know the length and states 0, all ones, or almost 2 GB (sox, arecord).
_PLACEHOLDER = 0x7FFF0000


class Pcm:
    """Parses a stream of raw samples; see `StreamFormat`. The header of a WAV file before them is left out.

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
        self._at_start = True
        self.max_bytes_per_second = _MAX_SPEED * rate * self._block

    def feed(self, data: bytes) -> Iterator[Series | InputError]:
        """The samples that these bytes complete, full scale -1 to 1."""
        data = self._rest + data
        if self._at_start:
            self._rest = data
            if (length := self._header_length(data)) is None:
                return
            self._at_start, data = False, data[length:]
            if length and (error := self._mismatch(self._rest)):
                yield error
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

    def _header_length(self, data: bytes) -> int | None:
        """Bytes of the header of a WAV file; 0 without one; None: more data is needed."""
        if not any(magic.startswith(data[:4]) for magic in MAGICS) or (
            data[8:12] and not b"WAVE".startswith(data[8:12])
        ):
            return 0
        file = io.BytesIO(data)
        try:
            read_header(file)
        except InputError:
            return None if len(data) < _MAX_HEADER else 0
        return file.tell()

    def _mismatch(self, data: bytes) -> InputError | None:
        header = read_header(io.BytesIO(data))
        found = (header.sample_format, header.channels, header.rate)
        stated = (self._sample_format, self._channels, self._rate)
        if found == stated or (*found[1:], SAMPLE_BYTES[found[0]]) == (*stated[1:], SAMPLE_BYTES[stated[0]]):
            return None
        return InputError(
            f"the program writes WAV of {found[0]}, {counted(found[1], 'channel')}, {found[2]} Hz: state these as "
            "sample_format, channels and rate"
        )


def pcm(data: bytes, sample_format: str, channels: int, unused: int = 0) -> "NDArray[np.float32]":
    """Decodes raw samples.

    Args:
        data: whole samples, little-endian, channels interleaved.
        sample_format: a key of `SAMPLE_BYTES`.
        channels: number of channels.
        unused: bits of each sample that hold nothing: the lowest ones or, where those are in use, the highest ones.

    Returns:
        (samples, channels), float32, full scale -1 to 1.
    """
    match sample_format:
        case "u8":
            values = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
        case "f32le" | "f64le":
            with np.errstate(over="ignore"):  # an overflow becomes infinite, which is refused
                values = np.frombuffer(data, f"<f{SAMPLE_BYTES[sample_format]}").astype(np.float32)
        case _:
            width = SAMPLE_BYTES[sample_format]
            if width == 3:  # noqa: PLR2004 - numpy has no such type
                wide = np.zeros((len(data) // width, 4), np.uint8)
                wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, width)
                whole = wide.view("<i4")
            else:
                whole = np.frombuffer(data, f"<i{width}").astype(np.int32) << (32 - 8 * width)
            unused = 8 if sample_format == "s24_32le" else unused
            if unused and (whole & (((1 << unused) - 1) << (32 - 8 * width))).any():
                whole = whole << unused
            values = whole.astype(np.float32) / 2**31
    return np.asarray(values, np.float32).reshape(-1, channels)


@dataclass(frozen=True, slots=True)
class Header:
    """The format of a WAV file.

    Attributes:
        sample_format: a key of `SAMPLE_BYTES`.
        unused: bits of each sample that hold nothing.
        channels: number of channels.
        rate: samples per second.
        size: bytes of sound; None: up to the end of the file.
    """

    sample_format: str
    unused: int
    channels: int
    rate: int
    size: int | None

    @property
    def block(self) -> int:
        """Bytes of one sample of all channels (block align)."""
        return SAMPLE_BYTES[self.sample_format] * self.channels

    def samples(self, data: bytes) -> "NDArray[np.float32]":
        """Decodes whole samples of all channels: (samples, channels), float32, full scale -1 to 1."""
        return pcm(data, self.sample_format, self.channels, self.unused)


def decode(data: bytes) -> Series:
    """Decodes a WAV file.

    Raises:
        InputError: it is not a WAV file, is cut off, or has an unsupported format.
    """
    file = io.BytesIO(data)
    header = read_header(file, len(data))
    sound = file.read() if header.size is None else file.read(header.size)
    if header.size is None:
        sound = sound[: len(sound) - len(sound) % header.block]
    if len(sound) % header.block or len(sound) < (header.size or 0):
        raise InputError(f"the WAV file is cut off: {len(sound)} of {header.size} bytes of sound")
    return Series(header.samples(sound), rate=header.rate)


def read_header(file: BinaryIO, length: int = 0) -> Header:
    """Reads the header, up to the first byte of sound.

    Args:
        file: the WAV file, at its start.
        length: of the file in bytes, if it is known.

    Raises:
        InputError: it is not a WAV file, or has an unsupported format.
    """
    start = file.read(12)
    if start[:4] not in MAGICS or start[8:] != b"WAVE":
        raise InputError(f"not a WAV file: starts with {start[:8].hex(' ')}")
    facts: _Facts | None = None
    for _ in range(_MAX_CHUNKS):
        chunk = file.read(8)
        if len(chunk) < 8:  # noqa: PLR2004 - a name and a length, four bytes each
            break
        name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if name == b"data":
            if facts is None:
                raise InputError("a WAV file without a format before its sound")
            unknown = size == 0 or (size >= _PLACEHOLDER and size > length - file.tell())
            return _header(facts, None if unknown else size)
        if name == b"fmt ":
            facts = _facts(file.read(min(size, 40)))
            size -= min(size, 40)
        file.seek(size, 1)
        # A chunk of odd length is followed by a zero, which some writers leave out.
        if size % 2 and file.read(1) not in (b"\0", b""):
            file.seek(-1, 1)
    raise InputError("a WAV file without sound")


class _Facts(NamedTuple):
    """A format chunk: kind, channels, samples and bytes per second, bytes of a sample of all channels, bits."""

    code: int
    channels: int
    rate: int
    byte_rate: int
    block: int
    bits: int


def _facts(content: bytes) -> _Facts:
    if len(content) < 16:  # noqa: PLR2004 - of the shortest kind
        raise InputError("a WAV file whose format is cut off")
    facts = _Facts(*struct.unpack_from("<HHIIHH", content))
    if facts.code == _EXTENSIBLE:
        valid, code = int.from_bytes(content[18:20], "little"), int.from_bytes(content[24:26], "little")
        facts = facts._replace(code=code, bits=valid if 0 < valid < facts.bits else facts.bits)
    return facts


def _header(facts: _Facts, size: int | None) -> Header:
    code, channels, rate, byte_rate, block, bits = facts
    if not 1 <= channels <= _MAX_CHANNELS or not 1 <= rate <= _MAX_RATE:
        raise InputError(f"a WAV file of {channels} channels at {rate} samples a second")
    needed = (bits + 7) // 8
    # How many bytes a sample takes is for the block to say. Where that can't be, two other facts have to agree.
    width = block // channels if block % channels == 0 else 0
    if (width < needed or (code, width) not in _FORMATS) and (not block or byte_rate == needed * channels * rate):
        width = needed
    sample_format = _FORMATS.get((code, width))
    if sample_format is None or width < needed or (code == _FLOAT and width != needed) or not bits:
        raise InputError(
            f"a WAV file of format {code} with {bits} bits in {block} bytes for {counted(channels, 'channel')}: up to "
            "32 bits (1) and floats (3) are read"
        )
    return Header(sample_format, 0 if code == _FLOAT or width == 1 else 8 * width - bits, channels, rate, size)
