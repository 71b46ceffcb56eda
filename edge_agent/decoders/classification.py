"""Classification: one score a class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_agent.decoders import real_values
from edge_agent.engines import TensorSpec
from edge_agent.errors import InputError
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

Output = Literal["probabilities", "logits", "sigmoid"]


@dataclass(frozen=True, slots=True)
class Classification:
    """Scores to the most confident labels.

    Attributes:
        spec: the output tensor.
        labels: one for each class, in the order of the output.
        output: what the scores are; `sigmoid` scores stand each for themselves and need not sum to 1.
    """

    task = "classification"

    spec: TensorSpec
    labels: Sequence[str]
    output: Output

    def confidences(self, outputs: Sequence["NDArray[Any]"]) -> "NDArray[np.float32]":
        """Confidences of shape (batch, classes), 0 to 1.

        Raises:
            InputError: the model's answer is not a number.
        """
        stored = outputs[0]
        scores = real_values(stored.reshape(-1, len(self.labels)), self.spec)
        if not np.isfinite(scores).all():
            raise InputError("the model's answer has values that are not numbers (NaN or infinite)")
        return softmax(scores) if self.output == "logits" else scores

    def __call__(
        self,
        outputs: Sequence["NDArray[Any]"],
        top_k: int,
        min_confidence: float,
        regions: Sequence[str | None],
    ) -> list[Prediction]:
        """Predictions of a batch, for each of its items the most confident first.

        Args:
            outputs: of the engine.
            top_k: at most so many for an item.
            min_confidence: less confident ones are left out.
            regions: the name of the region that each item of the batch shows, or None.
        """
        predictions = []
        for region, confidences in zip(regions, self.confidences(outputs), strict=True):
            for class_id in _largest(confidences, top_k):
                confidence = min(1.0, float(confidences[class_id]))
                if confidence >= min_confidence:
                    predictions.append(Prediction(self.labels[class_id], int(class_id), confidence, region))
        return predictions


def softmax(logits: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Probabilities over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def _largest(values: "NDArray[np.float32]", count: int) -> "NDArray[np.intp]":
    """Indices of the largest values, largest first, the lower index first among equals."""
    candidates = np.arange(len(values))
    if count < len(values):
        candidates = np.flatnonzero(values >= np.partition(values, -count)[-count])
    return candidates[np.argsort(-values[candidates], kind="stable")][:count]
