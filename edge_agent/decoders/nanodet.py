"""NanoDet and NanoDet-Plus: class scores, and for each edge of a box a distribution over distances from the cell.

Sources: https://github.com/RangiLyu/nanodet/blob/main/nanodet/model/head/nanodet_plus_head.py (get_bboxes,
_forward_onnx; cells at their upper left corner, strides 8 to 64) and
https://github.com/RangiLyu/nanodet/blob/main/nanodet/model/head/gfl_head.py (NanoDet: cells at their centre, strides 8
to 32); config/nanodet-plus-m_416.yml (preprocessing, reg_max 7).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values
from edge_agent.decoders.boxes import box_scale, grid, strongest
from edge_agent.decoders.classification import softmax
from edge_agent.decoders.detection import MAX_CANDIDATES, Candidates, Detector, check_shape
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
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 8  # reg_max + 1 distances per edge: 0 to 7 strides
PLUS_STRIDES = (8, 16, 32, 64)
NORMALIZATION = ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
_EDGES = 4


@dataclass(frozen=True, slots=True)
class Distances:
    """Reads (cells, classes + 4 x bins): scores, then the distributions of left, top, right, bottom in strides.

    Attributes:
        spec: the tensor.
        classes: number of classes.
        points: (cells, 2), x, y in pixels of the input: the origin of the distances.
        strides: (cells, 1), in pixels.
        size: height, width of the model's input; boxes are clipped to it.
    """

    spec: TensorSpec
    classes: int
    size: Size
    points: "NDArray[np.float32]" = field(repr=False)
    strides: "NDArray[np.float32]" = field(repr=False)

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        stored = item[0]
        check_shape(stored, len(self.points), self.classes + _EDGES * BINS)
        best = real_values(stored[:, : self.classes].max(axis=1), self.spec)
        check_finite(best)
        rows = strongest(best, min_score, MAX_CANDIDATES)
        values = real_values(stored[rows], self.spec)
        check_finite(values)
        bins = softmax(values[:, self.classes :].reshape(-1, _EDGES, BINS))
        distances = bins @ np.arange(BINS, dtype=np.float32) * self.strides[rows]
        points = self.points[rows]
        boxes = np.concatenate([points - distances[:, :2], points + distances[:, 2:]], axis=1)
        boxes = np.clip(boxes, 0, box_scale(self.size))
        return Candidates(boxes, best[rows], values[:, : self.classes].argmax(axis=1), values[:, values.shape[1] :])


def recognise_nanodet(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, cells, classes + 32]."""
    del stated  # it can't be decoded without its grid
    output, size = sole_output(file), picture_size(file)
    if output is None or size is None or len(output.shape) != 3 or not is_batch(output.shape[0]):  # noqa: PLR2004 - axes
        return None
    _, cells, columns = output.shape
    strides, classes = strides_of(size, cells), columns - _EDGES * BINS
    if strides not in (PLUS_STRIDES, PLUS_STRIDES[:3]) or classes < 1:
        return None
    plus = strides == PLUS_STRIDES
    evidence = [
        f"the output {list(output.shape)} is {cells_sentence(cells, strides, size)}",
        f"each has {classes} class(es) and {_EDGES} x {BINS} distances, as in {'NanoDet-Plus' if plus else 'NanoDet'}",
    ]
    named = file.format == "onnx" and (file.inputs[0].name, output.name) == ("data", "output")
    if named:
        evidence.append("the tensors are called data and output, as NanoDet calls them")
    evidence.append("NanoDet takes BGR pixels, stretched, with the mean and std of its published settings")
    return Recognition(
        "nanodet",
        "detection",
        tuple(evidence),
        build=lambda parts: _build(parts, classes, size, plus=plus),
        named=named,
        classes=classes,
        resize="stretch",
        color="bgr",
        normalization=NORMALIZATION,
    )


def _build(parts: Parts, classes: int, size: Size, *, plus: bool) -> Detector:
    cells, strides = grid(size, PLUS_STRIDES if plus else PLUS_STRIDES[:3])
    points = cells * strides if plus else (cells + np.float32(0.5)) * strides
    return Detector(Distances(parts.outputs[0], classes, size, points, strides), parts.labels)
