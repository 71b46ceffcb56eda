"""YOLOX: boxes relative to their cell, with objectness.

Sources: https://github.com/Megvii-BaseDetection/YOLOX/blob/main/yolox/utils/demo_utils.py (demo_postprocess) and
yolox/data/data_augment.py (preproc). Models exported with `--decode_in_inference` have boxes in pixels already. This is
derived from the values: a relative centre is never half the input away from its cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import real_values
from edge_agent.decoders.boxes import grid, xywh_to_xyxy
from edge_agent.decoders.detection import Candidates, Detector, check_shape
from edge_agent.decoders.recognition import (
    Parts,
    Recognition,
    Size,
    cells_sentence,
    is_batch,
    picture_size,
    sole_output,
    strides_of,
)
from edge_agent.decoders.yolo import objects
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import RAW

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BEFORE_CLASSES = 5
# Sizes are exp(value) * stride. With this exponent they are far larger than any input.
_MAX_EXPONENT = 10.0


@dataclass(frozen=True, slots=True)
class Relative:
    """Reads (cells, 5 + classes): box relative to the cell, objectness, class scores.

    Attributes:
        spec: the tensor.
        classes: number of classes.
        size: height, width of the model's input.
        cells: (cells, 2), column, row of each cell.
        strides: (cells, 1), in pixels.
    """

    spec: TensorSpec
    classes: int
    size: Size
    cells: "NDArray[np.float32]" = field(repr=False)
    strides: "NDArray[np.float32]" = field(repr=False)

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        stored = item[0]
        check_shape(stored, len(self.cells), _BEFORE_CLASSES + self.classes)
        rows, scores, class_ids = objects(stored, self.spec, self.classes, min_score)
        boxes = real_values(stored[rows, :4], self.spec)
        if real_values(stored[:, 0].max(), self.spec) <= self.size[1] / 2:
            strides = self.strides[rows]
            centres = (boxes[:, :2] + self.cells[rows]) * strides
            boxes = np.concatenate([centres, np.exp(np.minimum(boxes[:, 2:], _MAX_EXPONENT)) * strides], axis=1)
        return Candidates(xywh_to_xyxy(boxes), scores, class_ids, boxes[:, 4:])


def recognise_yolox(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, cells, 5 + classes]."""
    del stated  # it can't be decoded without its grid
    output, size = sole_output(file), picture_size(file)
    if output is None or size is None or len(output.shape) != 3 or not is_batch(output.shape[0]):  # noqa: PLR2004 - axes
        return None
    _, cells, columns = output.shape
    strides, classes = strides_of(size, cells), columns - _BEFORE_CLASSES
    if strides is None or classes < 1:
        return None
    evidence = [
        f"the output {list(output.shape)} is {cells_sentence(cells, strides, size)}",
        f"each has a box, the objectness and {classes} class(es)",
    ]
    named = file.format == "onnx" and (file.inputs[0].name, output.name) == ("images", "output")
    if named:
        evidence.append("the tensors are called images and output, as YOLOX calls them")
    evidence.append("YOLOX takes BGR pixels from 0 to 255, letterboxed with the padding right and below")
    return Recognition(
        "yolox",
        "detection",
        tuple(evidence),
        build=lambda parts: _build(parts, classes, size, strides),
        named=named,
        classes=classes,
        resize="letterbox",
        color="bgr",
        normalization=RAW,
    )


def _build(parts: Parts, classes: int, size: Size, strides: Sequence[int]) -> Detector:
    return Detector(Relative(parts.outputs[0], classes, size, *grid(size, strides)), parts.labels)
