"""Detections of HailoRT's non-maximum suppression, on the chip or on the CPU, in one buffer.

By class (float32): for each class the number of boxes, then as many times y1, x1, y2, x2, score. By score (bytes): the
number of boxes, uint16, then packed for each y1, x1, y2, x2, score, float32, and the class, uint16. Coordinates are
fractions of the input.

Source: https://github.com/hailo-ai/hailort/blob/master/hailort/libhailort/include/hailo/hailort.h
(HAILO_FORMAT_ORDER_HAILO_NMS_BY_CLASS, hailo_detections_t).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite
from edge_agent.decoders.boxes import box_scale
from edge_agent.decoders.detection import Candidates, Detector, check_shape
from edge_agent.decoders.recognition import Parts, Recognition, Size, picture_size, sole_output
from edge_agent.errors import InputError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUMBERS = 5
_COUNT = 2
_DETECTION = np.dtype([("values", "<f4", _NUMBERS), ("class_id", "<u2")])


@dataclass(frozen=True, slots=True)
class ByClass:
    """Reads (classes x (1 + 5 x most),), float32.

    Attributes:
        classes: their number.
        most: boxes of a class for which there is room.
        size: height, width of the model's input.
    """

    classes: int
    most: int
    size: Size

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        [buffer] = item
        check_shape(buffer, self.classes * (1 + _NUMBERS * self.most))
        at, parts, counts = 0, list["NDArray[Any]"](), list[int]()
        for _ in range(self.classes):
            check_finite(buffer[at : at + 1])
            count = int(buffer[at])
            if not 0 <= count <= self.most:
                raise InputError(f"the chip's answer can't be right: the number of boxes of a class is {count}")
            at += 1
            parts.append(buffer[at : at + count * _NUMBERS].reshape(count, _NUMBERS))
            counts.append(count)
            at += count * _NUMBERS
        class_ids = np.repeat(np.arange(self.classes), counts)
        return _candidates(np.concatenate(parts), class_ids, min_score, self.size)


@dataclass(frozen=True, slots=True)
class ByScore:
    """Reads bytes: the number of boxes, and the boxes.

    Attributes:
        size: height, width of the model's input.
    """

    size: Size

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        [buffer] = item
        check_shape(buffer, -1)
        content = buffer.astype(np.uint8, copy=False).tobytes()
        count = int.from_bytes(content[:_COUNT], "little")
        if len(content) < _COUNT + count * _DETECTION.itemsize:
            raise InputError(f"the chip's answer can't be right: it has no room for {count} boxes")
        rows = np.frombuffer(content, _DETECTION, count, _COUNT)
        return _candidates(rows["values"], rows["class_id"].astype(np.intp), min_score, self.size)


def _candidates(rows: "NDArray[np.float32]", class_ids: "NDArray[np.intp]", min_score: float, size: Size) -> Candidates:
    """Candidates of rows (N, 5) y1, x1, y2, x2, score."""
    check_finite(rows)
    kept = np.flatnonzero(rows[:, 4] >= min_score)
    boxes = rows[kept][:, [1, 0, 3, 2]] * box_scale(size)
    return Candidates(boxes, rows[kept, 4].astype(np.float32), class_ids[kept], boxes[:, 4:])


def recognise_hailo_nms(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """The output of a HEF file that suppresses overlaps."""
    del stated  # without the file's facts it can't be read
    size, found = picture_size(file), file.compiled.suppression if file.compiled else None
    output = sole_output(file)
    if file.format != "hef" or size is None or found is None or output is None or found.classes < 1:
        return None

    def build(parts: Parts) -> Detector:
        by_score = parts.outputs[0].dtype == "uint8"
        read = ByScore(size) if by_score else ByClass(found.classes, found.max_per_class, size)
        return Detector(read, parts.labels, overlapping=False)

    threshold = "" if found.score_threshold is None else f", of scores from {found.score_threshold:.3g}"
    return Recognition(
        "hailo_nms",
        "detection",
        (
            f"HailoRT gives up to {found.max_per_class} boxes of each of {found.classes} class(es){threshold}",
            "RGB pixels, letterboxed; what is done with their values is compiled in",
        ),
        build=build,
        named=True,
        classes=found.classes,
        resize="stretch" if found.kind == "ssd" else "letterbox",
        color="rgb",
        normalization=UNIT,
    )
