"""Counts tracked objects that cross a line, with the direction, and keeps the totals across restarts.

An object is on one side of a line or the other; it has changed sides once it is beyond the line by a margin, so that
one that stops on the line, and whose box trembles, is counted once or not at all. Only a path through the line's own
length counts, as in supervision's counting lines (https://supervision.roboflow.com/latest/detection/tools/line_zone/).
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from edge_agent import settings
from edge_agent.errors import InputError
from edge_agent.postprocess import persisted
from edge_agent.postprocess.filters import Box, Point, bounding_box, in_pixels
from edge_agent.samples import Prediction

Direction = Literal["in", "out"]
# How far beyond a line an object is on its other side, in sizes of the object (square root of its area).
MARGIN = 0.2
# Totals are written at most this often, in seconds: flash cards wear out.
SAVE_EVERY = 30.0


class Side(NamedTuple):
    """On which side of a line an object is.

    Attributes:
        sign: 1: to the right of somebody who looks along the line; -1: to the left.
        point: x, y where it has last been on it without doubt, in pixels.
    """

    sign: int
    point: Point


@dataclass(frozen=True, slots=True)
class Crossing:
    """An object has crossed a line.

    Attributes:
        time: as in `tracking.Event`.
        line: its name.
        direction: `in`: from the left to the right of somebody who looks along the line; `out`: the other way.
        totals: of the line, with this crossing.
        track_id, label, class_id, confidence, box: as in `tracking.Event`.
    """

    time: float
    line: str
    direction: Direction
    totals: Mapping[str, int]
    track_id: int
    label: str | None
    class_id: int | None
    confidence: float | None
    box: Box
    kind: Literal["cross"] = "cross"

    def as_dict(self) -> dict[str, Any]:
        """As published, without the device, the pipeline and the time."""
        detection = Prediction(self.label, self.class_id, self.confidence, box=self.box).as_dict()
        about = {"event": self.kind, "line": self.line, "direction": self.direction, **self.totals}
        return {**about, "track_id": self.track_id, **detection}


class Lines:
    """The lines of a pipeline, in pixels of its frames. Has no memory of objects: their sides belong to their tracks.

    Args:
        options: by name.
    """

    def __init__(self, options: Mapping[str, settings.Line]) -> None:
        self._options = options
        self._ends: dict[str, tuple[Point, Point]] = {}
        self._size = (0, 0)

    def fit(self, width: int, height: int) -> None:
        """Takes the size of the frames, in pixels.

        Raises:
            InputError: a line in pixels reaches beyond the frame.
        """
        if (width, height) == self._size:
            return
        for name, line in self._options.items():
            start, end = in_pixels((line.from_, line.to), width, height)
            _, _, x, y = bounding_box((start, end))
            if x > width or y > height:
                raise InputError(
                    f"line {name!r} reaches to ({x:g}, {y:g}), the frame has only {width} x {height} pixels"
                )
            self._ends[name] = start, end
        self._size = width, height

    def follow(self, sides: dict[str, Side], point: Point, size: float) -> Iterator[tuple[str, Direction]]:
        """The lines that an object has crossed since it was last followed.

        Args:
            sides: of the object, by line; changed.
            point: where it is, x, y in pixels.
            size: of the object, in pixels.
        """
        for name, (start, end) in self._ends.items():
            distance = _distance(point, start, end)
            sign, before = (1 if distance > 0 else -1), sides.get(name)
            if before is None:
                sides[name] = Side(sign, point)
            elif abs(distance) >= MARGIN * size:
                sides[name] = Side(sign, point)
                if sign != before.sign and _meets(before.point, point, start, end):
                    yield name, "in" if sign > 0 else "out"

    def end(self, sides: Mapping[str, Side], point: Point, velocity: Point) -> Iterator[tuple[str, Direction]]:
        """The lines beyond which an object has vanished, within the margin and on its way across.

        Args:
            sides: of the object, by line.
            point: where it was last, x, y in pixels.
            velocity: of the object, in pixels a second.
        """
        for name, (start, end) in self._ends.items():
            before = sides.get(name)
            distance = _distance(point, start, end)
            later = _distance((point[0] + velocity[0], point[1] + velocity[1]), start, end)
            if before is None or distance * before.sign >= 0 or (later - distance) * before.sign >= 0:
                continue
            if _meets(before.point, point, start, end):
                yield name, "in" if before.sign < 0 else "out"


def _distance(point: Point, start: Point, end: Point) -> float:
    """How far a point is to the right of the way from start to end, in pixels; y points down."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    across = along_x * (point[1] - start[1]) - along_y * (point[0] - start[0])
    return across / (math.hypot(along_x, along_y) or 1.0)


