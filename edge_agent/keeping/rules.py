"""Which samples are kept: the rules, and how many samples each of them may take."""

import random
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from edge_agent import settings
from edge_agent.postprocess.agreement import agreement
from edge_agent.samples import Prediction, Sample
from edge_agent.sources.observer import Work

Reason = Literal[
    "confidence",
    "margin",
    "disagreement",
    "flicker",
    "anomaly",
    "probability",
    "finish_reason",
    "failed",
    "event",
    "random",
    "command",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
FLICKER_WITHIN = 10.0
MAX_TRACKS = 256
HOUR = 3600.0


class Seen(NamedTuple):
    """What is remembered of a result: without the tensors and pixels that only serving needs.

    Attributes:
        size: bytes that its sample takes in memory.
    """

    sample: Sample
    seq: int | None
    predictions: Sequence[Prediction]
    work: Work | None
    size: int


class Rules:
    """Looks at results one by one, in their order.

    Args:
        options: the rules.
        draw: gives random numbers, 0 to 1.
    """

    def __init__(self, options: settings.KeepRules, draw: Callable[[], float] = random.random) -> None:
        self._options = options
        self._draw = draw
        self._bands, self._any_label = options.labels, options.confidence
        self._least_margin, self._share = options.margin or 0.0, options.random
        self._flicker = Flicker(options.flicker or 1)
        # Those that are stated: for every result that is looked at, the others cost nothing.
        rules: tuple[tuple[Reason, object, Callable[[Seen], bool]], ...] = (
            ("confidence", options.labels or options.confidence is not None, self._is_unsure),
            ("margin", options.margin, self._is_close),
            ("flicker", options.flicker, self._flickers),
            ("anomaly", options.anomaly, self._is_near),
            (
                "probability",
                options.least_probability is not None or options.mean_probability is not None,
                self._is_improbable,
            ),
            ("finish_reason", options.finish_reason, self._has_ended_so),
            ("event", options.event, self._has_event),
            ("random", options.random, self._is_drawn),
        )
        self._rules = [(reason, applies) for reason, stated, applies in rules if stated]

    def reasons(self, seen: Seen, others: Sequence[Prediction] | None = None) -> list[Reason]:
        """Why a sample is kept; empty: it is not. Takes about a microsecond where no rule applies.

        Args:
            seen: the result.
            others: what `compare_with` has predicted for the same input; None: nothing is known.
        """
        found: list[Reason] = []
        work = seen.work
        if others is not None and work is not None and self.disagree(work.task, seen.predictions, others):
            found.append("disagreement")
        for reason, applies in self._rules:
            if applies(seen):
                found.append(reason)
        return found

    def disagree(self, task: str, one: Sequence[Prediction], other: Sequence[Prediction]) -> bool:
        """Whether two models agree less than the rule wants."""
        least = self._options.disagreement
        return least is not None and agreement(task, one, other) < least

    def _is_unsure(self, seen: Seen) -> bool:
        predictions, bands, any_label = seen.predictions, self._bands, self._any_label
        for one in best_of_regions(predictions) if _is_classification(seen) else predictions:
            band = bands.get(one.name, any_label) if bands else any_label
            if one.confidence is not None and band is not None and band[0] <= one.confidence <= band[1]:
                return True
        return False

    def _is_close(self, seen: Seen) -> bool:
        return _is_classification(seen) and _margin(seen.predictions) < self._least_margin

    def _flickers(self, seen: Seen) -> bool:
        return self._flicker.update(seen.predictions, seen.sample.captured)

    def _is_near(self, seen: Seen) -> bool:
        work, share = seen.work, self._options.anomaly
        if work is None or work.threshold is None or share is None:
            return False
        threshold, width = work.threshold, share * abs(work.threshold)
        return any(one.value is not None and abs(one.value - threshold) <= width for one in seen.predictions)

    def _is_improbable(self, seen: Seen) -> bool:
        probability = _answer(seen).get("probability", {})
        bands = ("least", self._options.least_probability), ("mean", self._options.mean_probability)
        known = ((band, probability[key]) for key, band in bands if band is not None and key in probability)
        return any(band[0] <= value <= band[1] for band, value in known)

    def _has_ended_so(self, seen: Seen) -> bool:
        return _answer(seen).get("finish_reason") in self._options.finish_reason

    def _has_event(self, seen: Seen) -> bool:
        work = seen.work
        return work is not None and any(event.get("event") in self._options.event for event in work.events)

    def _is_drawn(self, seen: Seen) -> bool:  # noqa: ARG002 - whatever it is
        return self._draw() < self._share


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


def _is_classification(seen: Seen) -> bool:
    return seen.work is not None and seen.work.task == "classification"


def _answer(seen: Seen) -> Mapping[str, Any]:
    """What a language model has answered; empty where there are predictions."""
    return (seen.work and seen.work.answer) or {}


def best_of_regions(predictions: Sequence[Prediction]) -> Sequence[Prediction]:
    """The first prediction of each region, which is the most confident one."""
    if predictions and predictions[0].region is None:  # no regions
        return predictions[:1]
    best: dict[str | None, Prediction] = {}
    for one in predictions:
        best.setdefault(one.region, one)
    return list(best.values())


def _margin(predictions: Sequence[Prediction]) -> float:
    """By how much the best prediction of a region is ahead of the second, where that is least; 1 where nothing is."""
    if len(predictions) > 1 and predictions[0].region is None:  # no regions
        return predictions[0].certainty - predictions[1].certainty
    ranked: dict[str | None, list[float]] = {}
    for one in predictions:
        ranked.setdefault(one.region, []).append(one.certainty)
    return min((ranks[0] - ranks[1] for ranks in ranked.values() if len(ranks) > 1), default=1.0)
