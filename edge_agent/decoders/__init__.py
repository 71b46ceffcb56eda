"""Decoders: output tensors to predictions. One file per model family; `families` is the table of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edge_agent.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_agent.engines import TensorSpec
    from edge_agent.samples import Prediction


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the predictions of a decoder.

    Attributes:
        top_k: maximum number of predictions for an item of the batch, the most confident first.
        min_confidence: predictions with a lower confidence are dropped, 0 to 1.
        max_overlap: IoU threshold of non-maximum suppression, 0 to 1: of two boxes that overlap by more than this, the
            less confident is dropped.
        class_agnostic: whether boxes of different classes suppress each other as well.
    """

    top_k: int
    min_confidence: float
    max_overlap: float = 0.45
    class_agnostic: bool = False


class Decoder(Protocol):
    """Decodes the output tensors of one model to predictions."""

    @property
    def task(self) -> str:
        """As published in results: `classification`, `detection`, `pose` and so on."""
        ...

    def __call__(
        self, outputs: "Sequence[NDArray[Any]]", placements: Sequence[Any], limits: Limits
    ) -> "list[Prediction]":
        """The predictions of a batch, item after item; of each item, the most confident first.

        Args:
            outputs: of the engine, in the model's order and types; the first axis of each is the batch.
            placements: for each item of the batch, a `Placement`, which maps coordinates of the model's input to pixels
                of the image, or a `RawInput` for readings and sound.
            limits: on the number and the confidence of predictions.

        Raises:
            InputError: an output has values that are not finite.
            ModelError: an output does not have the shape of the family.
        """
        ...


def real_values(stored: "NDArray[Any]", spec: "TensorSpec") -> "NDArray[np.float32]":
    """Dequantises an output tensor, or a part of it: the same shape, float32. Real values are returned unchanged."""
    values = stored.astype(np.float32, copy=False)
    if spec.scale:
        values = (values - np.float32(spec.zero_point)) * np.float32(spec.scale)
    return values


def sigmoid(values: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """The logistic function of each value: the same shape, float32, 0 to 1."""
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -50, 50))), np.float32)


def check_finite(*arrays: "NDArray[np.float32]") -> None:
    """Refuses outputs that are not finite.

    Raises:
        InputError: a value is NaN or infinite.
    """
    for array in arrays:
        if not np.logical_and.reduce(np.isfinite(array), axis=None):  # `all` takes twice as long
            raise InputError("the model's answer has values that are not numbers (NaN or infinite)")
