"""SSD as in ST's model zoo: scores, offsets of the corners from the anchors, and the anchors themselves.

Source: https://github.com/STMicroelectronics/stm32ai-modelzoo/tree/main/object_detection (a corner is that of the
anchor, plus the offset times the anchor's width or height; class 0 is the background).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values
from edge_agent.decoders.boxes import box_scale, strongest
from edge_agent.decoders.detection import MAX_CANDIDATES, Candidates, Detector, check_shape
from edge_agent.decoders.recognition import Recognition, Size, is_batch, picture_size
from edge_agent.engines import TensorSpec
from edge_agent.errors import InputError
from edge_agent.modelfile.facts import ModelFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CORNERS = 4


@dataclass(frozen=True, slots=True)
class WithAnchors:
    """Reads scores (anchors, classes), offsets (anchors, 4) and anchors (anchors, 4): x1, y1, x2, y2 in fractions.

    Attributes:
        scores: index of the output.
        corners: indices of the offsets and the anchors, in either order: only anchors all have an area.
        specs: the outputs.
        size: height, width of the model's input.
        count, classes: numbers of anchors and of classes, with the background.
    """

    scores: int
    corners: tuple[int, int]
    specs: Sequence[TensorSpec]
    size: Size
    count: int
    classes: int

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        check_shape(item[self.scores], self.count, self.classes)
        first, second = (self._corners(item, at) for at in self.corners)
        if _have_area(first) == _have_area(second):
            raise InputError("expected offsets and anchors, and can't tell them apart: check decoder")
        anchors, offsets = (first, second) if _have_area(first) else (second, first)
        scores = real_values(item[self.scores][:, 1:], self.specs[self.scores])
        check_finite(scores)
        best = scores.max(axis=1)
        rows = strongest(best, min_score, MAX_CANDIDATES)
        chosen = anchors[rows]
        sides = np.tile(chosen[:, 2:] - chosen[:, :2], 2)
        boxes = (chosen + offsets[rows] * sides) * box_scale(self.size)
        return Candidates(boxes.astype(np.float32), best[rows], scores[rows].argmax(axis=1) + 1, boxes[:, 4:])

    def _corners(self, item: Sequence["NDArray[Any]"], at: int) -> "NDArray[np.float32]":
        check_shape(item[at], self.count, _CORNERS)
        values = real_values(item[at], self.specs[at])
        check_finite(values)
        return values


def _have_area(corners: "NDArray[np.float32]") -> bool:
    return bool((corners[:, 2:] > corners[:, :2]).all())


def recognise_ssd_st(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, anchors, classes], and [1, anchors, 4] twice."""
    del stated
    size, shapes = picture_size(file), [tensor.shape for tensor in file.outputs]
    if size is None or len(shapes) != 3 or any(len(shape) != 3 or not is_batch(shape[0]) for shape in shapes):  # noqa: PLR2004 - outputs, axes
        return None
    # With three classes, the scores have four columns as well; they are the first output.
    scores = next((at for at, shape in enumerate(shapes) if shape[2] != _CORNERS), 0)
    first, second = (at for at in range(3) if at != scores)
    count, classes = shapes[scores][1:]
    if {shapes[first][1:], shapes[second][1:]} != {(count, _CORNERS)} or classes < 2 or count < 1:  # noqa: PLR2004 - background and a class
        return None
    return Recognition(
        "ssd_st",
        "detection",
        (
            f"the outputs are scores of {classes} classes with the background, offsets, and {count} anchors",
            "ST's SSD takes RGB pixels, stretched",
        ),
        build=lambda parts: Detector(
            WithAnchors(scores, (first, second), parts.outputs, size, count, classes), parts.labels
        ),
        classes=classes,
        background=True,
        resize="stretch",
        color="rgb",
    )
