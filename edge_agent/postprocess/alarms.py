"""Alarms of the built-in detector: each channel of each stream has a baseline, and an alarm begins and ends.

While there is an alarm, nothing is learned, so that what is unusual does not become usual; what lasts for longer than
`settle` does.
"""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from edge_agent.errors import InputError
from edge_agent.postprocess import persisted
from edge_agent.postprocess.baseline import Baseline, Reason, Verdict
from edge_agent.postprocess.thresholds import ANOMALY, NORMAL
from edge_agent.samples import Prediction, Sample
from edge_agent.settings.statistics import Statistics

log = logging.getLogger(__name__)

MAX_CHANNELS = 64
# What is learned is written at most this often, in seconds: flash cards wear out.
SAVE_EVERY = 900.0
# An alarm ends below this score, so that one at the edge of the band does not end and begin all the time.
CALM = 0.8


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm begins or ends.

    Attributes:
        time: seconds on the monotonic clock.
        kind: `alarm`: it begins; `end`.
        channel: name of the reading.
        topic: where it comes from; None where the source has no topics.
        facts: reason, reading, expected band; of an end, the duration.
    """

    time: float
    kind: Literal["alarm", "end"]
    channel: str
    topic: str | None
    facts: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """As published, without the device, the pipeline and the time."""
        topic = {} if self.topic is None else {"topic": self.topic}
        return {"event": self.kind, "channel": self.channel, **topic, **self.facts}


@dataclass(slots=True)
class _Channel:
    """A channel of a stream.

    Attributes:
        reason: of the alarm that goes on; None: there is none.
        began: when it began, in seconds since the epoch.
        against: readings in a row that speak against the present state.
    """

    topic: str | None
    name: str
    baseline: Baseline
    reason: Reason | None = None
    began: float = 0.0
    against: int = 0
    overdue: bool = False


class Alarms:
    """The channels of a pipeline. One thread at a time, except for `silent`.

    Args:
        name: of the pipeline.
        options: of the detector.
        file: where what is learned is kept; None: nowhere.
    """

    def __init__(self, name: str, options: Statistics, file: Path | None) -> None:
        self._name = name
        self._options = options
        self._file = file
        self._saved_at = time.monotonic()
        self._new = False

    @cached_property
    def _channels(self) -> dict[str, _Channel]:
        """By topic and name. Read when first needed: after a reload, the pipeline before this one has saved by then."""
        document = persisted.read(self._file)
        found: dict[str, _Channel] = {}
        if document.get("options") != self._key:
            return found
        try:
            for topic, name, kept in document["channels"]:
                found[_key(topic, name)] = _Channel(topic, name, Baseline(self._options, kept))
        except (LookupError, TypeError, ValueError, AttributeError):
            log.warning("%s: what has been learned can't be read: learning again", self._name)
            return {}
        return found

    @property
    def _key(self) -> dict[str, Any]:
        """The options on which it depends what a value is."""
        return {"every": self._options.every, "by": self._options.by}

    def update(self, predictions: Sequence[Prediction], sample: Sample) -> tuple[list[Prediction], list[Alarm]]:
        """Judges readings.

        Args:
            predictions: one for each channel; `value` is the reading, `details` has the channel and its unit.
            sample: that they come from.

        Returns:
            The same with scores as values, and the alarms that have begun or ended.

        Raises:
            InputError: there are too many channels.
        """
        judged, happened = [], []
        for one in predictions:
            if one.value is not None:
                found, events = self._judge(one, one.value, sample)
                judged.append(found)
                happened += events
        if time.monotonic() - self._saved_at >= SAVE_EVERY or self._new:
            self.save()
        return judged, happened

    def overdue(self, now: float, clock: float) -> Iterator[Alarm]:
        """Alarms of channels from which nothing has come for too long; each once.

        Args:
            now: seconds since the epoch.
            clock: the same moment on the monotonic clock.
        """
        for channel in list(self._channels.values()):
            at = channel.baseline.overdue_at
            if at is not None and now > at and not channel.overdue:
                channel.overdue = True
                yield Alarm(clock, "alarm", channel.name, channel.topic, {"reason": "gap"})

    @property
    def silent(self) -> list[str]:
        """The channels from which nothing has come for too long. From any thread."""
        return [
            f"{channel.topic} {channel.name}".removeprefix("None ")
            for channel in list(self._channels.values())
            if channel.overdue
        ]

    def save(self) -> None:
        """Writes what has been learned."""
        self._saved_at, self._new = time.monotonic(), False
        channels = [[one.topic, one.name, one.baseline.as_json()] for one in self._channels.values()]
        if channels:
            document = {"options": self._key, "channels": channels}
            persisted.write(self._file, document, self._name, "what has been learned")

    def _judge(self, reading: Prediction, value: float, sample: Sample) -> tuple[Prediction, list[Alarm]]:
        channel = self._channel(sample.stream, str((reading.details or {}).get("channel")))
        baseline, at, events = channel.baseline, sample.captured_at, list[Alarm]()
        if channel.overdue:
            channel.overdue = False
            waited = at - baseline.last_at
            ended = {"reason": "gap", "duration_s": round(waited, 1)}
            events.append(Alarm(sample.captured, "end", channel.name, channel.topic, ended))
        was_learning = baseline.is_learning
        verdict = baseline.judge(value, at)
        events += self._follow(channel, verdict, value, sample)
        if channel.reason is None and verdict.reason is None:
            channel.baseline.learn(value, at)
        else:
            channel.baseline.skip(value, at)
        self._new |= was_learning and not channel.baseline.is_learning
        return self._described(reading, value, verdict, channel), events

    def _follow(self, channel: _Channel, verdict: Verdict, value: float, sample: Sample) -> Iterator[Alarm]:
        """Begins and ends the channel's alarm."""
        at = sample.captured_at
        facts: dict[str, Any] = {"reading": _rounded(value)}
        if verdict.expected is not None:
            facts["expected"] = [_rounded(end) for end in verdict.expected]
        if channel.reason is not None and at - channel.began >= self._options.settle:
            yield from self._end(channel, {**facts, "settled": True}, sample)
            channel.baseline = Baseline(self._options, {})
            return
        against = verdict.reason is not None
        if channel.reason is not None:
            against = verdict.reason is None and (verdict.score is None or verdict.score < CALM)
        channel.against = channel.against + 1 if against else 0
        if channel.against < self._options.confirm:
            return
        if channel.reason is not None:
            yield from self._end(channel, facts, sample)
        else:
            channel.reason, channel.began, channel.against = verdict.reason, at, 0
            about = {"reason": verdict.reason, **facts}
            yield Alarm(sample.captured, "alarm", channel.name, channel.topic, about)

    def _end(self, channel: _Channel, facts: Mapping[str, Any], sample: Sample) -> Iterator[Alarm]:
        lasted = round(max(0.0, sample.captured_at - channel.began), 1)
        about = {"reason": channel.reason, **facts, "duration_s": lasted}
        channel.reason, channel.against = None, 0
        yield Alarm(sample.captured, "end", channel.name, channel.topic, about)

    def _described(self, reading: Prediction, value: float, verdict: Verdict, channel: _Channel) -> Prediction:
        details: dict[str, Any] = {**(reading.details or {}), "reading": _rounded(value)}
        if verdict.expected is None or verdict.score is None:
            return replace(reading, label=None, value=None, details={**details, "learning": True})
        details["expected"] = [_rounded(end) for end in verdict.expected]
        if channel.reason is not None:
            details["reason"] = channel.reason
        label = NORMAL if channel.reason is None else ANOMALY
        return replace(reading, label=label, value=round(verdict.score, 3), details=details)

    def _channel(self, topic: str | None, name: str) -> _Channel:
        key = _key(topic, name)
        if key not in self._channels:
            if len(self._channels) >= MAX_CHANNELS:
                raise InputError(f"{name}: more than {MAX_CHANNELS} readings: use several pipelines")
            self._channels[key] = _Channel(topic, name, Baseline(self._options, {}))
        return self._channels[key]


def _key(topic: str | None, name: str) -> str:
    return f"{topic or ''}\n{name}"


def _rounded(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else 0.0
