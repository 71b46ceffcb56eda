"""NanoDet and NanoDet-Plus: class scores, and for each edge of a box a distribution over distances from the cell.

They are in one output, or, in exports until 2021, in two for each feature map: cls_pred_stride_8, dis_pred_stride_8, …

Sources: https://github.com/RangiLyu/nanodet/blob/main/nanodet/model/head/nanodet_plus_head.py (get_bboxes,
_forward_onnx; cells at their upper left corner, strides 8 to 64) and
https://github.com/RangiLyu/nanodet/blob/main/nanodet/model/head/gfl_head.py (NanoDet: cells at their centre, strides 8
to 32); config/nanodet-plus-m_416.yml (preprocessing, reg_max 7).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values, sigmoid
from edge_agent.decoders.boxes import box_scale, grid, strongest
from edge_agent.decoders.classification import softmax
from edge_agent.decoders.dense_head import SIGMOIDS, Head, anchor_counts, find_head
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

# reg_max + 1 distances of each edge, 0 to 7 strides; 0 to 10 in NanoDet-g and EfficientNet-Lite.
BINS, LARGE_BINS = 8, 11
STRIDES, PLUS_STRIDES = (8, 16, 32), (8, 16, 32, 64)
NORMALIZATION = ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
_EDGES = 4


@dataclass(frozen=True, slots=True)
class Distances:
    """Reads (cells, classes + 4 x bins): scores, then the distributions of left, top, right, bottom in strides.

    Attributes:
        spec: the tensor.
        classes: number of classes.
        bins: number of distances of each edge.
        points: (cells, 2), x, y in pixels of the input: the origin of the distances.
        strides: (cells, 1), in pixels.
        size: height, width of the model's input; boxes are clipped to it.
    """

    spec: TensorSpec
    classes: int
    bins: int
    size: Size
    points: "NDArray[np.float32]" = field(repr=False)
    strides: "NDArray[np.float32]" = field(repr=False)

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        stored = item[0]
        check_shape(stored, len(self.points), self.classes + _EDGES * self.bins)
        best = real_values(stored[:, : self.classes].max(axis=1), self.spec)
        check_finite(best)
        rows = strongest(best, min_score, MAX_CANDIDATES)
        values = real_values(stored[rows], self.spec)
        check_finite(values)
        shares = softmax(values[:, self.classes :].reshape(-1, _EDGES, self.bins))
        distances = shares @ np.arange(self.bins, dtype=np.float32) * self.strides[rows]
        points = self.points[rows]
        boxes = np.concatenate([points - distances[:, :2], points + distances[:, 2:]], axis=1)
        boxes = np.clip(boxes, 0, box_scale(self.size))
        return Candidates(boxes, best[rows], values[:, : self.classes].argmax(axis=1), values[:, values.shape[1] :])


@dataclass(frozen=True, slots=True)
class Maps:
    """Reads two outputs for each feature map: (cells, classes) and (cells, 4 x bins).

    Attributes:
        head: the outputs.
        distances: reads both side by side.
        logits: whether a sigmoid has to be applied to the scores.
    """

    head: Head
    distances: Distances
    logits: bool

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        scores, distances = self.head(item)
        scores = sigmoid(scores) if self.logits else scores
        return self.distances([np.concatenate([scores, distances], axis=1)], min_score)


def recognise_nanodet(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, cells, classes + 32], or [1, cells, classes] and [1, cells, 32] for strides 8, 16, 32."""
    del stated  # it can't be decoded without its grid
    output, size = sole_output(file), picture_size(file)
    if size is None:
        return None
    if output is None:
        return _of_maps(file, size)
    if len(output.shape) != 3 or not is_batch(output.shape[0]):  # noqa: PLR2004 - axes
        return None
    _, cells, columns = output.shape
    strides, classes = strides_of(size, cells), columns - _EDGES * BINS
    if strides not in (PLUS_STRIDES, STRIDES) or classes < 1:
        return None
    model = "NanoDet-Plus" if strides == PLUS_STRIDES else "NanoDet"
    evidence = [
        f"the output {list(output.shape)} is {cells_sentence(cells, strides, size)}",
        f"each has {classes} class(es) and {_EDGES} x {BINS} distances, as in {model}",
    ]
    named = file.format == "onnx" and (file.inputs[0].name, output.name) == ("data", "output")
    if named:
        evidence.append("the tensors are called data and output, as NanoDet calls them")
    return _recognised(classes, evidence, lambda parts: _build(parts, classes, size, strides), named=named)


def _of_maps(file: ModelFile, size: Size) -> Recognition | None:
    widths = {tensor.shape[-1] for tensor in file.outputs if tensor.shape}
    for bins in (BINS, LARGE_BINS):
        for classes in widths - {_EDGES * bins} if len(widths) == 2 else ():  # noqa: PLR2004 - scores and distances
            counts = anchor_counts(size, STRIDES, (1, 1, 1))
            head = find_head(file, counts, (classes, _EDGES * bins)) if classes > 0 else None
            if head:
                logits = file.output_operators[head.outputs[0][0]] not in SIGMOIDS
                evidence = [
                    f"6 outputs are classes and distances for {cells_sentence(sum(counts), STRIDES, size)}",
                    f"each has {classes} class(es) and {_EDGES} x {bins} distances, as in NanoDet",
                ]
                build = partial(_build_maps, head, classes, bins, size, logits=logits)
                return _recognised(classes, evidence, build, named=True)
    return None


def _recognised(
    classes: int, evidence: Sequence[str], build: Callable[[Parts], Detector], *, named: bool
) -> Recognition:
    return Recognition(
        "nanodet",
        "detection",
        (*evidence, "NanoDet takes BGR pixels, stretched, with the mean and std of its published settings"),
        build=build,
        named=named,
        classes=classes,
        resize="stretch",
        color="bgr",
        normalization=NORMALIZATION,
    )


def _build(parts: Parts, classes: int, size: Size, strides: Sequence[int]) -> Detector:
    anchors = _anchors(size, strides)
    return Detector(Distances(parts.outputs[0], classes, BINS, size, *anchors), parts.labels)


def _build_maps(head: Head, classes: int, bins: int, size: Size, parts: Parts, *, logits: bool) -> Detector:
    joined = TensorSpec("", (1, sum(head.counts), classes + _EDGES * bins), "float32")
    distances = Distances(joined, classes, bins, size, *_anchors(size, STRIDES))
    return Detector(Maps(replace(head, specs=parts.outputs), distances, logits), parts.labels)


def _anchors(size: Size, strides: Sequence[int]) -> "tuple[NDArray[np.float32], NDArray[np.float32]]":
    """The origin of the distances of each cell (cells, 2), and its stride (cells, 1)."""
    cells, steps = grid(size, strides)
    return (cells + np.float32(0.0 if strides == PLUS_STRIDES else 0.5)) * steps, steps
