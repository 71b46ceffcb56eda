"""Smooths the labels of a classifier from window to window, by mean or majority, and finds when labels hold."""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from edge_agent.samples import Prediction, Sample, Series
from edge_agent.settings.series import Smoothing
from edge_agent.timeseries.cutting import MAX_STREAMS


@dataclass(frozen=True, slots=True)
class LabelInterval:
    """The start or the end of an interval in which a label holds.

    Attributes:
        kind: `start` or `end`.
        time: when, on the clock of `Sample.captured`.
        seconds: length of the interval so far.
        label, class_id: of the class.
        confidence: the highest smoothed confidence so far.
        topic: of the stream, where it has one.
    """

    kind: Literal["start", "end"]
    time: float
    seconds: float
    label: str | None
    class_id: int | None
    confidence: float
    topic: str | None

    def as_dict(self) -> dict[str, Any]:
        """As published, without the device, the pipeline and the time."""
        topic = {} if self.topic is None else {"topic": self.topic}
        label = Prediction(self.label, self.class_id, self.confidence).as_dict()
        return {"event": self.kind, "seconds": round(self.seconds, 3), **label, **topic}


class Moment(NamedTuple):
    """When a sample was taken.

    Attributes:
        captured: on the clock of `Sample.captured`.
        position: in seconds of the stream, if its rate is known: a file may be read faster than real time.
    """

    captured: float
    position: float


BEGIN = Moment(0.0, 0.0)


@dataclass(slots=True)
class _Holding:
    """A label that holds: its smoothed confidence is high enough."""

    prediction: Prediction
    since: Moment
    reported: bool = False


@dataclass(slots=True)
class _Stream:
    """The state of one stream."""

    recent: deque[dict[str, float]]
    holding: dict[str, _Holding] = field(default_factory=dict)
    last: Moment = BEGIN


class Smoother:
    """Smooths the classifications of a pipeline. Each topic is a stream of its own.

    Args:
        options: of the pipeline.
    """

    def __init__(self, options: Smoothing) -> None:
        self._options = options
        self._off = options.on if options.off is None else options.off
        self._streams: OrderedDict[str | None, _Stream] = OrderedDict()

    def update(self, predictions: Sequence[Prediction], sample: Sample) -> tuple[list[Prediction], list[LabelInterval]]:
        """Smooths one result.

        Args:
            predictions: of all classes.
            sample: the input that they are about. Samples come in the order in which they were taken.

        Returns:
            The same predictions with smoothed confidences, the most confident first, and the intervals that started or
            ended.
        """
        topic = sample.stream
        stream = self._streams.setdefault(topic, _Stream(deque(maxlen=self._options.over)))
        self._streams.move_to_end(topic)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        intervals: list[LabelInterval] = []
        if isinstance(sample.data, Series) and sample.data.gap:
            intervals += self._ended(stream, set(stream.holding), stream.last, topic)
            stream.recent.clear()
        stream.recent.append(self._scores(predictions))
        smoothed = [
            replace(one, confidence=sum(past.get(one.name, 0.0) for past in stream.recent) / len(stream.recent))
            for one in predictions
        ]
        smoothed.sort(key=lambda one: -one.certainty)
        stream.last = _moment(sample)
        return smoothed, intervals + self._changes(stream, smoothed, stream.last, topic)

    def _scores(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """What one result adds to the smoothed confidence of each label."""
        scores = {one.name: one.certainty for one in predictions}
        return {max(scores, key=scores.__getitem__): 1.0} if scores and self._options.by == "majority" else scores

    def _changes(
        self, stream: _Stream, smoothed: Sequence[Prediction], now: Moment, topic: str | None
    ) -> list[LabelInterval]:
        over: set[str] = set()
        intervals: list[LabelInterval] = []
        for one in smoothed:
            name, confidence = one.name, one.certainty
            held = stream.holding.get(name)
            if held is None and confidence >= self._options.on:
                held = stream.holding[name] = _Holding(one, now)
            if held is None:
                continue
            if confidence < self._off:
                over.add(name)
                continue
            if confidence > held.prediction.certainty:
                held.prediction = one
            if not held.reported and now.position - held.since.position >= self._options.min_duration:
                held.reported = True
                intervals.append(_interval("start", held, held.since, topic))
        return [*self._ended(stream, over, now, topic), *intervals]

    @staticmethod
    def _ended(stream: _Stream, names: set[str], now: Moment, topic: str | None) -> Iterator[LabelInterval]:
        for name in [name for name in stream.holding if name in names]:
            held = stream.holding.pop(name)
            if held.reported:
                yield _interval("end", held, now, topic)


def _interval(kind: Literal["start", "end"], held: _Holding, at: Moment, topic: str | None) -> LabelInterval:
    one, lasted = held.prediction, at.position - held.since.position
    return LabelInterval(kind, at.captured, lasted, one.label, one.class_id, one.certainty, topic)


def _moment(sample: Sample) -> Moment:
    return Moment(sample.captured, sample.stream_time)
