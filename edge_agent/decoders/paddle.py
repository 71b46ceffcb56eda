"""PaddleDetection with its non-maximum suppression: PicoDet, PP-YOLOE, YOLOv3 and others.

Source: https://github.com/PaddlePaddle/PaddleDetection/blob/develop/deploy/python/infer.py (rows of class, score, x1,
y1, x2, y2, and how many there are; with `scale_factor` 1 they are in pixels of the input).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite
from edge_agent.decoders.detection import Candidates, Detector, check_shape, class_numbers
from edge_agent.decoders.recognition import Recognition, picture_size
from edge_agent.modelfile.facts import ModelFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLUMNS = 6


@dataclass(frozen=True, slots=True)
class ClassFirst:
    """Reads rows (N, 6) of class, score, x1, y1, x2, y2 in pixels of the input; unused ones have class -1.

    Attributes:
        rows: index of the output.
    """

    rows: int

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        check_shape(item[self.rows], -1, _COLUMNS)
        values = item[self.rows].astype(np.float32)
        check_finite(values[:, :2])
        values = values[(values[:, 0] >= 0) & (values[:, 1] >= min_score)]
        return Candidates(values[:, 2:], values[:, 1], class_numbers(values[:, 0]), values[:, _COLUMNS:])


def recognise_paddle(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[detections, 6], and their number as a whole number for each picture."""
    size = picture_size(file)
    if size is None or not 1 <= len(file.outputs) <= 2:  # noqa: PLR2004 - rows, their number
        return None
    rows = next((at for at, tensor in enumerate(file.outputs) if tensor.shape[1:] == (_COLUMNS,)), None)
    counts = [tensor for at, tensor in enumerate(file.outputs) if at != rows]
    if rows is None or any(one.dtype != "int32" or len(one.shape) > 1 for one in counts):
        return None
    if not stated and not counts:
        return None  # six columns alone could be anything
    return Recognition(
        "paddle",
        "detection",
        (
            "the outputs are rows of class, score and corners, and their number, as PaddleDetection exports them",
            "PaddleDetection takes RGB pixels, stretched",
        ),
        build=lambda parts: Detector(ClassFirst(rows), parts.labels, overlapping=False, batched=False),
        resize="stretch",
        color="rgb",
    )
