"""What has happened lately: events with a picture of each, and how often each label was seen; in memory."""

import itertools
import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from edge_agent import settings
from edge_agent.counters import Dropped
from edge_agent.errors import EdgeAgentError
from edge_agent.monitoring.agent_status import AgentStatus
from edge_agent.monitoring.page.answers import Answer, Request, as_json, not_found
from edge_agent.postprocess.thresholds import NORMAL
from edge_agent.preprocess.decoding import pixels_of
from edge_agent.publish.drawing import annotate, encode_jpeg
from edge_agent.samples import Prediction, Sample
from edge_agent.sources.observer import Observation

MOST_EVENTS, MOST_LISTED, MOST_LABELS = 3000, 100, 40
# A picture of an event: its largest side in pixels, its bytes, and seconds between two of one pipeline.
SIDE, MOST_BYTES, PICTURE_EVERY = 640, 60_000, 1.0
# Seconds without a label after which it counts as seen again, where a pipeline reports no events.
GAP = 30.0
# Of the timeline.
PART, DAY = 900, 86_400
OTHERS = "others"
_ENDS = ("leave", "end")


@dataclass(slots=True)
class Event:
    """Something that has happened.

    Attributes:
        number: counts up, from 1.
        at: when it began, seconds since the epoch.
        kind: as published; `seen` for a label that a pipeline without events has found.
        label: of what; of an alarm the channel.
        zone: where, or which line was crossed.
        seconds: how long it has lasted; None while it lasts, or if it has no duration.
        has_picture: whether there is a picture of it.
    """

    number: int
    at: float
    pipeline: str
    kind: str
    label: str
    zone: str
    track_id: int | None
    confidence: float | None
    seconds: float | None = None
    has_picture: bool = False


