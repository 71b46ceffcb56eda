"""YOLO: YOLOv5 and YOLOv7 (with objectness), YOLOv8 to YOLO11 (without), and exports that include NMS.

Boxes are centre x, centre y, width, height; exports with NMS have corners, and so has YOLOv10 without its last step,
which all cells together show. Whether they are in pixels of the input or in fractions of it is derived from the values:
cells cover the whole input, so the largest centre is about 1, or hundreds.

Sources:
https://github.com/ultralytics/yolov5/blob/master/models/yolo.py (Detect) and models/tf.py (TFDetect: fractions),
https://github.com/WongKinYiu/yolov7/blob/main/models/yolo.py and models/experimental.py (ONNX_ORT),
https://github.com/ultralytics/ultralytics/blob/main/ultralytics/nn/modules/head.py (Detect) and engine/exporter.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values
from edge_agent.decoders.boxes import box_scale, strongest, xywh_to_xyxy
from edge_agent.decoders.detection import MAX_CANDIDATES, Candidates, Detector, check_shape, class_numbers
from edge_agent.decoders.recognition import (
    ANCHORS,
    Parts,
    Recognition,
    Size,
    cells_sentence,
    is_batch,
    picture_size,
    sole_output,
    strides_of,
    ultralytics_task,
)
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.modelfile.normalization import UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_END_TO_END = 1000
# A centre in fractions is hardly above 1; in pixels it is larger from the second cell on.
MAX_FRACTION = 2.0
_BOX, _WITH_OBJECTNESS, _END_TO_END, _END_TO_END_V7 = 4, 5, 6, 7


@dataclass(frozen=True, slots=True)
class Rows(ABC):
    """An output with one row per candidate, and how to read it: see `Read`.

    Attributes:
        spec: the output; from the file, until the engine is loaded.
        size: height, width of the model's input.
        sentence: describes the output, as evidence.
        classes: number of classes; None if rows hold a class id instead of scores.
        output: index of the output.
    """

    spec: TensorSpec
    size: Size
    sentence: str
    classes: int | None = None
    output: int = 0

    @abstractmethod
    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""


@dataclass(frozen=True, slots=True)
class Anchored(Rows):
    """(cells x anchors, 5 + classes + extras): box, objectness, class scores (YOLOv5, YOLOv7)."""

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        stored = item[self.output]
        check_shape(stored, *self.spec.shape[1:])
        classes = self.classes or 0
        rows, scores, class_ids = objects(stored, self.spec, classes, min_score)
        values = real_values(stored[rows], self.spec)
        largest = real_values(stored[:, :2].max(), self.spec)
        boxes = xywh_to_xyxy(values[:, :_BOX]) * to_pixels(largest, self.size)
        return Candidates(boxes, scores, class_ids, values[:, _WITH_OBJECTNESS + classes :])


@dataclass(frozen=True, slots=True)
class AnchorFree(Rows):
    """(4 + classes + extras, cells), or transposed: box, class scores (YOLOv8 and later).

    Attributes:
        cells_first: whether it is transposed.
    """

    cells_first: bool = False

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        check_shape(item[self.output], *self.spec.shape[1:])
        stored = item[self.output].T if self.cells_first else item[self.output]
        end = _BOX + (self.classes or 0)
        # Dequantisation is monotonic: take the maximum of the stored scores, and dequantise one value per cell.
        best = real_values(stored[_BOX:end].max(axis=0), self.spec)
        check_finite(best)
        rows = strongest(best, min_score, MAX_CANDIDATES)
        values = real_values(stored[:, rows].T, self.spec)
        largest = real_values(stored[:2].max(), self.spec)
        corners = values[:, :_BOX] if are_corners(stored[:_BOX]) else xywh_to_xyxy(values[:, :_BOX])
        boxes = corners * to_pixels(largest, self.size)
        return Candidates(boxes, best[rows], values[:, _BOX:end].argmax(axis=1), values[:, end:])


@dataclass(frozen=True, slots=True)
class EndToEnd(Rows):
    """(detections, 6 + extras): x1, y1, x2, y2, score, class. Unused rows have a score of 0."""

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        check_shape(item[self.output], *self.spec.shape[1:])
        values = real_values(item[self.output], self.spec)
        check_finite(values[:, 4])
        values = values[(values[:, 4] >= min_score) & (values[:, 4] > 0)]
        boxes = values[:, :_BOX] * to_pixels(values[:, :_BOX].max(initial=0), self.size)
        return Candidates(boxes, values[:, 4], class_numbers(values[:, 5]), values[:, _END_TO_END:])


@dataclass(frozen=True, slots=True)
class EndToEndV7(Rows):
    """(detections, 7): index in the batch, x1, y1, x2, y2, class, score, as YOLOv7 exports it."""

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        check_shape(item[self.output], -1, _END_TO_END_V7)
        values = real_values(item[self.output], self.spec)
        check_finite(values[:, 6])
        values = values[values[:, 6] >= min_score]
        boxes = values[:, 1:5] * to_pixels(values[:, 1:5].max(initial=0), self.size)
        return Candidates(boxes, values[:, 6], class_numbers(values[:, 5]), values[:, _END_TO_END_V7:])


def objects(
    stored: "NDArray[Any]", spec: TensorSpec, classes: int, min_score: float
) -> "tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]":
    """The best rows of an output with objectness. A score is the objectness times the class score.

    Args:
        stored: (cells, 5 + classes + …): box, objectness, class scores, and further columns; of the output's type.
        spec: of the output.
        classes: number of classes.
        min_score: rows with a lower score are left out.

    Returns:
        Indices (N,) of the rows, their scores (N,) and class ids (N,), the best first.

    Raises:
        InputError: a score is not finite.
    """
    objectness = real_values(stored[:, 4], spec)
    check_finite(objectness)
    # Class scores are at most 1, so a score is at most the objectness.
    rows = np.flatnonzero(objectness >= min_score)
    of_classes = stored[rows, _WITH_OBJECTNESS : _WITH_OBJECTNESS + classes]
    scores = objectness[rows] * real_values(of_classes.max(axis=1), spec)
    check_finite(scores)
    best = strongest(scores, min_score, MAX_CANDIDATES)
    return rows[best], scores[best], of_classes[best].argmax(axis=1)


def are_corners(stored: "NDArray[Any]") -> bool:
    """Whether boxes are corners (YOLOv10 without its last step), and not centre and size.

    The cells cover the whole input, so in some of them the centre lies farther from the edge than the box is wide.

    Args:
        stored: (4, cells), of the output's type, with one scale. Cells of four equal values show nothing.
    """
    filled = stored.max(axis=0) > stored.min(axis=0)
    return bool(filled.any() and (stored[2:] >= stored[:2])[:, filled].all())


def to_pixels(largest: "NDArray[np.float32] | np.float32", size: Size) -> "NDArray[np.float32]":
    """Factors (4,) that turn boxes into pixels of the input; `largest` is the largest coordinate of all boxes."""
    return box_scale(size) if largest <= MAX_FRACTION else np.ones(4, np.float32)


def anchored(tensor: Tensor, size: Size, extras: int = 0, *, stated: bool = False) -> Anchored | None:
    """Reads [1, 3 x cells, 5 + classes + extras]; None if the output has another shape."""
    if not _is_rows(tensor):
        return None
    _, rows, columns = tensor.shape
    classes = columns - _WITH_OBJECTNESS - extras
    strides = None if rows % ANCHORS else strides_of(size, rows // ANCHORS)
    if classes < 1 or (strides is None and not stated):
        return None
    cells = f"{ANCHORS} anchors for {cells_sentence(rows // ANCHORS, strides, size)}" if strides else f"{rows} anchors"
    return Anchored(_spec(tensor), size, f"{cells}, each with a box, the objectness and {classes} class(es)", classes)


def anchor_free(tensor: Tensor, size: Size, extras: int = 0, *, stated: bool = False) -> AnchorFree | None:
    """Reads [1, 4 + classes + extras, cells], or transposed; None if the output has another shape."""
    if not _is_rows(tensor):
        return None
    _, columns, cells = tensor.shape
    strides, cells_first = strides_of(size, cells), False
    if strides is None and (strides := strides_of(size, columns)):
        columns, cells, cells_first = cells, columns, True
    classes = columns - _BOX - extras
    if classes < 1 or (strides is None and not stated):
        return None
    sentence = cells_sentence(cells, strides, size) if strides else f"{cells} cells"
    sentence = f"{sentence}, each with a box and {classes} class(es), without objectness"
    return AnchorFree(_spec(tensor), size, sentence, classes, cells_first=cells_first)


def end_to_end(tensor: Tensor, size: Size, extras: int = 0, *, stated: bool = False) -> EndToEnd | None:
    """Reads [1, detections, 6 + extras]; None if the output has another shape."""
    if not _is_rows(tensor) or tensor.shape[2] != _END_TO_END + extras or tensor.shape[1] > MAX_END_TO_END:
        return None
    rows = tensor.shape[1]
    if not stated and any(strides_of(size, cells) for cells in (rows, rows // ANCHORS)):
        return None
    return EndToEnd(
        _spec(tensor),
        size,
        f"{rows} detections, each with corners, a score and a class: overlaps are suppressed in the model",
    )


def recognised(family: str, rows: Rows, output: Tensor, **more: Any) -> Recognition:
    """A recognition with the preprocessing that all YOLO models share. Keywords: see `Recognition`."""
    known: dict[str, Any] = {
        "task": "detection",
        "evidence": (
            f"the output {list(output.shape)} is {rows.sentence}",
            _unit_sentence(output),
            "YOLO models take RGB pixels from 0 to 1, letterboxed",
        ),
        "classes": rows.classes,
        "resize": "letterbox",
        "color": "rgb",
        "normalization": UNIT,
    }
    return Recognition(family, **(known | more))


def detector(rows: Rows, *, batched: bool = True) -> Callable[[Parts], Detector]:
    """Builds the decoder of plain detections."""
    return lambda parts: Detector(
        replace(rows, spec=parts.outputs[rows.output]),
        parts.labels,
        overlapping=rows.classes is not None,
        batched=batched,
    )


def recognise_yolov5(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """YOLOv5 and YOLOv7."""
    output, size = sole_output(file), picture_size(file)
    if output is None or size is None or ultralytics_task(file) not in (None, "detect"):
        return None
    rows = anchored(output, size, stated=stated)
    return None if rows is None else recognised("yolov5", rows, output, build=detector(rows))


def recognise_yolov8(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """YOLOv8 to YOLO11."""
    output, size, task = sole_output(file), picture_size(file), ultralytics_task(file)
    if output is None or size is None or task not in (None, "detect"):
        return None
    rows = anchor_free(output, size, stated=stated)
    if rows is None:
        return None
    return recognised("yolov8", rows, output, build=detector(rows), named=task is not None)


def recognise_end_to_end(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """Exports that include NMS: YOLOv10, YOLO26, `nms=True` of Ultralytics, `--end2end` of YOLOv7."""
    output, size, task = sole_output(file), picture_size(file), ultralytics_task(file)
    if output is None or size is None or task not in (None, "detect"):
        return None
    # YOLOv7 has the operator in its graph. Seven columns alone could be anything.
    if len(output.shape) == 2 and output.shape[1] == _END_TO_END_V7:  # noqa: PLR2004 - axes
        if "NonMaxSuppression" not in file.operators and not stated:
            return None
        v7 = EndToEndV7(_spec(output), size, "detections of YOLOv7: number in the batch, corners, class, score")
        return recognised("yolo_end_to_end", v7, output, build=detector(v7, batched=False), named=True)
    rows = end_to_end(output, size, stated=stated)
    if rows is None:
        return None
    return recognised("yolo_end_to_end", rows, output, build=detector(rows), named=task is not None)


def _is_rows(tensor: Tensor) -> bool:
    return len(tensor.shape) == 3 and is_batch(tensor.shape[0])  # noqa: PLR2004 - batch, rows, columns


def _spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.shape, tensor.dtype, tensor.scale or 0.0, tensor.zero_point)


def _unit_sentence(output: Tensor) -> str:
    if output.scale is None or output.dtype not in ("uint8", "int8"):
        return "boxes: in pixels or in fractions of the input, derived from the values at each inference"
    largest = ((255 if output.dtype == "uint8" else 127) - output.zero_point) * output.scale
    unit = "fractions" if largest <= MAX_FRACTION else "pixels"
    return f"boxes: {unit} of the input, its quantised values reach up to {largest:.3g}"
