"""YOLO instance segmentation: detections with coefficients, which combine shared prototypes to a mask.

Sources: https://github.com/ultralytics/ultralytics/blob/main/ultralytics/utils/ops.py (process_mask_native),
https://github.com/ultralytics/ultralytics/blob/main/ultralytics/nn/modules/head.py (Segment),
https://github.com/ultralytics/yolov5/blob/master/models/yolo.py (Segment: with objectness).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values
from edge_agent.decoders.detection import Candidates, Detector, check_shape
from edge_agent.decoders.masks import area, outline
from edge_agent.decoders.recognition import Parts, Recognition, Size, is_batch, picture_size, ultralytics_task
from edge_agent.decoders.yolo import Rows, anchor_free, anchored, end_to_end, recognised
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.preprocess.opencv import cv2
from edge_agent.preprocess.placement import Placement

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Factor by which prototypes are smaller than the input.
STRIDE = 4


@dataclass(frozen=True, slots=True)
class Prototypes:
    """The output with the prototypes of masks.

    Attributes:
        output: index of the output.
        count: number of prototypes, and of coefficients of each detection.
        channels_last: whether the axes are height, width, count; else they are count, height, width.
        size: height, width of the model's input.
    """

    output: int
    count: int
    channels_last: bool
    size: Size


@dataclass(frozen=True, slots=True)
class Masks:
    """Outlines and areas of detections: see `Details`.

    Attributes:
        prototypes: where they are.
        spec: of that output.
    """

    prototypes: Prototypes
    spec: TensorSpec

    def __call__(
        self, found: Candidates, item: Sequence["NDArray[Any]"], placement: Placement
    ) -> Iterator[dict[str, Any]]:
        """The polygons and the area of each detection, in pixels of the image."""
        stored = item[self.prototypes.output]
        check_shape(stored, *self.spec.shape[1:])
        stored = stored.transpose(2, 0, 1) if self.prototypes.channels_last else stored
        for box, coefficients in zip(found.boxes, found.extras, strict=True):
            mask, origin = self._mask(stored, box, coefficients)
            yield {"area": area(mask, placement), "polygons": outline(mask, origin, placement)}

    def _mask(
        self, stored: "NDArray[Any]", box: "NDArray[np.float32]", coefficients: "NDArray[np.float32]"
    ) -> "tuple[NDArray[Any], tuple[int, int]]":
        """The mask within a box: the weighted sum of the prototypes, resized to the input, is above 0 on the object.

        Only the part under the box is computed.

        Args:
            stored: (count, height, width), prototypes of the output's type.
            box: (4,), x1, y1, x2, y2 in pixels of the model's input.
            coefficients: (count,).

        Returns:
            (height, width), bool, one value per pixel of the model's input, and x, y of its first pixel there.
        """
        height, width = self.prototypes.size
        x1, y1 = (int(edge) for edge in np.clip(np.floor(box[:2]), 0, [width - 1, height - 1]))
        x2, y2 = (int(edge) for edge in np.clip(np.ceil(box[2:]), [x1 + 1, y1 + 1], [width, height]))
        # One more cell on each side, for the interpolation.
        left, top = max(0, x1 // STRIDE - 1), max(0, y1 // STRIDE - 1)
        right, bottom = math.ceil(x2 / STRIDE) + 1, math.ceil(y2 / STRIDE) + 1
        part = real_values(stored[:, top:bottom, left:right], self.spec)
        check_finite(part)
        small = np.tensordot(coefficients, part, axes=1)
        rows, columns = small.shape
        large = cv2.resize(small, (columns * STRIDE, rows * STRIDE), interpolation=cv2.INTER_LINEAR)
        x, y = x1 - left * STRIDE, y1 - top * STRIDE
        return large[y : y + y2 - y1, x : x + x2 - x1] > 0, (x1, y1)


def recognise_yolo_segmentation(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """An output of detections with coefficients, and one of prototypes at a quarter of the input's size."""
    del stated  # it can't be decoded without its prototypes
    size, task = picture_size(file), ultralytics_task(file)
    if size is None or task not in (None, "segment") or len(file.outputs) != 2:  # noqa: PLR2004 - those two
        return None
    found = [one for number, tensor in enumerate(file.outputs) if (one := _prototypes(number, tensor, size))]
    if len(found) != 1:
        return None
    prototypes = found[0]
    place = 1 - prototypes.output
    output, count = file.outputs[place], prototypes.count
    rows: Rows | None = None
    for kind in (anchored, anchor_free, end_to_end):
        rows = rows or kind(output, size, count)
    if rows is None:
        return None
    rows = replace(
        rows, output=place, sentence=f"{rows.sentence}, and with the coefficients of {count} prototypes of masks"
    )
    return recognised(
        "yolo_segmentation",
        rows,
        output,
        task="segmentation",
        named=task is not None,
        build=lambda parts: _build(rows, prototypes, parts),
    )


def _build(rows: Rows, prototypes: Prototypes, parts: Parts) -> Detector:
    read = replace(rows, spec=parts.outputs[rows.output])
    masks = Masks(prototypes, parts.outputs[prototypes.output])
    return Detector(read, parts.labels, overlapping=rows.classes is not None, task="segmentation", details=masks)


def _prototypes(number: int, tensor: Tensor, size: Size) -> Prototypes | None:
    if len(tensor.shape) != 4 or not is_batch(tensor.shape[0]):  # noqa: PLR2004 - batch, count, height, width
        return None
    _, first, second, last = tensor.shape
    quarter = (size[0] // STRIDE, size[1] // STRIDE)
    if (second, last) == quarter and first > 0:
        return Prototypes(number, first, channels_last=False, size=size)
    if (first, second) == quarter and last > 0:
        return Prototypes(number, last, channels_last=True, size=size)
    return None
