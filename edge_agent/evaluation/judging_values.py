"""Compares values, scores of anomalies and answers with what is right."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.errors import ConfigError
from edge_agent.evaluation import metrics
from edge_agent.evaluation.judging import Options, Outcome, expect
from edge_agent.evaluation.labelled import MAX_PROBLEMS, Dataset, LabelledSample
from edge_agent.evaluation.labels import plain
from edge_agent.samples import Prediction
from edge_agent.system.text import TextError, parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Labels of normal samples, where none is stated.
NORMAL = ("normal", "good", "ok", "no anomaly", "nominal")
MAX_QUOTED = 60


class Regressed:
    """Judges regression of one value.

    Args:
        dataset: of labels that are numbers.

    Raises:
        ConfigError: a label is no number.
    """

    def __init__(self, dataset: Dataset) -> None:
        expect(dataset, "labels", "regression", "a value for each sample")
        problems = [
            f"{one.where}: expected a number, found {one.label!r}" for one in dataset if _number(one.label) is None
        ]
        if problems:
            raise ConfigError(problems[:MAX_PROBLEMS])
        self.outcomes: list[Outcome] = []
        self._truth: list[float] = []
        self._found: list[float] = []

    def admits(self, sample: LabelledSample) -> bool:
        """See `Judge`."""
        del sample
        return True

    def add(self, sample: LabelledSample, predictions: Sequence[Prediction], facts: Mapping[str, Any]) -> None:
        """See `Judge`."""
        del facts
        found = next((one.value for one in predictions if one.value is not None), float("nan"))
        truth = _number(sample.label) or 0.0
        self._truth.append(truth)
        self._found.append(found)
        error = abs(found - truth)
        self.outcomes.append(Outcome(sample.name, f"{truth:g}", f"{found:g}", 1 / (1 + error), error))

    def finish(self) -> None:
        """See `Judge`: there is nothing to match."""

    def statistic(self, weights: "NDArray[np.float64]") -> dict[str, float]:
        """See `Judge`."""
        return metrics.regression(np.array(self._truth), np.array(self._found), weights)

    @property
    def steps(self) -> int:
        """See `Judge`."""
        return 10 * len(self._truth)

    def per_class(self) -> list[dict[str, Any]]:
        """See `Judge`: there are no classes."""
        return []


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


class AnomalyFound:
    """Judges anomaly scores: normal samples have one label, and anomalies have the others.

    Args:
        dataset: of labels.
        options: of the evaluation.

    Raises:
        ConfigError: no sample, or every one, is normal.
    """

    def __init__(self, dataset: Dataset, options: Options) -> None:
        expect(dataset, "labels", "anomaly", "samples with the label `normal`, and others")
        names = NORMAL if options.normal is None else (plain(options.normal),)
        self._normal = {label for label in dataset.classes if plain(label) in names}
        if not self._normal or len(self._normal) == len(dataset.classes):
            labels = ", ".join(dataset.classes[:5])
            hint = "--normal LABEL states which is which"
            raise ConfigError(
                [f"{dataset.path}: expected a label for normal samples and others, found {labels}: {hint}"]
            )
        self._options = options
        self._labels: list[str] = []
        self.outcomes: list[Outcome] = []
        self.scores: list[float] = []
        self.positive: list[bool] = []

    def admits(self, sample: LabelledSample) -> bool:
        """See `Judge`."""
        return self._options.mapping.get(sample.label or "", "") is not None

    def add(self, sample: LabelledSample, predictions: Sequence[Prediction], facts: Mapping[str, Any]) -> None:
        """See `Judge`. The score of an outcome is that of the order: how sure can be said only at the end."""
        del facts
        score = max((one.value for one in predictions if one.value is not None), default=0.0)
        positive = sample.label not in self._normal
        self.scores.append(score)
        self.positive.append(positive)
        self._labels.append(sample.label or "")
        badness = -score if positive else score
        self.outcomes.append(Outcome(sample.name, sample.label or "", f"{score:.4g}", 1.0, badness))

    def finish(self) -> None:
        """See `Judge`: there is nothing to match."""

    def statistic(self, weights: "NDArray[np.float64]") -> dict[str, float]:
        """See `Judge`; `threshold` and what is found with it are of the data as they are."""
        scores, positive = np.array(self.scores), np.array(self.positive)
        found = {"auroc": metrics.auroc(scores, positive, weights)}
        if positive.any() and not positive.all():
            threshold, _ = metrics.threshold_at(scores, positive, self._options.false_alarms)
            alarms = (scores > threshold).astype(np.float64)
            found["threshold"] = threshold
            found["detected"] = metrics.mean(alarms[positive], weights[positive])
            found["false_alarms"] = metrics.mean(alarms[~positive], weights[~positive])
        return found

    @property
    def steps(self) -> int:
        """See `Judge`."""
        return 30 * len(self.scores)

    def per_class(self) -> list[dict[str, Any]]:
        """See `Judge`: `alarms` is the share of the samples of a label whose score is above the threshold."""
        scores, positive, labels = np.array(self.scores), np.array(self.positive), np.array(self._labels)
        if not positive.any() or positive.all():
            return []
        threshold, _ = metrics.threshold_at(scores, positive, self._options.false_alarms)
        return [
            {
                "label": label,
                "samples": int((labels == label).sum()),
                "alarms": float((scores[labels == label] > threshold).mean()),
            }
            for label in sorted(set(self._labels))
        ]


class Answered:
    """Judges the answers of a language model: the same text, or JSON of the same value.

    Args:
        dataset: of requests.
    """

    def __init__(self, dataset: Dataset) -> None:
        expect(dataset, "requests", "text", "requests with the expected answers, as JSON lines")
        self.outcomes: list[Outcome] = []

    def admits(self, sample: LabelledSample) -> bool:
        """See `Judge`."""
        del sample
        return True

    def judge(self, sample: LabelledSample, answer: str) -> None:
        """Judges an answer. A text is compared without the spaces around it, anything else as JSON."""
        if isinstance(sample.expected, str):
            right = answer.strip() == sample.expected.strip()
        else:
            try:
                right = parse_json(answer) == sample.expected
            except TextError:
                right = False
        expected = sample.expected if isinstance(sample.expected, str) else json.dumps(sample.expected)
        score = float(right)
        self.outcomes.append(Outcome(sample.name, expected[:MAX_QUOTED], answer.strip()[:MAX_QUOTED], score, 1 - score))

    def add(self, sample: LabelledSample, predictions: Sequence[Prediction], facts: Mapping[str, Any]) -> None:
        """See `Judge`: `judge` is what is used."""
        raise NotImplementedError

    def finish(self) -> None:
        """See `Judge`: there is nothing to match."""

    def statistic(self, weights: "NDArray[np.float64]") -> dict[str, float]:
        """See `Judge`."""
        return {"exact": metrics.mean(np.array([one.score for one in self.outcomes]), weights)}

    @property
    def steps(self) -> int:
        """See `Judge`."""
        return 10 * len(self.outcomes)

    def per_class(self) -> list[dict[str, Any]]:
        """See `Judge`: there are no classes."""
        return []
