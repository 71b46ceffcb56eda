"""Which samples are kept: the rules, and how many samples each of them may take."""

import random
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from edge_agent import settings
from edge_agent.postprocess.agreement import agreement
from edge_agent.samples import Prediction
from edge_agent.sources.observer import Observation, Work

Reason = Literal["confidence", "margin", "disagreement", "flicker", "anomaly", "failed", "event", "random", "command"]
REASONS: tuple[Reason, ...] = (
    "confidence",
    "margin",
    "disagreement",
    "flicker",
    "anomaly",
    "failed",
    "event",
    "random",
    "command",
)
FLICKER_WITHIN = 10.0
MAX_TRACKS = 256
HOUR = 3600.0


class Rules:
    """Looks at results one by one, in their order.

    Args:
        options: the rules.
        draw: gives random numbers, 0 to 1.
    """

    def __init__(self, options: settings.KeepRules, draw: Callable[[], float] = random.random) -> None:
        self._options = options
        self._draw = draw
        self._flicker = None if options.flicker is None else Flicker(options.flicker)

    def reasons(self, observation: Observation, others: Sequence[Prediction] | None = None) -> list[Reason]:
        """Why a sample is kept; empty: it is not.

        Args:
            observation: its result.
            others: what `compare_with` has predicted for the same input; None: nothing is known.
        """
        return list(self._applying(observation, others))

    def _applying(self, observation: Observation, others: Sequence[Prediction] | None) -> Iterator[Reason]:
        options, predictions, work = self._options, observation.predictions, observation.work
        is_classification = work is not None and work.task == "classification"
        if self._is_unsure(best_of_regions(predictions) if is_classification else predictions):
            yield "confidence"
        if options.margin is not None and is_classification and _margin(predictions) < options.margin:
            yield "margin"
        if others is not None and work is not None and self.disagree(work.task, predictions, others):
            yield "disagreement"
        if self._flicker is not None and self._flicker.update(predictions, observation.sample.captured):
            yield "flicker"
        if options.anomaly is not None and work is not None and _is_near(predictions, work, options.anomaly):
            yield "anomaly"
        if options.event and work is not None and any(event.get("event") in options.event for event in work.events):
            yield "event"
        if options.random and self._draw() < options.random:
            yield "random"

    def disagree(self, task: str, one: Sequence[Prediction], other: Sequence[Prediction]) -> bool:
        """Whether two models agree less than the rule wants."""
        least = self._options.disagreement
        return least is not None and agreement(task, one, other) < least

    def _is_unsure(self, predictions: Sequence[Prediction]) -> bool:
        bands, any_label = self._options.labels, self._options.confidence
        if not bands and any_label is None:
            return False
        for one in predictions:
            band = bands.get(one.name, any_label)
            if one.confidence is not None and band is not None and band[0] <= one.confidence <= band[1]:
                return True
        return False


class Flicker:
    """Counts how often the label of each tracked object has changed lately.

    Args:
        changes: as many within `FLICKER_WITHIN` seconds are a flicker.
    """

    def __init__(self, changes: int) -> None:
        self._changes = changes
        self._tracks: OrderedDict[int, tuple[str, deque[float]]] = OrderedDict()

    def update(self, predictions: Sequence[Prediction], now: float) -> bool:
        """Whether the label of an object flickers with this result; its count begins again then."""
        flickers = False
        for one in predictions:
            if one.track_id is None:
                continue
            before, changes = self._tracks.pop(one.track_id, (one.name, deque[float](maxlen=self._changes)))
            if one.name != before:
                changes.append(now)
            if len(changes) == self._changes and now - changes[0] <= FLICKER_WITHIN:
                flickers = True
                changes.clear()
            self._tracks[one.track_id] = one.name, changes
        while len(self._tracks) > MAX_TRACKS:
            self._tracks.popitem(last=False)
        return flickers


class Budget:
    """How many samples each reason may take within an hour.

    Args:
        per_hour: for all reasons together.
        max_share: the part of it that one reason may take.
        now: seconds on a clock that never jumps.
    """

    def __init__(self, per_hour: int, max_share: float, now: Callable[[], float] = time.monotonic) -> None:
        self._per_hour = per_hour
        self._per_reason = max(1, int(per_hour * max_share))
        self._now = now
        self._taken: deque[tuple[float, Reason]] = deque()
        self._counts: Counter[Reason] = Counter()

    def take(self, reasons: Sequence[Reason]) -> tuple[Reason | None, Literal["", "rate", "share"]]:
        """Takes room for one sample.

        Args:
            reasons: why it is kept; the first that has room left is charged.

        Returns:
            The reason that is charged and "", or None and which bound has no room.
        """
        if "command" in reasons:
            return "command", ""
        now = self._now()
        while self._taken and now - self._taken[0][0] >= HOUR:
            self._counts[self._taken.popleft()[1]] -= 1
        if len(self._taken) >= self._per_hour:
            return None, "rate"
        for reason in reasons:
            if self._counts[reason] < self._per_reason:
                self._taken.append((now, reason))
                self._counts[reason] += 1
                return reason, ""
        return None, "share"


def best_of_regions(predictions: Sequence[Prediction]) -> list[Prediction]:
    """The first prediction of each region, which is the most confident one."""
    best: dict[str | None, Prediction] = {}
    for one in predictions:
        best.setdefault(one.region, one)
    return list(best.values())


def _margin(predictions: Sequence[Prediction]) -> float:
    """By how much the best prediction of a region is ahead of the second, where that is least; 1 where nothing is."""
    ranked: dict[str | None, list[float]] = {}
    for one in predictions:
        ranked.setdefault(one.region, []).append(one.certainty)
    return min((ranks[0] - ranks[1] for ranks in ranked.values() if len(ranks) > 1), default=1.0)


def _is_near(predictions: Sequence[Prediction], work: Work, share: float) -> bool:
    threshold = work.threshold
    if threshold is None:
        return False
    return any(one.value is not None and abs(one.value - threshold) <= share * abs(threshold) for one in predictions)
