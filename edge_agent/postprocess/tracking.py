"""Objects keep their number from frame to frame, and events tell of their coming, staying and going.

Sightings are matched with objects in the order of ByteTrack (https://arxiv.org/abs/2110.06864): first the confident
ones; then the others, which may be something half hidden but never something new; and what is new has to be seen twice.
Where an object should be by now is told by a Kalman filter of constant velocity, as in SORT
(https://arxiv.org/abs/1602.00763), but in seconds instead of frames, since frames are dropped. Overlap is measured
between boxes with a margin, as in C-BIoU (https://arxiv.org/abs/2211.14317): at the few frames a second of a small
machine, somebody who walks has left his own box from one frame to the next. Pairs are taken greedily, the best first.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from edge_agent import settings
from edge_agent.decoders.boxes import iou, xywh_to_xyxy
from edge_agent.postprocess.filters import Box, extent
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Objects that are known at a time; no more are begun.
MAX_TRACKS = 200
# An object counts, and so does its being in a zone, once it has been seen so often.
SIGHTINGS = 2
# Unsure sightings below this confidence are noise, as in ByteTrack's code.
NOISE = 0.1
# Boxes are compared with a margin on each side, a share of their longer side. With it, overlaps (IoU) from this on may
# be the same object.
MARGIN = 0.5
LEAST_OVERLAP = 0.3
# Of two boxes of a frame that overlap by more than this (IoU), as most suppression of overlaps just lets pass, one at
# most begins an object: detectors see somebody who moves twice.
TWIN = 0.4
# Where labels differ, the overlap counts for less: detectors waver between car and truck, but not often.
OTHER_LABEL = 0.5
# Variances of the Kalman filter, in squares of the object's size and seconds, after ByteTrack's for 30 frames a second:
# of a measured place; of the velocity at first; and by how much that of the velocity grows in a second.
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
        time: when, on the clock of `Tracker.update`: first seen, last seen, or seen when it had been there long enough.
        seconds: for how long the object had been there then.
        zone: where; None: in the frame.
        track_id: of the object.
        label, class_id, confidence: of its most confident sighting so far.
        box: where it was seen last: x1, y1, x2, y2 in pixels.
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
        """As published, except for when and by whom."""
        zone = {} if self.zone is None else {"zone": self.zone}
        sighting = Prediction(self.label, self.class_id, self.confidence, box=self.box).as_dict()
        return {"event": self.kind, "track_id": self.track_id, **zone, "seconds": round(self.seconds, 3), **sighting}


class _Sighting(NamedTuple):
    """A prediction that may be of an object, its box x1, y1, x2, y2, and centre x, centre y, width, height of that."""

    prediction: Prediction
    box: Box
    place: Four
    confidence: float


@dataclass(slots=True)
class _Stay:
    """A visit of an object to a zone, or to the frame."""

    since: float
    until: float = 0.0
    sightings: int = 0
    dwelt: bool = False


@dataclass(slots=True, eq=False)
class _Track:
    """An object.

    `place` is centre x, centre y, width, height in pixels, `velocity` the change of the first two in a second. The
    variances are those of a place, of place and velocity together, and of a velocity, and hold for both directions:
    noise is taken to be proportional to the size of the object, and then the filter's gains do not depend on that size.
    `track_id` is 0 until the object has been seen often enough.
    """

    best: _Sighting
    last: _Sighting
    place: Four
    velocity: tuple[float, float] = (0.0, 0.0)
    variances: tuple[float, float, float] = (MEASURED, 0.0, FIRST_VELOCITY)
    seen: float = 0.0
    sightings: int = 0
    track_id: int = 0
    stays: dict[str | None, _Stay] = field(default_factory=dict)

    def predict(self, seconds: float) -> None:
        """Moves on to where it should be by now."""
        (x, y, width, height), (speed_x, speed_y) = self.place, self.velocity
        self.place = x + speed_x * seconds, y + speed_y * seconds, width, height
        a, b, c = self.variances
        self.variances = (
            a + seconds * (2 * b + seconds * (c + ACCELERATION * seconds / 3)),
            b + seconds * (c + ACCELERATION * seconds / 2),
            c + ACCELERATION * seconds,
        )

    def correct(self, sighting: _Sighting, now: float) -> None:
        """Takes in where it has been seen."""
        a, b, c = self.variances
        gain, speed_gain = a / (a + MEASURED), b / (a + MEASURED)
        (x, y, width, height), (to_x, to_y, to_width, to_height) = self.place, sighting.place
        self.velocity = self.velocity[0] + speed_gain * (to_x - x), self.velocity[1] + speed_gain * (to_y - y)
        self.place = (
            x + gain * (to_x - x),
            y + gain * (to_y - y),
            width + gain * (to_width - width),
            height + gain * (to_height - height),
        )
        self.variances = (a * (1 - gain), b * (1 - gain), c - speed_gain * b)
        self.seen, self.last = now, sighting
        self.sightings += 1
        if sighting.confidence > self.best.confidence:
            self.best = sighting


class Tracker:
    """Tells which predictions of successive frames are the same object. Not thread-safe.

    Args:
        options: what is wanted.
        ids: where the numbers of new objects come from; default: 1, 2, 3 …
    """

    def __init__(self, options: settings.Tracking, ids: Iterator[int] | None = None) -> None:
        self._options = options
        self._ids = ids or itertools.count(1)
        self._tracks: list[_Track] = []
        self._now: float | None = None

    def update(self, predictions: Sequence[Prediction], time: float) -> tuple[list[Prediction], list[Event]]:
        """Takes the predictions of the next frame, also if there are none.

        Args:
            predictions: of the frame. Those that say no place or no confidence pass as they are.
            time: when it was taken, seconds on a monotonic clock.

        Returns:
            The predictions in the same order, those of known objects with their `track_id`, without the unsure ones
            that are no known object; and what has happened, in order.
        """
        elapsed = 0.0 if self._now is None else max(0.0, time - self._now)
        self._now = time if self._now is None else self._now + elapsed
        events = self._forget(self._now - self._options.lost_after)
        for track in self._tracks:
            track.predict(elapsed)
        sightings = {row: seen for row, one in enumerate(predictions) if (seen := _sighting(one)) is not None}
        owners = self._owners(sightings)
        told = []
        for row, prediction in enumerate(predictions):
            if row in owners:
                events += self._see(owners[row], sightings[row], self._now)
                told.append(replace(prediction, track_id=owners[row].track_id or None))
            elif row not in sightings or self._is_sure(sightings[row]):
                told.append(prediction)
        return told, sorted(events, key=lambda event: event.time)

    def _is_sure(self, sighting: _Sighting) -> bool:
        return sighting.confidence >= self._options.start_confidence

    def _owners(self, sightings: Mapping[int, _Sighting]) -> dict[int, _Track]:
        """The object of each sighting, by the sighting's row; what is new and sure begins one."""
        sure = {row: one for row, one in sightings.items() if self._is_sure(one)}
        unsure = {row: one for row, one in sightings.items() if row not in sure and one.confidence >= NOISE}
        known = [track for track in self._tracks if track.track_id]
        owners = _matched(known, sure)
        unseen = [track for track in known if track not in owners.values()]
        owners |= _matched(unseen, unsure)
        rest = {row: one for row, one in sure.items() if row not in owners}
        new = {row: one for row, one in rest.items() if not _is_twin(one, [sightings[owned] for owned in owners])}
        owners |= _matched([track for track in self._tracks if not track.track_id], new)
        for row, sighting in new.items():
            if row in owners or len(self._tracks) == MAX_TRACKS:
                continue
            if not _is_twin(sighting, [sightings[owned] for owned in owners]):
                owners[row] = _Track(sighting, sighting, sighting.place)
                self._tracks.append(owners[row])
        return owners

    def _see(self, track: _Track, sighting: _Sighting, now: float) -> Iterator[Event]:
        """An object has been seen."""
        track.correct(sighting, now)
        if track.sightings == SIGHTINGS:
            track.track_id = next(self._ids)
        zones = sighting.prediction.zones
        for zone in (None,) if zones is None else zones:
            stay = track.stays.setdefault(zone, _Stay(now))
            stay.until = now
            stay.sightings += 1
            if stay.sightings == SIGHTINGS:
                yield _event("enter", track, zone, stay.since, 0.0)
            long_enough = self._options.dwell is not None and now - stay.since >= self._options.dwell
            if long_enough and stay.sightings >= SIGHTINGS and not stay.dwelt:
                stay.dwelt = True
                yield _event("dwell", track, zone, now, now - stay.since)

    def _forget(self, unseen_since: float) -> list[Event]:
        """Ends stays of objects that have not been seen there since then, and forgets those not seen anywhere."""
        events = []
        for track in self._tracks:
            for zone, stay in list(track.stays.items()):
                if stay.until < unseen_since:
                    del track.stays[zone]
                    if stay.sightings >= SIGHTINGS:
                        events.append(_event("leave", track, zone, stay.until, stay.until - stay.since))
        self._tracks = [track for track in self._tracks if track.seen >= unseen_since]
        return events


