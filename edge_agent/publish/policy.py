"""Which results are published, and to which further topic. No input or output here, only decisions."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from edge_agent import settings
from edge_agent.samples import NO_LABEL, Prediction
from edge_agent.settings import topics

# Most characters of a label in a topic: as a rule, and where the topic would be too long.
_MAX_LABEL = 1000
_SHORT_LABEL = 32

# What a result says, in short: of each region the label that wins, or how many objects of each label, or a value.
Statement = dict[tuple[str | None, ...], Any]


class PublishPolicy:
    """Decides for each result of one pipeline, in order, whether it is published.

    Args:
        options: of the pipeline.
        min_confidence: of the pipeline.
        task: what its model does.

    Attributes:
        min_confidence: of the pipeline; it changes with the version of its model.
    """

    def __init__(self, options: settings.Publish, min_confidence: float, task: str) -> None:
        self._options = options
        self.min_confidence = min_confidence
        self._task = task
        self._published_at: float | None = None
        self._published: Statement = {}

    def allows(self, predictions: Sequence[Prediction], now: float) -> bool:
        """Whether a result is published; if so, later ones are compared with it.

        Args:
            predictions: of the result.
            now: when its sample was taken, on the monotonic clock.
        """
        statement = self._statement(predictions)
        if not self._wanted(statement, now):
            return False
        self._published_at, self._published = now, statement
        return True

    def _wanted(self, statement: Statement, now: float) -> bool:
        if self._published_at is None:
            return True
        # Samples of several connections need not come in the order in which they were taken.
        passed = max(0.0, now - self._published_at)
        if passed < self._options.min_interval:
            return False
        if self._options.heartbeat is not None and passed >= self._options.heartbeat:
            return True
        return not self._options.on_change or self._task in ("embedding", "raw") or statement != self._published

    def _statement(self, predictions: Sequence[Prediction]) -> Statement:
        """What a result says; where it hardly differs from what the last published one said, it says the same."""
        match self._task:
            case "classification":
                return winners(predictions, self._published, self._options.hysteresis, self.min_confidence)
            case "anomaly" if any(one.label for one in predictions):
                return {(one.region, (one.details or {}).get("channel")): one.label for one in predictions}
            case "regression" | "anomaly" | "meter":
                return values(predictions, self._published, self._options.hysteresis)
        return numbers(predictions, self._published, self._options.hysteresis, self.min_confidence)


def winners(
    predictions: Sequence[Prediction], before: Statement, hysteresis: float, min_confidence: float
) -> Statement:
    """The most confident label of each region; another one than before only if it leads that by `hysteresis`."""
    regions: dict[str | None, dict[str, float]] = defaultdict(dict)
    for prediction in predictions:
        regions[prediction.region].setdefault(prediction.name, prediction.certainty)
    statement: Statement = {}
    for region, confidences in regions.items():
        best = max(confidences, key=confidences.__getitem__)
        last = before.get((region,))
        lead = confidences[best] - (min_confidence if last is None else _confidence(last, confidences))
        winner = best if lead >= hysteresis else last
        if winner is not None:
            statement[region,] = winner
    return statement


def _confidence(label: str, confidences: Mapping[str, float]) -> float:
    """Of a label that need not have been listed; it has then no more than the listed ones leave over."""
    if label in confidences:
        return confidences[label]
    return max(0.0, min(*confidences.values(), 1.0 - sum(confidences.values())))


def numbers(
    predictions: Sequence[Prediction], before: Statement, hysteresis: float, min_confidence: float
) -> Statement:
    """How many objects of each label.

    One more than before counts only if its confidence is above the least by `hysteresis`; one less counts when it is
    below the least.
    """
    listed: dict[tuple[str | None, ...], int] = defaultdict(int)
    certain: dict[tuple[str | None, ...], int] = defaultdict(int)
    for prediction in predictions:
        key = prediction.region, prediction.name
        listed[key] += 1
        certain[key] += prediction.certainty >= min_confidence + hysteresis
    counted = {key: max(certain[key], min(number, before.get(key, 0))) for key, number in listed.items()}
    return {key: number for key, number in counted.items() if number}


def values(predictions: Sequence[Prediction], before: Statement, hysteresis: float) -> Statement:
    """The value of each region and label; another one than before only if it is farther from that than `hysteresis`."""
    statement: Statement = {}
    for prediction in predictions:
        key, value = (prediction.region, prediction.name), prediction.value
        last = before.get(key)
        near = value is not None and last is not None and abs(value - last) <= hysteresis
        statement[key] = last if near else value
    return statement


def topic_of(template: str, device_id: str, pipeline: str, predictions: Sequence[Prediction]) -> str:
    """The further topic of a result.

    Args:
        template: may hold `{device_id}`, `{pipeline}` and `{label}`, that of the most confident prediction.
        device_id: as configured.
        pipeline: its name.
        predictions: of the result.
    """
    best = max(predictions, key=lambda prediction: prediction.certainty, default=None)
    label = topics.as_level((best.name if best else "")[:_MAX_LABEL]) or NO_LABEL
    names = {"{device_id}": device_id, "{pipeline}": pipeline, "{label}": label}

    def filled_in() -> str:
        return re.sub(r"\{\w+\}", lambda name: names[name[0]], template)

    topic = filled_in()
    if len(topic.encode()) > topics.MAX_BYTES:
        names["{label}"] = label[:_SHORT_LABEL]
        topic = filled_in()
    return f"_{topic[1:]}" if topic.startswith("$") else topic
