"""Classification: one score per class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_agent.decoders import Limits, check_finite, real_values
from edge_agent.decoders.detection import items
from edge_agent.engines import TensorSpec
from edge_agent.errors import ModelError
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

Output = Literal["probabilities", "logits", "sigmoid"]


@dataclass(frozen=True, slots=True)
class Classification:
    """Decodes (batch, classes), with axes of size 1 anywhere, to the most confident labels.

    Attributes:
        spec: the output tensor.
        labels: one per class, in the order of the output.
        output: what the scores are. `sigmoid` scores are independent and need not sum to 1.
        binary: whether there are two labels and one score: that of the second label.
    """

    task = "classification"

    spec: TensorSpec
    labels: Sequence[str]
    output: Output
    binary: bool = False

    @property
    def multi_label(self) -> bool:
        """Whether several labels can hold for one input."""
        return self.output == "sigmoid" and not self.binary

    def confidences(self, outputs: Sequence["NDArray[Any]"]) -> "NDArray[np.float32]":
        """The confidences of a batch.

        Args:
            outputs: of the engine; the first one holds the scores.

        Returns:
            (batch, classes), float32, 0 to 1.

        Raises:
            InputError: the output has values that are not finite.
            ModelError: the number of scores is not a multiple of that of an input.
        """
        stored, count = outputs[0], 1 if self.binary else len(self.labels)
        if stored.size % count:
            raise ModelError(f"expected {count} scores, found an output of shape {list(stored.shape)}")
        scores = real_values(stored.reshape(-1, count), self.spec)
        check_finite(scores)
        if self.output == "logits":
            # A softmax of one score is always 1.
            scores = (
                softmax(scores) if count > 1 else softmax(np.concatenate([np.zeros_like(scores), scores], 1))[:, 1:]
            )
        return np.concatenate([1 - scores, scores], axis=1).clip(0, 1) if self.binary else scores

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`. Of placements, only the name of the region is used."""
        predictions = []
        for placement, item in zip(placements, items([self.confidences(outputs)], len(placements)), strict=True):
            confidences = item[0]
            for class_id in _largest(confidences, limits.top_k):
                confidence = min(1.0, float(confidences[class_id]))
                if confidence >= limits.min_confidence:
                    label = self.labels[class_id]
                    predictions.append(Prediction(label, int(class_id), confidence, placement.region))
        return predictions


def softmax(logits: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Probabilities over the last axis, float32, of the shape of the logits."""
    with np.errstate(over="ignore"):  # a difference beyond float32 is -infinity, whose power is 0
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def _largest(values: "NDArray[np.float32]", count: int) -> "NDArray[np.intp]":
    """Indices of the `count` largest values (N,), the largest first; of equal ones, the lower index first."""
    candidates = np.arange(len(values))
    if count < len(values):
        candidates = np.flatnonzero(values >= np.partition(values, -count)[-count])
    return candidates[np.argsort(-values[candidates], kind="stable")][:count]
