"""Multi-object tracking: objects keep their number from frame to frame; events report that they appear, stay and leave.

Detections are matched with tracks in the order of ByteTrack (https://arxiv.org/abs/2110.06864): first the confident
ones, then the others, which can continue a track (of a partly hidden object) but not start one. A new track has to be
detected twice. A Kalman filter with constant velocity predicts positions, as in SORT
(https://arxiv.org/abs/1602.00763), but in seconds instead of frames, since frames are dropped. Overlap is measured
between boxes with a margin, as in C-BIoU (https://arxiv.org/abs/2211.14317): at the few frames per second of a small
device, a walking person leaves their own box from one frame to the next. Pairs are matched greedily, the best first.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from edge_agent import settings
from edge_agent.decoders.boxes import iou, xywh_to_xyxy
from edge_agent.postprocess.filters import Box, Point, extent
from edge_agent.postprocess.lines import Crossing, Direction, Lines, Side, Totals
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Maximum number of tracks; further ones are not started.
MAX_TRACKS = 200
# Of a detection that starts a track, where neither the settings nor the model state one.
START_CONFIDENCE = 0.5
# Detections below this confidence are ignored, as in ByteTrack's code.
MIN_CONFIDENCE = 0.1
# Boxes are compared with a margin on each side, a fraction of their longer side.
MARGIN = 0.5
# Minimum IoU, of boxes with their margin, of a track and its next detection.
MIN_IOU = 0.3
# Of two boxes of a frame with a higher IoU, at most one starts a track. Non-maximum suppression often leaves two
# detections of a moving person.
DUPLICATE_IOU = 0.4
# Factor on the IoU where the classes differ: detectors alternate between car and truck, but not often.
OTHER_CLASS_FACTOR = 0.5
# Variances of the Kalman filter, in squares of the object's size and seconds, after ByteTrack's for 30 frames a second:
# of a measured position; of the initial velocity; and how much that of the velocity grows per second.
MEASURED = 0.05**2
FIRST_VELOCITY = 2.0**2
ACCELERATION = 1.0**2

Kind = Literal["enter", "leave", "dwell"]
Four = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an object.

    Attributes:
        kind: `enter`, `leave` or `dwell`.
        time: on the clock of `Tracker.update`: of the first detection (enter), of the last one (leave), or of the one
            at which the object had stayed long enough (dwell).
        seconds: for how long the object had been there.
        zone: where; None: in the frame.
        track_id: of the object.
        label, class_id, confidence: of its most confident detection so far.
        box: of the last detection: x1, y1, x2, y2 in pixels.
    """

    kind: Kind
    time: float
    seconds: float
    zone: str | None
    track_id: int
    label: str | None
    class_id: int | None
    confidence: float | None
    box: Box

    def as_dict(self) -> dict[str, Any]:
        """As published, without the device, the pipeline and the time."""
        zone = {} if self.zone is None else {"zone": self.zone}
        detection = Prediction(self.label, self.class_id, self.confidence, box=self.box).as_dict()
        return {"event": self.kind, "track_id": self.track_id, **zone, "seconds": round(self.seconds, 3), **detection}


class _Detection(NamedTuple):
    """A prediction with a position: its box x1, y1, x2, y2, and as centre x, centre y, width, height, in pixels."""

    prediction: Prediction
    box: Box
    place: Four
    confidence: float


@dataclass(slots=True)
class _Stay:
    """A visit of an object to a zone, or to the frame."""

    since: float
    until: float = 0.0
    detections: int = 0
    dwelt: bool = False


