"""Puts together what `rpicam-vid` writes of a frame: picture, time and metadata, each to an output of its own."""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import InputError
from edge_agent.sources.mjpeg import Mjpeg

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Numbers of the outputs.
FRAMES, METADATA, TIMES = range(3)
# Width, height of the sensor in pixels, to which `ScalerCrop` refers.
SENSOR = (4056, 3040)
WHOLE = (0.0, 0.0, 1.0, 1.0)
# Bytes of a line of metadata: a tensor of 3 million numbers.
MAX_LINE = 32_000_000
# Frames that wait for their metadata, which come a moment later; and metadata that wait for their frame.
MAX_WAITING = 8
# Frames in a row without metadata of theirs, while metadata come, after which the two don't belong together.
MAX_UNMATCHED = 100
_TIME = re.compile(rb"(\d{1,15})\.(\d{3})")
_ENTRY = re.compile(rb'"(\w{1,64})": (.*)')
_CROP = re.compile(rb'"?\((\d{1,5}), (\d{1,5})\)/(\d{1,5})x(\d{1,5})"?')


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame and what the sensor says of it.

    Attributes:
        data: a JPEG picture, or why there is none.
        values: (N,), float32, the output of the network; None: it has none for this frame.
        crop: see `SensorOutput`.
        sensor_time: when it was taken, in seconds since the machine was started; 0 where that is not known.
    """

    data: "bytes | InputError"
    values: "NDArray[np.float32] | None" = None
    crop: tuple[float, float, float, float] = WHOLE
    sensor_time: float = 0.0


@dataclass(frozen=True, slots=True)
class _Facts:
    values: "NDArray[np.float32] | None"
    crop: tuple[float, float, float, float]
    sensor_time: float


class FrameMatcher:
    """Takes the bytes of all outputs as they come, and gives frames in their order.

    The first frame has the time 0, and metadata have that of the sensor, both in microseconds: their difference is that
    of the first of both. A frame of the same time as the one before is a repetition, and left out.

    Attributes:
        problem: why nothing useful can come any more; "" if it can.
    """

    def __init__(self) -> None:
        self.problem = ""
        self._mjpeg = Mjpeg()
        self._rest = {METADATA: b"", TIMES: b""}
        self._frames: deque[bytes | InputError] = deque()
        self._times: deque[int] = deque()
        self._facts: dict[int, _Facts] = {}
        self._open: dict[bytes, bytes] = {}
        self._start: int | None = None
        self._newest = -1
        self._before = -1
        self._unmatched = 0

    def feed(self, output: int, data: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete."""
        if output == FRAMES:
            self._frames.extend(self._mjpeg.feed(data))
        else:
            *lines, self._rest[output] = (self._rest[output] + data).split(b"\n")
            if len(self._rest[output]) > MAX_LINE:
                self.problem = f"a line of metadata has more than {MAX_LINE} bytes"
                self._rest[output] = b""
            take = self._take_time if output == TIMES else self._take_metadata
            for line in lines:
                take(line)
        yield from self._matched()

    def _take_time(self, line: bytes) -> None:
        if found := _TIME.fullmatch(line.strip()):
            self._times.append(int(found[1]) * 1000 + int(found[2]))

    def _take_metadata(self, line: bytes) -> None:
        """A line of an object; its last entry is the one without a comma. The brace behind it comes with the next."""
        stripped = line.strip()
        found = _ENTRY.fullmatch(stripped)
        if found is None:
            if stripped == b"{":
                self._open = {}
            return
        if found[1] in (b"SensorTimestamp", b"CnnOutputTensor", b"ScalerCrop"):
            self._open[found[1]] = found[2].removesuffix(b",")
        if not stripped.endswith(b","):
            self._finish(self._open)
            self._open = {}

    def _finish(self, entries: dict[bytes, bytes]) -> None:
        stamp = entries.get(b"SensorTimestamp", b"")
        if not stamp.isdigit() or len(stamp) > 19:  # noqa: PLR2004 - digits of 64 bits
            return
        taken = int(stamp) // 1000
        if self._start is None:
            self._start = taken
        time = taken - self._start
        self._newest = max(self._newest, time)
        self._facts[time] = _Facts(_numbers(entries.get(b"CnnOutputTensor")), _crop(entries), int(stamp) / 1e9)
        while len(self._facts) > MAX_WAITING:
            del self._facts[next(iter(self._facts))]

    def _matched(self) -> Iterator[Frame]:
        while self._frames and self._times:
            time = self._times[0]
            facts = self._facts.get(time)
            if facts is None and self._newest <= time and len(self._frames) <= MAX_WAITING:
                return  # its metadata may still come
            self._times.popleft()
            data = self._frames.popleft()
            if time == self._before:
                continue
            self._before = time
            if facts is not None:
                del self._facts[time]
                self._unmatched = 0
                yield Frame(data, facts.values, facts.crop, facts.sensor_time)
                continue
            self._unmatched += self._newest >= 0
            if self._unmatched > MAX_UNMATCHED:
                self.problem = f"{MAX_UNMATCHED} frames in a row have no metadata of theirs"
            yield Frame(data)
        while len(self._frames) > 2 * MAX_WAITING:  # the program writes no times
            self.problem = "frames come without their times: it is not rpicam-vid, or too old a version of it"
            self._frames.popleft()


def _numbers(text: bytes | None) -> "NDArray[np.float32] | None":
    """The numbers of `[ 0.1, 0.2 ]`; None where there are none."""
    inner = (text or b"").strip().removeprefix(b"[").removesuffix(b"]").strip()
    if not inner:
        return None
    try:
        return np.array(inner.split(b","), np.float32)
    except ValueError:
        return None


def _crop(entries: dict[bytes, bytes]) -> tuple[float, float, float, float]:
    found = _CROP.fullmatch(entries.get(b"ScalerCrop", b"").strip())
    if found is None:
        return WHOLE
    x, y, width, height = (int(number) for number in found.groups())
    if not (0 < width <= SENSOR[0] and 0 < height <= SENSOR[1]):
        return WHOLE
    return x / SENSOR[0], y / SENSOR[1], width / SENSOR[0], height / SENSOR[1]