class EventLog:
    """Observes all pipelines of an agent and remembers what has happened.

    Args:
        memory: bytes for pictures; the oldest are forgotten first.
    """

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._open: OrderedDict[tuple[object, ...], Event] = OrderedDict()
        self._pictures: OrderedDict[int, bytes] = OrderedDict()
        self._size = 0
        self._parts: OrderedDict[int, Counter[tuple[str, str]]] = OrderedDict()

    def attach(self, agent: AgentStatus) -> None:
        """Observes the pipelines of an agent; those that are observed already get their new options."""
        for name, options in agent.config().settings.pipelines.items():
            observers = agent.observers_of(name)
            mine = [one for one in list(observers) if isinstance(one, Watcher)]
            for one in mine:
                one.options = options
            if not mine:
                observers.append(Watcher(self, name, options))

    def begin(self, event: Event, key: tuple[object, ...]) -> None:
        """Adds an event; `key` is what its end is known by."""
        with self._lock:
            event.number = next(self._numbers)
            self._events.append(event)
            self._open[key] = event
            while len(self._open) > MOST_EVENTS:
                self._open.popitem(last=False)
            part = self._parts.setdefault(int(event.at // PART), Counter())
            known = {label for counts in self._parts.values() for _, label in counts}
            label = event.label if event.label in known or len(known) < MOST_LABELS else OTHERS
            part[event.pipeline, label] += 1
            newest = max(self._parts)
            for old in [one for one in self._parts if one <= newest - DAY // PART]:
                del self._parts[old]

    def lasts(self, key: tuple[object, ...], seconds: float, *, ended: bool) -> bool:
        """Notes how long an event has lasted; returns whether it is known."""
        with self._lock:
            event = self._open.get(key)
            if event is None:
                return False
            event.seconds = round(seconds, 1)
            if ended:
                del self._open[key]
            return True

    def show(self, event: Event, jpeg: bytes) -> None:
        """Adds the picture of an event; forgets the oldest ones where memory is short."""
        with self._lock:
            event.has_picture = True
            self._pictures[event.number] = jpeg
            self._size += len(jpeg)
            while self._size > self.memory:
                _, old = self._pictures.popitem(last=False)
                self._size -= len(old)

    def listed(self, request: Request) -> Answer:
        """Events, newest first: `pipeline`, `label`, `zone`, `since`, `until`, `before=NUMBER`."""
        wanted = {key: value for key in ("pipeline", "label", "zone") if (value := request.text(key))}
        since, until = request.number("since", 0.0), request.number("until", math.inf)
        before = request.number("before", math.inf)
        with self._lock:
            fitting = (
                one
                for one in reversed(self._events)
                if one.number < before
                and since <= one.at <= until
                and all(getattr(one, key) == value for key, value in wanted.items())
            )
            found = [
                asdict(one) | {"has_picture": one.number in self._pictures}
                for one in itertools.islice(fitting, MOST_LISTED + 1)
            ]
            choices = {key: sorted({getattr(one, key) for one in self._events} - {""}) for key in ("label", "zone")}
        return as_json({"events": found[:MOST_LISTED], "more": len(found) > MOST_LISTED, "choices": choices})

    def timeline(self, request: Request) -> Answer:
        """How often each label was seen in each quarter of an hour of the last day: `pipeline`."""
        pipeline, last = request.text("pipeline"), int(time.time() // PART)
        first = last - DAY // PART + 1
        rows: dict[str, list[int]] = {}
        with self._lock:
            for part, counts in self._parts.items():
                for (name, label), count in counts.items():
                    if first <= part <= last and pipeline in ("", name):
                        rows.setdefault(label, [0] * (DAY // PART))[part - first] += count
        ranked = sorted(rows.items(), key=lambda row: -sum(row[1]))
        return as_json({"begins": first * PART, "every": PART, "labels": dict(ranked)})

    def picture(self, request: Request) -> Answer:
        """The picture of an event."""
        number = int(request.name) if request.name.isascii() and request.name.isdigit() else 0
        with self._lock:
            jpeg = self._pictures.get(number)
        if jpeg is None:
            return not_found("picture")
        return Answer(HTTPStatus.OK, jpeg, "image/jpeg", (("Cache-Control", "private, max-age=86400"),))


class Watcher:
    """Observes one pipeline.

    Args:
        log: takes what happens.
        pipeline: its name.
        options: its settings.
    """

    def __init__(self, log: EventLog, pipeline: str, options: settings.Pipeline) -> None:
        self.options = options
        self._log = log
        self._pipeline = pipeline
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._next_picture = -math.inf

    def needs_image(self, sample: Sample) -> bool:  # noqa: ARG002 - the few that are shown are decoded again
        """See `ResultObserver`."""
        return False

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        """What could not be used has shown nothing."""

    def on_end(self) -> None:
        """Nothing more happens."""

    def on_result(self, observation: Observation) -> None:
        """Notes what has happened."""
        events = [] if observation.work is None else observation.work.events
        if self._reports_events:
            begun = [event for one in events if (event := self._published(one, observation.sample))]
        else:
            begun = self._labels(observation)
        if begun:
            self._show(begun[-1], observation)

    @property
    def _reports_events(self) -> bool:
        learns = isinstance(self.options.model, settings.Statistics)
        return learns or self.options.tracking is not None or self.options.smoothing is not None

    def _published(self, facts: Mapping[str, Any], sample: Sample) -> Event | None:
        """A new event of a pipeline that reports some; None if it goes on with one that is known."""
        kind, seconds = str(facts["event"]), float(facts.get("seconds", 0.0))
        label = str(facts.get("label") or facts.get("channel") or facts.get("class_id", ""))
        zone = str(facts.get("zone") or facts.get("line") or facts.get("topic") or "")
        track = facts.get("track_id")
        key = (self._pipeline, track, zone) if track is not None else (self._pipeline, label, zone)
        if kind in (*_ENDS, "dwell") and self._log.lasts(key, seconds, ended=kind in _ENDS):
            return None
        if kind == "cross":
            zone, key = f"{zone} {facts.get('direction', '')}", (*key, sample.captured)
        at = sample.captured_at - seconds
        event = Event(0, at, self._pipeline, kind, label, zone, track, facts.get("confidence"))
        self._log.begin(event, key)
        return event

    def _labels(self, observation: Observation) -> list[Event]:
        """Labels that were not there a while ago, of a pipeline that reports no events."""
        if self.options.regions or self.options.meter is not None:
            return []
        at, begun = observation.sample.captured_at, list[Event]()
        for label, one in _shown(observation.predictions).items():
            since, last = self._seen.pop(label, (at, -math.inf))
            key = (self._pipeline, label)
            if at - last > GAP:
                since = at
                zone = ", ".join(one.zones or ())
                event = Event(0, at, self._pipeline, "seen", label, zone, one.track_id, one.confidence)
                self._log.begin(event, key)
                begun.append(event)
            else:
                self._log.lasts(key, at - since, ended=False)
            self._seen[label] = since, at
        while len(self._seen) > MOST_LABELS:
            self._seen.popitem(last=False)
        return begun

    def _show(self, event: Event, observation: Observation) -> None:
        now = time.monotonic()
        if now < self._next_picture or not self._log.memory:
            return
        image = pixels_of(observation.sample.data) if observation.image is None else observation.image
        if image is None:
            return
        self._next_picture = now + PICTURE_EVERY
        zones, regions = self.options.filters.zones, self.options.regions
        picture = annotate(image, observation.predictions, regions=regions, zones=zones, max_side=SIDE)
        self._log.show(event, encode_jpeg(picture, MOST_BYTES))


def _shown(predictions: Iterable[Prediction]) -> dict[str, Prediction]:
    """What predictions say, by label: of those without a place the first one only."""
    found: dict[str, Prediction] = {}
    for number, one in enumerate(predictions):
        placed = one.box is not None or one.keypoints is not None
        if one.label is not None and one.label != NORMAL and (placed or number == 0):
            found.setdefault(one.label, one)
    return found
