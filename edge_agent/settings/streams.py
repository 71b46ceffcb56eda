"""The settings of the sources of streams: programs, serial ports, sensors, sound."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator, model_validator

from edge_agent.settings.base import Frozen, Seconds


def _all_different(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("must be names that differ from each other")
    return names


Names = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1, max_length=128)], ...], Field(min_length=1, max_length=256)
]
ChannelNames = Annotated[Names, AfterValidator(_all_different)]
Rate = Annotated[float, Field(gt=0, le=1_000_000)]

# The keys that each format of a command allows, and those that it requires.
_KEYS = {
    "mjpeg": (),
    "raw": ("width", "height", "pixel_format"),
    "pcm": ("sample_format", "rate", "channels"),
    "jsonl": ("rate", "channels"),
    "csv": ("rate", "channels"),
}
_REQUIRED = {"raw": ("width", "height", "pixel_format"), "pcm": ("rate",)}


class CommandSource(Frozen):
    """What a program writes to its standard output."""

    type: Literal["command"]
    """What a program writes to its standard output."""
    argv: tuple[str, ...] = Field(min_length=1, max_length=1000)
    """The program and its arguments, as a list; no shell is involved. It runs in the folder of the configuration
    file."""
    format: Literal["mjpeg", "raw", "pcm", "jsonl", "csv"]
    """Format of the output: JPEG images one after the other, raw video, sound (PCM), readings as JSON lines, or as
    CSV."""
    pixel_format: Literal["bgr24", "rgb24", "gray8", "yuv420p"] | None = Field(None, validate_default=True)
    """raw: pixel format."""
    width: int | None = Field(None, ge=2, le=16384, validate_default=True)
    """raw: frame width in pixels."""
    height: int | None = Field(None, ge=2, le=16384, validate_default=True)
    """raw: frame height in pixels."""
    sample_format: Literal["u8", "s16le", "s24le", "s24_32le", "s32le", "f32le"] | None = Field(
        None, validate_default=True
    )
    """pcm: sample format. `s24_32le`: 24 bits in four bytes, as ALSA's S24_LE. Default: s16le."""
    rate: Rate | None = Field(None, validate_default=True)
    """pcm: samples per second. jsonl, csv: readings per second, if they are evenly spaced; default: the time of a
    reading is when it arrived."""
    channels: Annotated[Annotated[int, Field(ge=1, le=64)] | Names | None, Field(union_mode="left_to_right")] = Field(
        None, validate_default=True
    )
    """pcm: number of channels; default: 1. jsonl, csv: names of the channels to use, in order, or of the columns if
    they have no names; default: all numbers of the first reading."""
    restart: Literal["always", "never"] = "always"
    """`always`: a live source; the program is started again when it ends. `never`: the source ends when the program
    does; nothing is lost, the program is slowed down instead."""
    stall_timeout: Seconds = Field(10.0, ge=0.5, le=86400)
    """With `restart: always`: when no usable output has arrived for this long, the program is stopped and started
    again."""
    every: Seconds | None = Field(None, ge=5, le=86400)
    """mjpeg, raw with `restart: always`: start the program this often only, take
    one picture, and end it again. Default: it goes on."""

    @field_validator("argv")
    @classmethod
    def _a_program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0]:
            raise ValueError("must begin with the name of a program")
        if re.search(r"\s", value[0]):  # a whole command line, which may hold passwords: not quoted in the error
            raise ValueError("must begin with a program, without spaces; each argument is an entry of its own")
        if any("\0" in part for part in value):
            raise ValueError("must not hold the character U+0000")
        return value

    @field_validator("width", "height", "pixel_format", "sample_format", "rate", "channels")
    @classmethod
    def _belongs_to_the_format(cls, value: object, info: ValidationInfo) -> object:
        key, stream_format = info.field_name, info.data.get("format")
        if stream_format is None:
            return value
        if value is None and key in _REQUIRED.get(stream_format, ()):
            raise ValueError(f"is required with format: {stream_format}")
        if value is not None and key not in _KEYS[stream_format]:
            raise ValueError(f"is not for format: {stream_format}")
        if key == "channels" and value is not None and isinstance(value, int) != (stream_format == "pcm"):
            raise ValueError("must be a number with format: pcm, and a list of names with format: jsonl and csv")
        if isinstance(value, int) and value % 2 and info.data.get("pixel_format") == "yuv420p":
            raise ValueError("must be even with pixel_format: yuv420p")
        return _all_different(value) if isinstance(value, tuple) else value


class SerialSource(Frozen):
    """Readings that arrive as lines on a serial port."""

    type: Literal["serial"]
    """Lines from a serial port."""
    port: str = Field(min_length=1, max_length=1024)
    """Path of the port. Paths in /dev/serial/by-id stay the same when the numbers change."""
    baud: int = Field(115200, ge=50, le=4_000_000)
    """Baud rate."""
    format: Literal["jsonl", "csv"]
    """Format of the lines: JSON, or comma-separated numbers."""
    channels: ChannelNames | None = None
    """Names of the channels to use, in order, or of the columns if they have no names. Default: all numbers of the
    first reading."""
    rate: Rate | None = None
    """Readings per second, if they are evenly spaced. Default: the time of a reading is when it arrived."""
    stall_timeout: Seconds = Field(10.0, ge=0.5, le=86400)
    """When no usable line has arrived for this long, the port is closed and opened again."""


class IioSource(Frozen):
    """A sensor that Linux exposes as an industrial I/O (IIO) device."""

    type: Literal["iio"]
    """A sensor of the kernel's industrial I/O (IIO) subsystem."""
    device: Annotated[int | str, Field(union_mode="left_to_right")] = 0
    """Number, name or label of the device."""
    channels: ChannelNames | None = None
    """Names of the channels to use, in order, such as `accel_x`. Default: all."""
    rate: Rate | None = None
    """Readings per second. Required without `buffered`; with it, the rate that the device is set to. Default: the
    device's own."""
    buffered: bool = False
    """Read from the device's buffer, which the device fills at an even rate, instead of polling each reading."""
    stall_timeout: Seconds = Field(10.0, ge=0.5, le=86400)
    """When no usable reading has arrived for this long, the device is opened again."""

    @model_validator(mode="after")
    def _some_pace(self) -> "IioSource":
        if self.rate is None and not self.buffered:
            raise ValueError("needs a rate, or buffered: true")
        return self


class MicrophoneSource(Frozen):
    """Sound from ALSA, recorded by the program `arecord`."""

    type: Literal["microphone"]
    """A microphone."""
    device: str = Field("default", min_length=1, max_length=256, pattern="^[^-]")
    """Name of the ALSA device, as `arecord -L` lists it."""
    rate: int = Field(16000, ge=4000, le=192_000)
    """Samples per second."""
    channels: int = Field(1, ge=1, le=32)
    """Number of channels."""
    stall_timeout: Seconds = Field(10.0, ge=0.5, le=600)
    """When no sound has arrived for this long, the device counts as lost and is opened again."""


class AudioSource(Frozen):
    """WAV files of a folder, or of a glob pattern, in the order of their names."""

    type: Literal["audio"]
    """WAV files."""
    path: str = Field(min_length=1)
    """Folder or glob pattern."""
