"""UltraFace: faces, with boxes as fractions of the input.

Source: https://github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB (vision/ssd/config/fd_config.py, and
run_video_face_detect_onnx.py: preprocessing and outputs).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values
from edge_agent.decoders.boxes import box_scale, grid_sides, strongest
from edge_agent.decoders.detection import MAX_CANDIDATES, Candidates, Detector, check_shape
from edge_agent.decoders.recognition import Recognition, Size, picture_size
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = ("background", "face")
# Stride of a feature map in pixels, and the number of boxes per cell.
FEATURE_MAPS = ((8, 3), (16, 2), (32, 2), (64, 3))
NORMALIZATION = ((127.0,), (128.0,))
_FACE = 1


@dataclass(frozen=True, slots=True)
class Faces:
    """Reads scores (boxes, 2) of background and face, and boxes (boxes, 4) x1, y1, x2, y2 as fractions of the input.

    Attributes:
        scores, boxes: indices of the outputs.
        specs: the outputs.
        size: height, width of the model's input.
    """

    scores: int
    boxes: int
    specs: Sequence[TensorSpec]
    size: Size

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        for tensor, spec in zip(item, self.specs, strict=True):
            check_shape(tensor, *spec.shape[1:])
        faces = real_values(item[self.scores][:, _FACE], self.specs[self.scores])
        check_finite(faces)
        rows = strongest(faces, min_score, MAX_CANDIDATES)
        boxes = real_values(item[self.boxes][rows], self.specs[self.boxes]) * box_scale(self.size)
        return Candidates(boxes, faces[rows], np.full(len(rows), _FACE), boxes[:, 4:])


def recognise_ultraface(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, boxes, 2] and [1, boxes, 4]."""
    size = picture_size(file)
    shapes = [tensor.shape[1:] for tensor in file.outputs]
    if size is None or len(shapes) != 2 or any(len(shape) != 2 for shape in shapes):  # noqa: PLR2004 - scores and boxes
        return None
    boxes = max(range(2), key=lambda place: shapes[place][1])
    count = sum(rows * columns * each for stride, each in FEATURE_MAPS for rows, columns in [grid_sides(size, stride)])
    scores = 1 - boxes
    if shapes[boxes][1] != 4 or shapes[scores][1] != len(LABELS) or shapes[boxes][0] != shapes[scores][0]:  # noqa: PLR2004 - edges
        return None
    if shapes[boxes][0] != count and not stated:
        return None
    return Recognition(
        "ultraface",
        "detection",
        (
            f"the outputs {list(file.outputs[scores].shape)} and {list(file.outputs[boxes].shape)} are scores, boxes",
            f"at {size[1]} x {size[0]} UltraFace looks for faces in {count} places",
            "UltraFace takes RGB pixels, stretched, (x - 127) / 128",
        ),
        build=lambda parts: Detector(Faces(scores, boxes, parts.outputs, size), parts.labels),
        named=shapes[boxes][0] == count,
        classes=len(LABELS),
        background=True,
        labels=LABELS,
        resize="stretch",
        color="rgb",
        normalization=NORMALIZATION,
    )
