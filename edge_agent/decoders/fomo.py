"""FOMO: a heat map per class; adjacent cells of a class are one object.

It finds the position of objects, not their size: boxes are made of cells of the map.

Source: https://docs.edgeimpulse.com/studio/projects/learning-blocks/blocks/object-detection/fomo, and
edge-impulse-sdk/classifier/ei_fill_result_struct.h (ei_cube_check_overlap) in
https://github.com/edgeimpulse/inferencing-sdk-cpp.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values
from edge_agent.decoders.boxes import box_scale
from edge_agent.decoders.detection import Candidates, Detector, check_shape
from edge_agent.decoders.recognition import Parts, Recognition, Size, is_batch, picture_size, sole_output
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import UNIT
from edge_agent.preprocess.opencv import cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRIDES = (8, 16)
_TOUCHING = 8  # neighbours of a cell, including diagonal ones


@dataclass(frozen=True, slots=True)
class HeatMaps:
    """Reads (rows, columns, classes), scores 0 to 1; class 0 is the background.

    Attributes:
        spec: the tensor.
        size: height, width of the model's input.
    """

    spec: TensorSpec
    size: Size

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        check_shape(item[0], *self.spec.shape[1:])
        maps = real_values(item[0], self.spec)
        check_finite(maps)
        rows, columns, classes = maps.shape
        boxes, scores, class_ids = [], [], []
        for class_id in range(1, classes):
            hot = maps[:, :, class_id] >= min_score
            count, parts, stats, _ = cv2.connectedComponentsWithStats(hot.astype(np.uint8), connectivity=_TOUCHING)
            peaks = np.zeros(count, np.float32)
            np.maximum.at(peaks, parts[hot].astype(np.intp), maps[:, :, class_id][hot])
            left, top, wide, high = (stats[1:, column] for column in range(4))  # label 0 is the background
            boxes.append(np.stack([left, top, left + wide, top + high], axis=1))
            scores.append(peaks[1:])
            class_ids.append(np.full(count - 1, class_id))
        corners = np.concatenate(boxes).astype(np.float32) / box_scale((rows, columns)) * box_scale(self.size)
        return Candidates(corners, np.concatenate(scores), np.concatenate(class_ids), corners[:, 4:])


def recognise_fomo(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, height / 8, width / 8, classes], with the background as class 0."""
    output, size = sole_output(file), picture_size(file)
    if output is None or size is None or len(output.shape) != 4 or not is_batch(output.shape[0]):  # noqa: PLR2004 - axes
        return None
    _, rows, columns, classes = output.shape
    if classes < 2 or min(rows, columns) < 1:  # noqa: PLR2004 - background and a class
        return None
    fits = any((rows, columns) == (size[0] // stride, size[1] // stride) for stride in STRIDES)
    operator = file.output_operators[0]
    if not stated and not (fits and operator in ("SOFTMAX", "Softmax")):
        return None
    return Recognition(
        "fomo",
        "detection",
        (
            f"the output {list(output.shape)} is heat maps of the background and {classes - 1} class(es)",
            f"their size is 1/{size[0] // rows} of the input's, their last operator {operator or 'not known'}",
            "FOMO takes pixels from 0 to 1",
        ),
        build=lambda parts: _build(parts, size),
        classes=classes,
        background=True,
        normalization=UNIT,
    )


def _build(parts: Parts, size: Size) -> Detector:
    return Detector(HeatMaps(parts.outputs[0], size), parts.labels, overlapping=False)
