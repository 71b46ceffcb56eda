"""The threshold of anomaly scores: set, or learned from normal inputs."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from edge_agent.postprocess import persisted
from edge_agent.samples import Prediction
from edge_agent.settings.series import Anomaly

log = logging.getLogger(__name__)

NORMAL, ANOMALY = "normal", "anomaly"


class Threshold:
    """Labels scores as normal or anomaly, once the threshold is known.

    Args:
        name: of the pipeline.
        options: of the pipeline.
        of_bundle: threshold in the model's bundle; None: it has none.
        model: hash of the model's file. A learned threshold is valid for this model only.
        file: where a learned threshold is stored; None: nowhere.
    """

    def __init__(self, name: str, options: Anomaly, of_bundle: float | None, model: str, file: Path | None) -> None:
        self._name = name
        self._learn, self._deviations = options.learn, options.deviations
        self._key = {"model": model, "learn": options.learn, "deviations": options.deviations}
        self._file = file
        self._value = options.threshold
        if self._value is None:
            self._value = of_bundle if options.learn is None else self._kept()
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    @property
    def value(self) -> float | None:
        """Scores above it are anomalies; None while it is not known."""
        return self._value

    def __call__(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """The predictions of one input, labelled `normal` or `anomaly`; without a label while learning."""
        labelled = []
        for one in predictions:
            label = None
            if one.value is not None and self._value is not None:
                label = ANOMALY if one.value > self._value else NORMAL
            elif one.value is not None and self._learn is not None:
                self._learn_from(one.value, self._learn)
            # Of what else a prediction may state, a score has nothing.
            labelled.append(Prediction(label, None, None, region=one.region, value=one.value, details=one.details))
        return labelled

    def _learn_from(self, score: float, enough: int) -> None:
        """Adds a normal score (Welford): https://en.wikipedia.org/wiki/Algorithms_for_calculating_variance."""
        self._count += 1
        away = score - self._mean
        self._mean += away / self._count
        self._squares += away * (score - self._mean)
        if self._count == enough:
            self._value = self._mean + self._deviations * math.sqrt(self._squares / (enough - 1))
            log.info("%s: scores above %.4g are anomalies, as learned from %d inputs", self._name, self._value, enough)
            persisted.write(self._file, {**self._key, "threshold": self._value}, self._name, "the learned threshold")

    def _kept(self) -> float | None:
        """The stored threshold, if it was learned for the same model and with the same options."""
        document = persisted.read(self._file)
        if any(document.get(key) != value for key, value in self._key.items()):
            return None
        value = document.get("threshold")
        return value if isinstance(value, float) and math.isfinite(value) else None
