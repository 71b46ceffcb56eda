"""YOLOv8 and YOLO11 without their last layers, as NPUs run them: for each feature map the distances and the scores.

Each edge of a box is a distribution over 16 distances from the middle of the cell, in strides (DFL). Rockchip's exports
have a third output for each map, the sum of the scores, which is not needed. Scores are probabilities, or logits where
any of them is below 0 or far above 1.

Sources: https://github.com/airockchip/rknn_model_zoo/tree/main/examples/yolov8 (nine outputs, channels first) and
https://github.com/hailo-ai/hailo_model_zoo/blob/master/hailo_model_zoo/core/postprocessing/detection/yolo.py (six
outputs, channels last).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values, sigmoid
from edge_agent.decoders.boxes import grid, grid_sides, strongest
from edge_agent.decoders.classification import softmax
from edge_agent.decoders.detection import MAX_CANDIDATES, MAX_SCORE, Candidates, Detector, check_shape
from edge_agent.decoders.recognition import Parts, Recognition, Size, picture_size
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRIDES = (8, 16, 32)
_EDGES, _BINS = 4, 16
_DISTANCES = _EDGES * _BINS
# Outputs of each map: distances and scores, and Rockchip's sum of the scores.
_PER_MAP = (2, 3)
# What quantisation makes of a 0.
_LEAST = -0.05


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the outputs of the feature maps are.

    Attributes:
        distances: index of the output of each map.
        scores: index of the output of each map.
        channels_first: whether the channels come before rows and columns.
        classes: their number.
    """

    distances: tuple[int, ...]
    scores: tuple[int, ...]
    channels_first: bool
    classes: int


@dataclass(frozen=True, slots=True)
class Distributions:
    """Reads (64, rows, columns) and (classes, rows, columns) for each map, or the same with the channels last.

    Attributes:
        layout: of the outputs.
        specs: the outputs.
        size: height, width of the model's input.
    """

    layout: Layout
    specs: Sequence[TensorSpec]
    size: Size

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        check_finite(*(values for values in item if values.dtype.kind == "f"))
        scores = self._cells(item, self.layout.scores, self.layout.classes)
        if scores.size and (scores.min() < _LEAST or scores.max() > MAX_SCORE):
            scores = sigmoid(scores)
        best = scores.max(axis=1)
        rows = strongest(best, min_score, MAX_CANDIDATES)
        stored = self._cells(item, self.layout.distances, _DISTANCES)
        shares = softmax(stored[rows].reshape(-1, _EDGES, _BINS))
        cells, steps = grid(self.size, STRIDES)
        distances = shares @ np.arange(_BINS, dtype=np.float32) * steps[rows]
        points = (cells[rows] + np.float32(0.5)) * steps[rows]
        boxes = np.concatenate([points - distances[:, :2], points + distances[:, 2:]], axis=1)
        return Candidates(boxes, best[rows], scores[rows].argmax(axis=1), boxes[:, 4:])

    def _cells(self, item: Sequence["NDArray[Any]"], outputs: Sequence[int], columns: int) -> "NDArray[np.float32]":
        """The values of all maps (cells, columns), float32."""
        parts = []
        for index, stride in zip(outputs, STRIDES, strict=True):
            sides = grid_sides(self.size, stride)
            values = item[index]
            check_shape(values, *((columns, *sides) if self.layout.channels_first else (*sides, columns)))
            if self.layout.channels_first:
                values = values.transpose(1, 2, 0)
            parts.append(real_values(values.reshape(-1, columns), self.specs[index]))
        return np.concatenate(parts)


def recognise_yolo_dfl(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """Two or three outputs for each of three feature maps, of which one has 64 channels."""
    del stated  # it can't be decoded without its grid
    size = picture_size(file)
    if size is None or len(file.outputs) not in [count * len(STRIDES) for count in _PER_MAP]:
        return None
    layout = _layout(file, size, channels_first=True) or _layout(file, size, channels_first=False)
    if layout is None:
        return None
    maps = f"{len(file.outputs)} outputs are maps of strides 8, 16, 32, each with {_EDGES} x {_BINS} distances"
    return Recognition(
        "yolo_dfl",
        "detection",
        (
            f"{maps} and {layout.classes} class(es), as in YOLOv8 and YOLO11 without their last layers",
            "YOLO models take RGB pixels from 0 to 1, letterboxed",
        ),
        build=lambda parts: _build(parts, layout, size),
        named=True,
        classes=layout.classes,
        resize="letterbox",
        color="rgb",
        normalization=UNIT,
    )


def _build(parts: Parts, layout: Layout, size: Size) -> Detector:
    return Detector(Distributions(layout, parts.outputs, size), parts.labels)


def _layout(file: ModelFile, size: Size, *, channels_first: bool) -> Layout | None:
    """Where distances and scores are; None if the outputs are no such maps."""
    maps: dict[tuple[int, int], list[tuple[int, int]]] = {grid_sides(size, stride): [] for stride in STRIDES}
    for index, tensor in enumerate(file.outputs):
        match tensor.shape:
            case (_, first, second, third):
                channels, sides = (first, (second, third)) if channels_first else (third, (first, second))
            case _:
                return None
        if sides not in maps:
            return None
        maps[sides].append((index, channels))
    distances, scores, classes = [], [], set[int]()
    for found in maps.values():
        boxes = [index for index, channels in found if channels == _DISTANCES]
        others = [(index, channels) for index, channels in found if boxes[:1] != [index]]
        if not boxes or len(found) * len(STRIDES) != len(file.outputs):
            return None
        if len(others) > 1 and others[1][1] != 1:  # the sum of the scores comes after them
            others.reverse()
        if len(others) > 1 and others[1][1] != 1:
            return None
        distances.append(boxes[0])
        scores.append(others[0][0])
        classes.add(others[0][1])
    if len(classes) != 1 or min(classes) < 1:
        return None
    return Layout(tuple(distances), tuple(scores), channels_first, classes.pop())