@dataclass(slots=True, eq=False)
class _Track:
    """A tracked object.

    `place` is centre x, centre y, width, height in pixels; `velocity` is the change of the first two in pixels per
    second. `variances` are those of the position, of position and velocity (covariance), and of the velocity, for both
    axes: noise is taken to be proportional to the size of the object, so that the filter's gains do not depend on it.
    `track_id` is 0 until the track is confirmed.
    """

    best: _Detection
    last: _Detection
    place: Four
    velocity: tuple[float, float] = (0.0, 0.0)
    variances: tuple[float, float, float] = (MEASURED, 0.0, FIRST_VELOCITY)
    seen: float = 0.0
    detections: int = 0
    track_id: int = 0
    stays: dict[str | None, _Stay] = field(default_factory=dict)
    sides: dict[str, Side] = field(default_factory=dict)

    @property
    def foot(self) -> Point:
        """Where it stands: the middle of its lower edge, x, y in pixels."""
        x, y, _, height = self.place
        return x, y + height / 2

    def predict(self, seconds: float) -> None:
        """Kalman prediction: moves the position on by this many seconds."""
        (x, y, width, height), (speed_x, speed_y) = self.place, self.velocity
        self.place = x + speed_x * seconds, y + speed_y * seconds, width, height
        a, b, c = self.variances
        self.variances = (
            a + seconds * (2 * b + seconds * (c + ACCELERATION * seconds / 3)),
            b + seconds * (c + ACCELERATION * seconds / 2),
            c + ACCELERATION * seconds,
        )

    def correct(self, detection: _Detection, now: float) -> None:
        """Kalman update with the position of a detection."""
        a, b, c = self.variances
        gain, speed_gain = a / (a + MEASURED), b / (a + MEASURED)
        (x, y, width, height), (to_x, to_y, to_width, to_height) = self.place, detection.place
        self.velocity = self.velocity[0] + speed_gain * (to_x - x), self.velocity[1] + speed_gain * (to_y - y)
        self.place = (
            x + gain * (to_x - x),
            y + gain * (to_y - y),
            width + gain * (to_width - width),
            height + gain * (to_height - height),
        )
        self.variances = (a * (1 - gain), b * (1 - gain), c - speed_gain * b)
        self.seen, self.last = now, detection
        self.detections += 1
        if detection.confidence > self.best.confidence:
            self.best = detection


class Tracker:
    """Assigns the predictions of successive frames to tracks. Not thread-safe.

    Args:
        options: of the pipeline.
        ids: numbers for new tracks; default: 1, 2, 3 …
        lines: that are counted across.
        totals: of the lines.
        calibrated: see `Model.min_confidence`.
    """

    def __init__(
        self,
        options: settings.Tracking,
        ids: Iterator[int] | None = None,
        lines: Lines | None = None,
        totals: Totals | None = None,
        calibrated: float | None = None,
    ) -> None:
        stated = options.start_confidence
        default = START_CONFIDENCE if calibrated is None else calibrated
        self._start_confidence = default if stated is None else stated
        self._lines = lines or Lines({})
        self._totals = totals or Totals("", {}, None)
        self._options = options
        self._ids = ids or itertools.count(1)
        self._tracks: list[_Track] = []
        self._now: float | None = None

    def update(self, predictions: Sequence[Prediction], time: float) -> tuple[list[Prediction], list[Event | Crossing]]:
        """Processes the predictions of the next frame, also if there are none.

        Args:
            predictions: of the frame. Those without a position or a confidence are returned unchanged.
            time: when the frame was taken, in seconds on a monotonic clock.

        Returns:
            The predictions of confirmed tracks with their `track_id`, in the same order, and those that can't be
            tracked; and the events, in order of time.
        """
        elapsed = 0.0 if self._now is None else max(0.0, time - self._now)
        self._now = time if self._now is None else self._now + elapsed
        events = self._drop_lost(self._now - self._options.lost_after)
        for track in self._tracks:
            track.predict(elapsed)
        detections = {row: seen for row, one in enumerate(predictions) if (seen := _detection(one)) is not None}
        owners = self._owners(detections)
        kept = []
        for row, prediction in enumerate(predictions):
            if row in owners:
                events += self._add(owners[row], detections[row], self._now)
                if owners[row].track_id:
                    kept.append(replace(prediction, track_id=owners[row].track_id))
            elif row not in detections:
                kept.append(prediction)
        return kept, sorted(events, key=lambda event: event.time)

    def _is_confident(self, detection: _Detection) -> bool:
        return detection.confidence >= self._start_confidence

    def _owners(self, detections: Mapping[int, _Detection]) -> dict[int, _Track]:
        """The track of each detection, by the detection's row. Confident detections without a track start one."""
        confident = {row: one for row, one in detections.items() if self._is_confident(one)}
        weak = {
            row: one for row, one in detections.items() if row not in confident and one.confidence >= MIN_CONFIDENCE
        }
        known = [track for track in self._tracks if track.track_id]
        owners = _matched(known, confident)
        unseen = [track for track in known if track not in owners.values()]
        owners |= _matched(unseen, weak)
        rest = {row: one for row, one in confident.items() if row not in owners}
        new = {row: one for row, one in rest.items() if not _is_duplicate(one, [detections[owned] for owned in owners])}
        owners |= _matched([track for track in self._tracks if not track.track_id], new)
        for row, detection in new.items():
            if row in owners or len(self._tracks) == MAX_TRACKS:
                continue
            if not _is_duplicate(detection, [detections[owned] for owned in owners]):
                owners[row] = _Track(detection, detection, detection.place)
                self._tracks.append(owners[row])
        return owners

    def _add(self, track: _Track, detection: _Detection, now: float) -> Iterator[Event | Crossing]:
        """Adds a detection to its track."""
        track.correct(detection, now)
        if track.detections == self._options.confirm:
            track.track_id = next(self._ids)
        zones = detection.prediction.zones
        for zone in (None,) if zones is None else zones:
            stay = track.stays.setdefault(zone, _Stay(now))
            stay.until = now
            stay.detections += 1
            if stay.detections == self._options.confirm:
                yield _event("enter", track, zone, stay.since, 0.0)
            long_enough = self._options.dwell is not None and now - stay.since >= self._options.dwell
            if long_enough and stay.detections >= self._options.confirm and not stay.dwelt:
                stay.dwelt = True
                yield _event("dwell", track, zone, now, now - stay.since)
        for line, direction in self._lines.follow(track.sides, track.foot, _size(track)):
            yield self._crossing(track, line, direction)

    def _crossing(self, track: _Track, line: str, direction: Direction) -> Crossing:
        best, totals = track.best.prediction, self._totals.add(line, direction)
        about = best.label, best.class_id, best.confidence, track.last.box
        return Crossing(track.seen, line, direction, totals, track.track_id, *about)

    def _drop_lost(self, unseen_since: float) -> list[Event | Crossing]:
        """Ends stays in zones, and tracks, without a detection since then."""
        events: list[Event | Crossing] = []
        for track in self._tracks:
            for zone, stay in list(track.stays.items()):
                if stay.until < unseen_since:
                    del track.stays[zone]
                    if stay.detections >= self._options.confirm:
                        events.append(_event("leave", track, zone, stay.until, stay.until - stay.since))
            if track.track_id and track.seen < unseen_since:
                x1, _, x2, y2 = track.last.box
                beyond = self._lines.end(track.sides, ((x1 + x2) / 2, y2), track.velocity)
                events += [self._crossing(track, line, direction) for line, direction in beyond]
        self._tracks = [track for track in self._tracks if track.seen >= unseen_since]
        return events


