"""YOLO with oriented boxes (task `obb`): centre, width and height, the class scores, and the angle last.

Sources: https://github.com/ultralytics/ultralytics/blob/main/ultralytics/nn/modules/head.py (OBB),
https://github.com/ultralytics/ultralytics/blob/main/ultralytics/utils/ops.py (corners) and
https://github.com/ultralytics/ultralytics/blob/main/ultralytics/utils/metrics.py (overlap of rotated boxes:
https://arxiv.org/abs/2106.06072).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import Limits, check_finite, real_values
from edge_agent.decoders.boxes import strongest
from edge_agent.decoders.detection import MAX_CANDIDATES, Candidates, Detector, check_shape, class_numbers, corners_of
from edge_agent.decoders.recognition import Parts, Recognition, picture_size, sole_output, ultralytics_task
from edge_agent.decoders.yolo import AnchorFree, EndToEnd, anchor_free, end_to_end, recognised, to_pixels
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BOX, _ANGLE = 4, 1
_TINY = 1e-7


@dataclass(frozen=True, slots=True)
class Oriented:
    """Decoder of oriented boxes: a prediction's box encloses them, its outline is their four corners.

    Attributes:
        rows: how the output is laid out.
        spec: the output.
        labels: one per class; None: there are only numbers.
    """

    task = "detection"

    rows: AnchorFree | EndToEnd
    spec: TensorSpec
    labels: Sequence[str] | None

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`."""

        def read(item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
            return self._read(item[0], min_score, limits)

        return Detector(read, self.labels, overlapping=False, details=corners_of)(outputs, placements, limits)

    def _read(self, stored: "NDArray[Any]", min_score: float, limits: Limits) -> Candidates:
        if isinstance(self.rows, EndToEnd):
            found = replace(self.rows, spec=self.spec)([stored], min_score)
            table = real_values(stored, self.spec)
            rows = np.flatnonzero((table[:, 4] >= min_score) & (table[:, 4] > 0))
            boxes, scores, classes = table[rows, :_BOX], table[rows, 4], class_numbers(table[rows, 5])
            angles = found.extras[:, 0]
            boxes = boxes * to_pixels(boxes.max(initial=0), self.rows.size)
        else:
            check_shape(stored, *self.spec.shape[1:])
            cells = stored if self.rows.cells_first else stored.T
            end = _BOX + (self.rows.classes or 0)
            best = real_values(cells[:, _BOX:end].max(axis=1), self.spec)
            check_finite(best)
            rows = strongest(best, min_score, MAX_CANDIDATES)
            table = real_values(cells[rows], self.spec)
            largest = real_values(cells[:, :2].max(), self.spec)
            boxes = table[:, :_BOX] * to_pixels(largest, self.rows.size)
            scores, classes, angles = best[rows], table[:, _BOX:end].argmax(axis=1), table[:, end]
        check_finite(boxes, angles)
        kept = np.arange(len(boxes))
        if isinstance(self.rows, AnchorFree):
            kept = suppressed(boxes, angles, scores, limits, None if limits.class_agnostic else classes)
        corners = corners_from(boxes[kept], angles[kept])
        points = corners.reshape(-1, 4, 2)
        hulls = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
        return Candidates(hulls.astype(np.float32), scores[kept], classes[kept], corners)


def corners_from(boxes: "NDArray[np.float32]", angles: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """The corners (N, 8) x, y of boxes (N, 4) centre x, centre y, width, height, turned by angles (N,) in radians."""
    cos, sin = np.cos(angles), np.sin(angles)
    along = np.stack([cos, sin], axis=1) * boxes[:, 2:3] / 2
    across = np.stack([-sin, cos], axis=1) * boxes[:, 3:4] / 2
    corners = [boxes[:, :2] + a * along + b * across for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
    return np.concatenate(corners, axis=1).astype(np.float32)


def suppressed(
    boxes: "NDArray[np.float32]",
    angles: "NDArray[np.float32]",
    scores: "NDArray[np.float32]",
    limits: Limits,
    class_ids: "NDArray[np.intp] | None",
) -> "NDArray[np.intp]":
    """Greedy non-maximum suppression of oriented boxes: see `boxes.nms`."""
    order = np.argsort(-scores, kind="stable")
    shapes = _covariances(boxes.astype(np.float64), angles.astype(np.float64))
    kept: list[int] = []
    while len(order) and len(kept) < limits.top_k:
        first, rest = order[0], order[1:]
        kept.append(int(first))
        overlap = _overlap(boxes[first], boxes[rest], shapes[first], shapes[rest])
        apart = overlap <= limits.max_overlap
        if class_ids is not None:
            apart |= class_ids[rest] != class_ids[first]
        order = rest[apart]
    return np.asarray(kept, np.intp)


def _covariances(boxes: "NDArray[np.float64]", angles: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """The boxes as normal distributions: a, b, c of the matrices ((a, c), (c, b)), (N, 3)."""
    wide, high = boxes[:, 2] ** 2 / 12, boxes[:, 3] ** 2 / 12
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = wide * cos**2 + high * sin**2, wide * sin**2 + high * cos**2
    return np.stack([a, b, (wide - high) * cos * sin], axis=1)


def _overlap(
    box: "NDArray[Any]", others: "NDArray[Any]", shape: "NDArray[np.float64]", shapes: "NDArray[np.float64]"
) -> "NDArray[np.float64]":
    """Overlap, 0 to 1, of one box with others: 1 minus the Hellinger distance of their distributions."""
    a, b, c = (shape + shapes).T
    x, y = (others[:, :2] - box[:2]).astype(np.float64).T
    area = np.maximum(a * b - c**2, _TINY)
    far = (a * y**2 + b * x**2) / area / 4 - c * x * y / area / 2
    own = max(shape[0] * shape[1] - shape[2] ** 2, 0) * np.maximum(shapes[:, 0] * shapes[:, 1] - shapes[:, 2] ** 2, 0)
    unlike = np.log(area / (4 * np.sqrt(own) + _TINY) + _TINY) / 2
    return np.asarray(1 - np.sqrt(1 - np.exp(-np.clip(far + unlike, _TINY, 100)) + _TINY))


def recognise_yolo_obb(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, 4 + classes + 1, cells], or [1, detections, 7], by the task in the metadata."""
    output, size = sole_output(file), picture_size(file)
    if output is None or size is None or (ultralytics_task(file) != "obb" and not stated):
        return None
    rows = anchor_free(output, size, _ANGLE) or end_to_end(output, size, _ANGLE)
    rows = rows or (anchor_free(output, size, _ANGLE, stated=True) if stated else None)
    if rows is None:
        return None

    def build(parts: Parts) -> Oriented:
        return Oriented(rows, parts.outputs[0], parts.labels)

    sentence = f"{rows.sentence}, and with its angle"
    return recognised("yolo_obb", replace(rows, sentence=sentence), output, named=not stated, build=build)