def _meets(before: Point, after: Point, start: Point, end: Point) -> bool:
    """Whether the way between two points, on two sides of a line, leads between the line's ends."""
    first, last = _distance(before, start, end), _distance(after, start, end)
    share = first / (first - last)
    x, y = before[0] + share * (after[0] - before[0]), before[1] + share * (after[1] - before[1])
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    position = (x - start[0]) * along_x + (y - start[1]) * along_y
    return 0 <= position <= along_x**2 + along_y**2


@dataclass(slots=True)
class _Total:
    """How many have crossed a line since a moment, in seconds since the epoch."""

    since: float
    counts: dict[str, int] = field(default_factory=lambda: {"in": 0, "out": 0})


class Totals:
    """Totals of a pipeline's lines. Not thread-safe.

    Args:
        name: of the pipeline.
        options: of its lines, by name.
        file: where totals are kept; None: nowhere.
    """

    def __init__(self, name: str, options: Mapping[str, settings.Line], file: Path | None) -> None:
        self._name = name
        self._options = options
        self._file = file
        self._changed, self._saved_at = False, -math.inf

    @cached_property
    def _totals(self) -> dict[str, _Total]:
        """Read when they are first needed: after a reload, the pipeline before this one has saved them by then."""
        kept = self._kept()
        return {line: kept.get(line) or _Total(time.time()) for line in self._options}

    def add(self, line: str, direction: Direction) -> dict[str, int]:
        """Counts a crossing; returns the line's totals."""
        counts = self._totals[line].counts
        counts[direction] += 1
        self._changed = True
        return dict(counts)

    def at(self, now: float) -> dict[str, dict[str, int]]:
        """The totals by line. At their time of day they begin again; they are saved from time to time.

        Args:
            now: seconds since the epoch.
        """
        for line, options in self._options.items():
            total = self._totals[line]
            if options.reset is not None and total.since < _latest(options.reset, now):
                self._totals[line] = _Total(now)
                self._changed = True
        if self._changed and time.monotonic() - self._saved_at >= SAVE_EVERY:
            self.save()
        return {line: dict(total.counts) for line, total in self._totals.items()}

    def save(self) -> None:
        """Writes the totals, if they have changed."""
        if not self._changed:
            return
        self._changed, self._saved_at = False, time.monotonic()
        document = {line: {"since": total.since, **total.counts} for line, total in self._totals.items()}
        persisted.write(self._file, document, self._name, "the totals of its lines")

    def _kept(self) -> dict[str, _Total]:
        found = {}
        for line, kept in persisted.read(self._file).items():
            if isinstance(kept, dict) and isinstance(since := kept.get("since"), int | float):
                counts = {way: kept.get(way) for way in ("in", "out")}
                if all(type(count) is int and count >= 0 for count in counts.values()):
                    found[line] = _Total(float(since), {way: int(count or 0) for way, count in counts.items()})
        return found


def _latest(reset: str, now: float) -> float:
    """The latest moment, not after `now`, at which local clocks showed this time of day, `HH:MM`."""
    hour, minute = map(int, reset.split(":"))
    day = time.localtime(now)
    for days in (0, 1):
        moment = time.mktime((day.tm_year, day.tm_mon, day.tm_mday - days, hour, minute, 0, 0, 0, -1))
        if moment <= now:
            return moment
    return -math.inf
