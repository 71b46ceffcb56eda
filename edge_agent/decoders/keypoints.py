"""Keypoints: as a part of detections, and of models that look at one person, hand or face in the whole input."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import Limits
from edge_agent.decoders.detection import Candidates, items, label_of
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray


def to_picture(
    values: "NDArray[np.float32]", placement: Placement, scale: "NDArray[np.float32] | float" = 1.0
) -> "NDArray[np.float32]":
    """Maps keypoints from the model's input to the image.

    Args:
        values: (N, 2 or 3), x, y and, where the model has one, the confidence.
        placement: of the item.
        scale: factors (2,) that turn x, y into pixels of the input.

    Returns:
        Of the same shape: x, y in pixels of the image, and the confidence, at most 1.
    """
    points = placement.to_picture(values[:, :2] * scale)
    return np.concatenate([points, np.minimum(values[:, 2:], 1)], axis=1)


def points_of(found: Candidates, item: Sequence["NDArray[Any]"], placement: Placement) -> Iterator[dict[str, Any]]:
    """The keypoints of each detection, whose extras are x, y of each in pixels of the input: see `Details`."""
    del item
    keypoints = to_picture(found.extras.reshape(-1, 2), placement).reshape(
        *found.extras.shape[:1], found.extras.shape[1] // 2, 2
    )
    yield from ({"keypoints": tuple(map(tuple, points))} for points in keypoints.tolist())


@dataclass(frozen=True, slots=True)
class Instance:
    """What a model says of the one person, hand or face in its input.

    Attributes:
        confidence: 0 to 1.
        points: (K, 2 or 3), x, y in pixels of the input and, where the model has one, the confidence of each.
        class_id: its class.
    """

    confidence: float
    points: "NDArray[np.float32]"
    class_id: int = 0


@dataclass(frozen=True, slots=True)
class SinglePose:
    """Decoder of models that look at one person, hand or face, which fills their input. They output no box.

    Attributes:
        read: from the tensors of one item (without the batch axis) to the instance in it; refuses values that are not
            finite.
        labels: one per class; None: there are only numbers.
    """

    task = "pose"

    read: Callable[[Sequence["NDArray[Any]"]], Instance]
    labels: Sequence[str] | None

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`."""
        # Overflows become infinite, and infinite coordinates are clipped to the image.
        with np.errstate(over="ignore"):
            return list(self._predictions(outputs, placements, limits))

    def _predictions(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> Iterator[Prediction]:
        for placement, item in zip(placements, items(outputs, len(placements)), strict=True):
            found = self.read(item)
            confidence = min(1.0, found.confidence)
            if confidence >= limits.min_confidence:
                keypoints = tuple(map(tuple, to_picture(found.points, placement).tolist()))
                label = label_of(found.class_id, self.labels)
                yield Prediction(label, found.class_id, confidence, placement.region, keypoints=keypoints)