def _event(kind: Kind, track: _Track, zone: str | None, time: float, seconds: float) -> Event:
    best, box = track.best.prediction, track.last.box
    return Event(kind, time, seconds, zone, track.track_id, best.label, best.class_id, best.confidence, box)


def _sighting(prediction: Prediction) -> _Sighting | None:
    box = extent(prediction)
    if box is None or prediction.confidence is None:
        return None
    x1, y1, x2, y2 = box
    return _Sighting(prediction, box, ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), prediction.confidence)


def _with_margin(places: Iterable[Four]) -> "NDArray[np.float32]":
    """Boxes (N, 4) x1, y1, x2, y2 of centres and sizes, with the margin."""
    boxes = np.array(list(places), np.float32)
    boxes[:, 2:] += 2 * MARGIN * boxes[:, 2:].max(axis=1, keepdims=True)
    return xywh_to_xyxy(boxes)


def _is_twin(sighting: _Sighting, others: Sequence[_Sighting]) -> bool:
    """Whether it is another sighting of an object that has been sighted."""
    same = [other.box for other in others if other.prediction.class_id == sighting.prediction.class_id]
    return bool(same) and bool((iou(np.array([sighting.box], np.float32), np.array(same, np.float32)) > TWIN).any())


def _matched(tracks: Sequence[_Track], sightings: Mapping[int, _Sighting]) -> dict[int, _Track]:
    """The objects of sightings by the row of the sighting: the pairs that overlap most, none of them twice."""
    if not tracks or not sightings:
        return {}
    rows = list(sightings)
    same = [[track.best.prediction.class_id == sightings[row].prediction.class_id for row in rows] for track in tracks]
    overlaps = iou(
        _with_margin(track.place for track in tracks), _with_margin(sightings[row].place for row in rows)
    ) * np.where(same, np.float32(1), np.float32(OTHER_LABEL))
    candidates = np.flatnonzero(overlaps >= LEAST_OVERLAP)
    matched: dict[int, _Track] = {}
    taken: set[int] = set()
    for pair in candidates[np.argsort(-overlaps.ravel()[candidates], kind="stable")].tolist():
        number, column = divmod(pair, len(rows))
        if number not in taken and rows[column] not in matched:
            taken.add(number)
            matched[rows[column]] = tracks[number]
    return matched
