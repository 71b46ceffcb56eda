"""Compares what a model predicts with what is right, sample by sample: one judge for each task; classification."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edge_agent.errors import ConfigError
from edge_agent.evaluation import metrics
from edge_agent.evaluation.labelled import Dataset, LabelledSample
from edge_agent.evaluation.labels import Matching
from edge_agent.samples import NO_LABEL, Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What an evaluation is to be like.

    Attributes:
        mapping: label of the data -> label or number of a class of the model; None: such samples are left out.
        normal: the label of normal samples, for anomaly models; None: one of the usual names.
        false_alarms: share of normal samples that a threshold may take for anomalies, 0 to 1.
    """

    mapping: Mapping[str, str | None] = field(default_factory=dict)
    normal: str | None = None
    false_alarms: float = 0.01


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one sample.

    Attributes:
        where: the file of the sample, or where it stands in a table.
        expected: in words.
        found: in words.
        score: how right it is, 0 to 1.
        badness: orders mistakes, the worst first: how sure the model was of what is wrong, how far off it was.
        boxes: x1, y1, x2, y2 of what was found in a picture where it is not.
    """

    where: str
    expected: str
    found: str
    score: float
    badness: float
    boxes: tuple[tuple[float, float, float, float], ...] = ()


class Judge(Protocol):
    """Judges the predictions of one model for one data set.

    Attributes:
        outcomes: of the samples so far, in order.
    """

    outcomes: list[Outcome]

    def admits(self, sample: LabelledSample) -> bool:
        """Whether a sample counts; the mapping of labels may leave it out."""
        ...

    def add(self, sample: LabelledSample, predictions: Sequence[Prediction], facts: Mapping[str, Any]) -> None:
        """Judges a sample.

        Args:
            sample: with what is right for it.
            predictions: of the model.
            facts: of the input: `width`, `height` in pixels, of a picture.
        """
        ...

    def finish(self) -> None:
        """Called after the last sample.

        Raises:
            ConfigError: nothing that the model names is a label of the data, so that no measure would mean anything.
        """
        ...

    def statistic(self, weights: "NDArray[np.float64]") -> dict[str, float]:
        """The measures, where each sample counts as often as `weights` (samples,) say."""
        ...

    @property
    def steps(self) -> int:
        """How much work a statistic is."""
        ...

    def per_class(self) -> list[dict[str, Any]]:
        """What is known of each class: `label`, its number of samples or objects, its measures."""
        ...


def expect(dataset: Dataset, kind: str, task: str, needed: str) -> None:
    """Checks that a data set labels what a task needs.

    Raises:
        ConfigError: it does not.
    """
    if dataset.kind != kind:
        found = {
            "labels": "a label for each sample",
            "objects": "objects in pictures",
            "masks": "masks",
            "requests": "requests with answers",
        }[dataset.kind]
        message = f"the model's task is {task}, which needs {needed}; found {found} ({dataset.format})"
        raise ConfigError([f"{dataset.path}: {message}"])


class Classified:
    """Judges classification.

    Args:
        dataset: of labels.
        labels: of the model.
        options: of the evaluation.

    Attributes:
        names: of the classes that occur, by the numbers that `truth` and `found` have.
        truth, found: numbers of the classes, by sample.
        confidences: of the first prediction, by sample.

    Raises:
        ConfigError: the data has no labels, or some that the model does not know.
    """

    def __init__(self, dataset: Dataset, labels: Sequence[str], options: Options) -> None:
        expect(dataset, "labels", "classification", "a label for each sample")
        self._matching = Matching(labels, options.mapping)
        self._key_of = self._matching.resolve(dataset.classes)
        self._several = len(labels) > TOP
        self.outcomes: list[Outcome] = []
        self.names: list[str] = []
        self._number: dict[str, int] = {}
        self._shown: dict[str, str] = {}
        self.truth: list[int] = []
        self.found: list[int] = []
        self._ranks: list[int] = []
        self.confidences: list[float] = []

    def admits(self, sample: LabelledSample) -> bool:
        """See `Judge`."""
        return self._key_of[sample.label or ""] is not None

    def add(self, sample: LabelledSample, predictions: Sequence[Prediction], facts: Mapping[str, Any]) -> None:
        """See `Judge`."""
        del facts
        label = sample.label or ""
        right = self._key_of[label] or ""
        keys = [self._matching.key(one.label, one.class_id) for one in predictions]
        rank = keys.index(right) if right in keys else TOP
        first = predictions[0] if predictions else None
        confidence = first.confidence or 0.0 if first else 0.0
        self.truth.append(self._numbered(right, label))
        self.found.append(self._numbered(keys[0] if keys else NO_LABEL, first.name if first else NO_LABEL))
        self._ranks.append(rank)
        self.confidences.append(confidence)
        named = f"{first.name} {confidence:.2f}" if first else NO_LABEL
        score = float(rank == 0)
        self.outcomes.append(Outcome(sample.name, label, named, score, 0.0 if score else confidence))

    def finish(self) -> None:
        """See `Judge`."""
        self._matching.check_seen(key for key in self._key_of.values() if key is not None)

    def _numbered(self, key: str, shown: str) -> int:
        if key not in self._number:
            self._number[key] = len(self.names)
            self.names.append(shown)
        return self._number[key]

    @property
    def right(self) -> "NDArray[np.float64]":
        """1 where the first prediction is right, else 0: (samples,)."""
        return np.array([one.score for one in self.outcomes])

    def statistic(self, weights: "NDArray[np.float64]") -> dict[str, float]:
        """See `Judge`."""
        ranks = np.array(self._ranks)
        bins = self.calibration(weights)
        found = {"top1": metrics.mean((ranks == 0).astype(np.float64), weights)}
        if self._several:
            found["top5"] = metrics.mean((ranks < TOP).astype(np.float64), weights)
        return found | {"calibration_error": metrics.expected_calibration_error(bins)}

    def calibration(self, weights: "NDArray[np.float64] | None" = None) -> "NDArray[np.float64]":
        """See `metrics.calibration`."""
        weights = np.ones(len(self.truth)) if weights is None else weights
        return metrics.calibration(np.array(self.confidences), self.right, weights)

    @property
    def steps(self) -> int:
        """See `Judge`."""
        return 20 * len(self.truth)

    def confusion(self) -> "NDArray[np.float64]":
        """See `metrics.confusion`; the classes are in the order of `names`."""
        truth, found = np.array(self.truth, np.intp), np.array(self.found, np.intp)
        return metrics.confusion(truth, found, len(self.names), np.ones(len(truth)))

    def per_class(self) -> list[dict[str, Any]]:
        """See `Judge`: only classes that occur in the data; `taken_for` names the commonest mistake."""
        if not self.truth:
            return []
        matrix = self.confusion()
        precision, recall = metrics.precision_recall(matrix)
        rows = []
        for number in np.unique(self.truth):
            others = matrix[number].copy()
            others[number] = 0
            mistake = {"taken_for": self.names[int(others.argmax())]} if others.any() else {}
            rows.append(
                {
                    "label": self.names[number],
                    "samples": int(matrix[number].sum()),
                    "precision": float(precision[number]),
                    "recall": float(recall[number]),
                    **mistake,
                }
            )
        return sorted(rows, key=lambda row: row["recall"])