def _event(kind: Kind, track: _Track, zone: str | None, time: float, seconds: float) -> Event:
    best, box = track.best.prediction, track.last.box
    return Event(kind, time, seconds, zone, track.track_id, best.label, best.class_id, best.confidence, box)


def _size(track: _Track) -> float:
    _, _, width, height = track.place
    return math.sqrt(max(0.0, width * height))


def _detection(prediction: Prediction) -> _Detection | None:
    box = extent(prediction)
    if box is None or prediction.confidence is None:
        return None
    x1, y1, x2, y2 = box
    return _Detection(prediction, box, ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), prediction.confidence)


def _with_margin(places: Iterable[Four]) -> "NDArray[np.float32]":
    """Boxes (N, 4) x1, y1, x2, y2 with the margin, from N tuples of centre x, centre y, width, height, in pixels."""
    boxes = np.array(list(places), np.float32)
    boxes[:, 2:] += 2 * MARGIN * boxes[:, 2:].max(axis=1, keepdims=True)
    return xywh_to_xyxy(boxes)


def _is_duplicate(detection: _Detection, others: Sequence[_Detection]) -> bool:
    """Whether a detection duplicates another one of the same class in the same frame."""
    same = [other.box for other in others if other.prediction.class_id == detection.prediction.class_id]
    return bool(same) and bool(
        (iou(np.array([detection.box], np.float32), np.array(same, np.float32)) > DUPLICATE_IOU).any()
    )


def _matched(tracks: Sequence[_Track], detections: Mapping[int, _Detection]) -> dict[int, _Track]:
    """Matches tracks with detections by overlap, the best pairs first: the track by the row of its detection."""
    if not tracks or not detections:
        return {}
    rows = list(detections)
    same = [[track.best.prediction.class_id == detections[row].prediction.class_id for row in rows] for track in tracks]
    overlaps = iou(
        _with_margin(track.place for track in tracks), _with_margin(detections[row].place for row in rows)
    ) * np.where(same, np.float32(1), np.float32(OTHER_CLASS_FACTOR))
    candidates = np.flatnonzero(overlaps >= MIN_IOU)
    matched: dict[int, _Track] = {}
    taken: set[int] = set()
    for pair in candidates[np.argsort(-overlaps.ravel()[candidates], kind="stable")].tolist():
        number, column = divmod(pair, len(rows))
        if number not in taken and rows[column] not in matched:
            taken.add(number)
            matched[rows[column]] = tracks[number]
    return matched
