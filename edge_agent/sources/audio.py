"""Sound files (WAV) of a folder or a glob pattern.

The format: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html. Python's own `wave` reads neither
samples that are floating-point numbers nor, before 3.12, files whose format chunk is an extended one.
"""

import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge_agent import settings
from edge_agent.errors import InputError, SourceError
from edge_agent.samples import Sample, Series
from edge_agent.sources import Context
from edge_agent.sources.images import files
from edge_agent.sources.reader import Reader
from edge_agent.timeseries.wav import SAMPLE_BYTES, pcm

_ENDINGS = {".wav", ".wave"}
# Seconds of sound that come at a time.
_AT_A_TIME = 0.1
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
# What a program writes that did not know how long the sound would become.
_UNKNOWN = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Header:
    """What a WAV file says of its sound.

    Attributes:
        sample_format: a key of `sound.SAMPLE_BYTES`.
        channels: how many.
        rate: samples a second.
        size: bytes of sound; None: up to the end of the file.
    """

    sample_format: str
    channels: int
    rate: int
    size: int | None

    @property
    def block(self) -> int:
        """Bytes of one sample of all channels."""
        return SAMPLE_BYTES[self.sample_format] * self.channels


class Audio:
    """The files in the order of their names; of a folder only those whose names end like a WAV file's."""

    live = False
    stall_timeout = 0.0

    def __init__(self, pattern: str) -> None:
        self.name = f"audio {pattern}"
        self._pattern = pattern

    def samples(self, stopping: threading.Event) -> Iterator[Sample]:
        """A tenth of a second of sound at a time; the first of each file comes after a gap."""
        paths = files(self._pattern, _ENDINGS)
        if not paths:
            raise SourceError(f"{self.name}: there is no WAV file")
        for path in paths:
            position = 0.0
            for data in read(path):
                origin = {"path": str(path), "position_s": round(position, 3)}
                yield Sample(data, captured_at=time.time(), captured=time.monotonic(), origin=origin)
                if isinstance(data, Series) and data.rate:
                    position += len(data.values) / data.rate
                if stopping.is_set():
                    return


def read(path: Path) -> Iterator[Series | InputError]:
    """The sound of a WAV file, full scale -1 to 1; an error where it can't be read (any more)."""
    try:
        with path.open("rb") as file:
            header = read_header(file)
            at_a_time = max(1, round(header.rate * _AT_A_TIME)) * header.block
            left, gap = header.size, True
            while data := file.read(at_a_time if left is None else min(at_a_time, left)):
                whole = len(data) - len(data) % header.block
                if whole:
                    values = pcm(data[:whole], header.sample_format, header.channels)
                    yield Series(values, rate=header.rate, gap=gap)
                    gap = False
                left = None if left is None else left - len(data)
            if left:
                yield InputError(f"{path}: is cut off: {left} of {header.size} bytes of sound are missing")
    except InputError as error:
        yield InputError(f"{path}: {error}")
    except OSError as error:
        yield InputError(f"{path}: can't be read: {error.strerror}")


def decode(data: bytes) -> Series:
    """The sound of a whole WAV file.

    Raises:
        InputError: it is none, of a format that is not known here, or cut off.
    """
    file = io.BytesIO(data)
    header = read_header(file)
    sound = file.read() if header.size is None else file.read(header.size)
    if len(sound) % header.block or len(sound) < (header.size or 0):
        raise InputError(f"the WAV file is cut off: {len(sound)} of {header.size} bytes of sound")
    return Series(pcm(sound, header.sample_format, header.channels), rate=header.rate)


def read_header(file: BinaryIO) -> Header:
    """Reads up to the first byte of sound.

    Raises:
        InputError: it is no WAV file, or one of a format that is not known here.
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
    """Code, channels, rate and bits of a format chunk."""
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


def create(source: settings.AudioSource, context: Context) -> Reader:
    """The source for the settings."""
    return Reader(Audio(str(context.folder / Path(source.path).expanduser())))
