"""YOLO-NAS and PP-YOLOE: boxes and scores for each cell, decoded by the model; with its suppression or not.

Sources: https://github.com/Deci-AI/super-gradients/blob/master/documentation/source/models_export.md (`batch`
format) and https://github.com/PaddlePaddle/PaddleDetection/blob/develop/ppdet/modeling/heads/ppyoloe_head.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values
from edge_agent.decoders.boxes import strongest
from edge_agent.decoders.detection import MAX_CANDIDATES, Candidates, Detector, check_shape, class_numbers
from edge_agent.decoders.recognition import Recognition, cells_sentence, is_batch, picture_size, strides_of
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH_FORMAT = ("num_predictions", "pred_boxes", "pred_scores", "pred_classes")


@dataclass(frozen=True, slots=True)
class Cells:
    """Reads boxes (cells, 4) x1, y1, x2, y2 in pixels of the input and scores of all classes.

    Attributes:
        boxes, scores: indices of the outputs.
        specs: the outputs.
        cells: their number.
        classes: their number.
        classes_first: whether scores are (classes, cells).
    """

    boxes: int
    scores: int
    specs: Sequence[TensorSpec]
    cells: int
    classes: int
    classes_first: bool

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        stored = item[self.scores].T if self.classes_first else item[self.scores]
        check_shape(stored, self.cells, self.classes)
        check_shape(item[self.boxes], self.cells, 4)
        best = real_values(stored.max(axis=1), self.specs[self.scores])
        check_finite(best)
        rows = strongest(best, min_score, MAX_CANDIDATES)
        boxes = real_values(item[self.boxes][rows], self.specs[self.boxes])
        return Candidates(boxes, best[rows], stored[rows].argmax(axis=1), boxes[:, 4:])


@dataclass(frozen=True, slots=True)
class Counted:
    """Reads the `batch` format: how many, boxes (N, 4) in pixels of the input, scores (N,), classes (N,).

    Attributes:
        at: indices of the outputs, in that order.
    """

    at: tuple[int, ...]

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        del min_score
        count, boxes, scores, classes = (item[number].astype(np.float32) for number in self.at)
        check_shape(scores, -1)
        check_shape(boxes, len(scores), 4)
        check_shape(classes, len(scores))
        check_shape(count.reshape(-1), 1)
        check_finite(count, boxes, scores)
        found = int(np.clip(count.reshape(-1)[0], 0, len(scores)))
        return Candidates(boxes[:found], scores[:found], class_numbers(classes[:found]), boxes[:found, 4:])


def recognise_yolo_nas(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, cells, 4] and [1, cells, classes] or [1, classes, cells], or the four outputs of the `batch` format."""
    del stated
    size = picture_size(file)
    if size is None:
        return None
    at = {tensor.name: number for number, tensor in enumerate(file.outputs)}
    if at.keys() == set(_BATCH_FORMAT):
        read = Counted(tuple(at[name] for name in _BATCH_FORMAT))
        return Recognition(
            "yolo_nas",
            "detection",
            (f"the outputs {', '.join(_BATCH_FORMAT)} are the `batch` format of YOLO-NAS", _PIXELS),
            build=lambda parts: Detector(read, parts.labels, overlapping=False),
            named=True,
            resize="letterbox",
            color="rgb",
            normalization=UNIT,
        )
    shapes = [tensor.shape for tensor in file.outputs]
    if len(shapes) != 2 or any(len(shape) != 3 or not is_batch(shape[0]) for shape in shapes):  # noqa: PLR2004 - axes
        return None
    for boxes in range(2):
        cells, sides = shapes[boxes][1:]
        strides = strides_of(size, cells)
        if sides == 4 and strides is not None and cells in shapes[1 - boxes][1:]:  # noqa: PLR2004 - numbers of a box
            break
    else:
        return None
    classes_first = shapes[1 - boxes][2] == cells
    classes = shapes[1 - boxes][1] if classes_first else shapes[1 - boxes][2]
    what = cells_sentence(cells, strides, size)
    evidence = f"the outputs are boxes and {classes} class(es) for {what}, as in YOLO-NAS and PP-YOLOE"
    return Recognition(
        "yolo_nas",
        "detection",
        (evidence, _PIXELS),
        build=lambda parts: Detector(
            Cells(boxes, 1 - boxes, parts.outputs, cells, classes, classes_first), parts.labels
        ),
        classes=classes,
        resize="letterbox" if not classes_first else "stretch",
        color="rgb",
        normalization=UNIT,
    )


_PIXELS = "YOLO-NAS and PP-YOLOE+ take RGB pixels from 0 to 1; the boxes are in pixels of the input"
