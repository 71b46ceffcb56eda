"""Decoders: output tensors to predictions. One file a family; `families` is the table of them."""

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
    """What a user wants to hear of.

    Attributes:
        top_k: at most so many predictions for an item of the batch, the most confident first.
        min_confidence: less confident ones are left out, 0 to 1.
        max_overlap: of two boxes that overlap by more than this (intersection over union, 0 to 1) the less confident
            one is left out.
        class_agnostic: also where they are of different classes.
    """

    top_k: int
    min_confidence: float
    max_overlap: float = 0.45
    class_agnostic: bool = False


class Decoder(Protocol):
    """Output tensors of one model to predictions."""

    @property
    def task(self) -> str:
        """As in results: `classification`, `detection`, `pose` and so on."""
        ...

    def __call__(
        self, outputs: "Sequence[NDArray[Any]]", placements: Sequence[Any], limits: Limits
    ) -> "list[Prediction]":
        """Predictions of a batch, item after item, for each the most confident first.

        Args:
            outputs: of the engine, the first axis of each is the batch.
            placements: for each item, where in which picture it comes from (`Placement`; coordinates come out in pixels
                of that picture), or what it is, where it is no picture (`RawInput`).
            limits: how many, how confident.

        Raises:
            InputError: the model's answer has values that are not numbers.
            ModelError: the model's answer is not of the shape that the family has.
        """
        ...


def real_values(stored: "NDArray[Any]", spec: "TensorSpec") -> "NDArray[np.float32]":
    """The real values of an output tensor, or of a part of it: dequantised where it is quantised."""
    values = stored.astype(np.float32, copy=False)
    if spec.scale:
        values = (values - np.float32(spec.zero_point)) * np.float32(spec.scale)
    return values


def check_finite(*arrays: "NDArray[np.float32]") -> None:
    """Refuses an answer that is no answer.

    Raises:
        InputError: a value is NaN or infinite.
    """
    if not all(np.isfinite(array).all() for array in arrays):
        raise InputError("the model's answer has values that are not numbers (NaN or infinite)")
