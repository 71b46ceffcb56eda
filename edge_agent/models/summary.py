"""Predictions of many windows of one input, summed up: the mean of each class or value, and the most in a window."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.samples import Prediction

# Tasks whose predictions of several windows can be put into one.
TASKS = ("classification", "regression", "anomaly")


@dataclass(slots=True)
class _Seen:
    """One class or value over all windows."""

    example: Prediction
    total: float
    most: float
    at: float | None


class Summary:
    """Sums up windows, which are added in order."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, _Seen] = {}
        self._windows = 0

    def add(self, predictions: Sequence[Prediction], begins: float | None) -> None:
        """Adds a window.

        Args:
            predictions: of all classes or values.
            begins: when the window begins, in seconds.
        """
        self._windows += 1
        for place, one in enumerate(predictions):
            score = one.value if one.confidence is None else one.confidence
            if score is None:
                continue
            key = place if one.confidence is None else (one.class_id, one.label)
            known = self._seen.setdefault(key, _Seen(one, 0.0, score, begins))
            known.total += score
            if score > known.most:
                known.example, known.most, known.at = one, score, begins

    def predictions(self, top_k: int, min_confidence: float) -> list[dict[str, Any]]:
        """The predictions of all windows, in the form of a result's `predictions`.

        `confidence` or `value` is the mean over the windows, as is usual for the frames of YAMNet
        (https://www.tensorflow.org/hub/tutorials/yamnet); `most` is the highest, `most_at_s` where its window begins.

        Args:
            top_k: most predictions that are returned.
            min_confidence: those that do not reach it in any window are left out.

        Returns:
            Classes with the highest mean first; values in the model's order.
        """
        kept = [one for one in self._seen.values() if one.example.confidence is None or one.most >= min_confidence]
        kept.sort(key=lambda one: 0.0 if one.example.confidence is None else -one.total)
        return [self._as_dict(one) for one in kept[:top_k]]

    def _as_dict(self, one: _Seen) -> dict[str, Any]:
        key, digits = ("value", 7) if one.example.confidence is None else ("confidence", 4)
        at = {} if one.at is None else {"most_at_s": round(one.at, 3)}
        mean, most = round(one.total / self._windows, digits), round(one.most, digits)
        return one.example.as_dict() | {key: mean, "most": most} | at
