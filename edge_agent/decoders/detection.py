"""From candidates to detections: what all families that detect objects have in common.

A family reads candidates from its tensors. Non-maximum suppression, and mapping coordinates back to the image, is done
here. Poses and instance masks are detections with additional values.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import Limits, check_finite
from edge_agent.decoders.boxes import nms, strongest
from edge_agent.errors import InputError, ModelError
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction
from edge_agent.system.units import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Only with a threshold near 0 are there more candidates. Bounds the cost of non-maximum suppression.
MAX_CANDIDATES = 1000
# Scores are at most 1; quantised ones may be a little more.
MAX_SCORE = 1.5
# Pixels, far outside of any image. Clipping keeps areas finite.
_FARTHEST = 1e6
_LARGEST_CLASS = 1e6


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a family reads from the tensors of one item, in any order.

    Attributes:
        boxes: (N, 4), float32, x1, y1, x2, y2 in pixels of the model's input.
        scores: (N,), float32, 0 to 1.
        class_ids: (N,), integers.
        extras: (N, E), float32, further values of each: keypoints, mask coefficients; E may be 0.
    """

    boxes: "NDArray[np.float32]"
    scores: "NDArray[np.float32]"
    class_ids: "NDArray[np.intp]"
    extras: "NDArray[np.float32]"

    def take(self, rows: "NDArray[np.intp]") -> "Candidates":
        """The candidates with these indices, in this order."""
        return Candidates(self.boxes[rows], self.scores[rows], self.class_ids[rows], self.extras[rows])


Read = Callable[[Sequence["NDArray[Any]"], float], Candidates]
"""From the tensors of one item (without the batch axis) and a minimum score to candidates; some may be below it."""

Details = Callable[[Candidates, Sequence["NDArray[Any]"], Placement], Iterable[dict[str, Any]]]
"""From the kept candidates, the tensors of their item and its placement to further fields of each `Prediction`."""


def no_details(found: Candidates, item: Sequence["NDArray[Any]"], placement: Placement) -> Iterable[dict[str, Any]]:
    """No further fields, for plain detections: see `Details`."""
    del item, placement
    return ({} for _ in found.scores)


def corners_of(found: Candidates, item: Sequence["NDArray[Any]"], placement: Placement) -> Iterable[dict[str, Any]]:
    """The outline of each detection, whose extras are x, y of four corners in pixels of the input: see `Details`."""
    del item
    corners = placement.to_picture(found.extras.reshape(-1, 2)).reshape(-1, 4, 2)
    yield from ({"polygons": (tuple(map(tuple, points)),)} for points in corners.tolist())


@dataclass(frozen=True, slots=True)
class Detector:
    """Decoder of all families that detect objects: see `Decoder`.

    Attributes:
        read: from tensors to candidates.
        labels: one per class id; None: there are only numbers.
        overlapping: whether candidates may show the same object, so that non-maximum suppression is needed.
        batched: whether outputs have a batch axis; else there is one item.
        task: as published in results.
        details: further fields of a prediction.
    """

    read: Read
    labels: Sequence[str] | None
    overlapping: bool = True
    batched: bool = True
    task: str = "detection"
    details: Details = no_details

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`."""
        batch = outputs if self.batched else [output[None] for output in outputs]
        predictions: list[Prediction] = []
        # Overflows become infinite, and infinite values are clipped or refused.
        with np.errstate(over="ignore", invalid="ignore"):
            for placement, item in zip(placements, items(batch, len(placements)), strict=True):
                predictions += self._predictions(item, placement, limits)
        return predictions

    def _predictions(
        self, item: Sequence["NDArray[Any]"], placement: Placement, limits: Limits
    ) -> Iterator[Prediction]:
        found, boxes = self._choose(self.read(item, limits.min_confidence), placement, limits)
        for row, details in enumerate(self.details(found, item, placement)):
            class_id = int(found.class_ids[row])
            label, confidence = label_of(class_id, self.labels), min(1.0, float(found.scores[row]))
            x1, y1, x2, y2 = boxes[row].tolist()
            yield Prediction(label, class_id, confidence, placement.region, box=(x1, y1, x2, y2), **details)

    def _choose(
        self, found: Candidates, placement: Placement, limits: Limits
    ) -> "tuple[Candidates, NDArray[np.float32]]":
        """The kept candidates, the best first, and their boxes (N, 4), x1, y1, x2, y2 in pixels of the image."""
        found = found.take(strongest(found.scores, limits.min_confidence, MAX_CANDIDATES))
        check_finite(found.boxes, found.extras)
        if len(found.scores) and found.scores[0] > MAX_SCORE:
            raise InputError(
                f"the model's answer can't be right: scores of up to {found.scores[0]:.3g}, where 1 is the most: check "
                "decoder, and preprocess.normalize"
            )
        in_reach = np.clip(found.boxes, -_FARTHEST, _FARTHEST)
        boxes = placement.boxes_to_picture(in_reach)
        seen = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        kept = seen[: limits.top_k]
        if self.overlapping:
            classes = None if limits.class_agnostic else found.class_ids[seen]
            kept = seen[nms(in_reach[seen], found.scores[seen], limits.max_overlap, limits.top_k, classes)]
        return found.take(kept), boxes[kept]


def label_of(class_id: int, labels: Sequence[str] | None) -> str:
    """The label of a class; its number where there are no labels.

    Raises:
        ModelError: there are labels, but none for this class.
    """
    if labels is None:
        return str(class_id)
    if not 0 <= class_id < len(labels):
        raise ModelError(
            f"the model says class {class_id}, and there are {len(labels)} labels (0 to {len(labels) - 1}): state the "
            "labels that it was trained with"
        )
    return labels[class_id]


def items(outputs: Sequence["NDArray[Any]"], count: int) -> Iterator[list["NDArray[Any]"]]:
    """The tensors of each item of a batch, without the batch axis.

    Args:
        outputs: (count, …) each.
        count: size of the batch. A single item may be a vector without the batch axis.

    Raises:
        ModelError: an output is not a batch of this size.
    """
    outputs = [one[None] if count == 1 and one.ndim <= 1 and one.shape != (1,) else one for one in outputs]
    for output in outputs:
        if not output.ndim or len(output) != count:
            raise ModelError(
                f"expected outputs for {counted(count, 'picture')}, found one of shape {list(output.shape)}: it "
                "can't be used with several regions"
            )
    for number in range(count):
        yield [output[number] for output in outputs]


def check_shape(tensor: "NDArray[Any]", *sizes: int) -> None:
    """Refuses a tensor whose shape is not the declared one.

    Args:
        tensor: of one item.
        sizes: of its axes; -1: any.

    Raises:
        ModelError: it differs.
    """
    if tensor.ndim != len(sizes) or any(
        size not in (-1, found) for size, found in zip(sizes, tensor.shape, strict=True)
    ):
        raise ModelError(f"expected an output of shape {list(sizes)}, found {list(tensor.shape)}")


def check_size(tensor: "NDArray[Any]", *sizes: int) -> None:
    """Refuses a tensor that can't be reshaped to these sizes.

    Raises:
        ModelError: it has another number of values.
    """
    if tensor.size != math.prod(sizes):
        raise ModelError(f"expected an output of shape {list(sizes)}, found {list(tensor.shape)}")


def class_numbers(values: "NDArray[np.float32]") -> "NDArray[np.intp]":
    """Rounds class ids (N,) that a model outputs as real numbers to integers (N,).

    Raises:
        InputError: one is not finite.
    """
    check_finite(values)
    return np.clip(np.rint(values), -1, _LARGEST_CLASS).astype(np.intp)
