"""RetinaFace and its relatives: faces with five points, relative to priors, the anchors of SSD.

Sources: https://github.com/biubug6/Pytorch_Retinaface (data/config.py: priors; utils/box_utils.py: encoding; detect.py:
preprocessing), https://github.com/biubug6/Face-Detector-1MB-with-landmark (data/config.py: priors of slim and RFB), and
for YuNet of 2021 and 2022 https://github.com/opencv/opencv/blob/4.5.5/modules/objdetect/src/face_detect.cpp.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.decoders import sigmoid
from edge_agent.decoders.boxes import grid, grid_sides, xywh_to_xyxy
from edge_agent.decoders.dense_head import MAX_EXPONENT, Anchors, Arranged, detector, find_head
from edge_agent.decoders.recognition import Recognition, Size, picture_size
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import RAW, Normalization
from edge_agent.system.units import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2
# By how much quantised probabilities of both classes may miss 1.
SUM_ROUNDING = 0.02
# Stride of a feature map and the sides of its priors, both in pixels.
Maps = tuple[tuple[int, tuple[float, ...]], ...]
RETINAFACE: Maps = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
SLIM: Maps = ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256)))
MEAN = ((104.0, 117.0, 123.0), (1.0,))


@dataclass(frozen=True, slots=True)
class Kind:
    """A published layout of the outputs.

    Attributes:
        model: what it is called.
        maps: its priors.
        columns: of its outputs.
        normalization: of its input, BGR.
        labels: None: it has been trained for other objects as well.
        whole_cells: whether cells that reach over the edge of the input are left out.
    """

    model: str
    maps: Maps
    columns: tuple[int, ...]
    normalization: Normalization = MEAN
    labels: tuple[str, ...] | None = ("face",)
    whole_cells: bool = False

    def map_size(self, size: Size, stride: int) -> Size:
        """Height, width in pixels of the part of the input that a feature map covers."""
        return (size[0] // stride * stride, size[1] // stride * stride) if self.whole_cells else size

    def count(self, size: Size) -> int:
        """The number of its priors for an input of height, width."""
        return sum(math.prod(grid_sides(self.map_size(size, stride), stride)) * len(each) for stride, each in self.maps)

    def sides(self) -> str:
        """The sides of its priors, in words."""
        return ", ".join(str(side) for _, lengths in self.maps for side in lengths)

    def with_priors(self, stated: "NDArray[np.float32] | None") -> "Kind":
        """The same layout with other priors, (N, 2) width, height in pixels; None: its own.

        Raises:
            ModelError: they are not as many, or no squares.
        """
        if stated is None:
            return self
        count = sum(len(lengths) for _, lengths in self.maps)
        if stated.shape != (count, 2) or not (stated[:, 0] == stated[:, 1]).all():
            raise ModelError(
                f"anchors: expected {count} lines of the same width and height, found {list(stated.shape)}"
            )
        given = iter(stated[:, 0].tolist())
        return replace(self, maps=tuple((stride, tuple(next(given) for _ in each)) for stride, each in self.maps))

    def priors(self, size: Size) -> Anchors:
        """Its priors for an input of height, width. Their unit is the variance of a centre, in parts of their side."""
        centres, sides = [], []
        for stride, lengths in self.maps:
            cells, _ = grid(self.map_size(size, stride), [stride])
            centres.append(np.repeat((cells + np.float32(0.5)) * stride, len(lengths), axis=0))
            sides.append(np.tile(np.array(lengths, np.float32), len(cells)))
        units = np.repeat(np.concatenate(sides)[:, None], 2, axis=1)
        return Anchors(np.concatenate(centres), units * np.float32(CENTRE_VARIANCE))


_SEPARATE, _JOINED, _YUNET = (2, 4, 10), (16,), (2, 1, 14)
KINDS = (
    *(Kind("RetinaFace", RETINAFACE, columns) for columns in (_SEPARATE, _JOINED)),
    *(Kind("Face-Detector-1MB (slim, RFB)", SLIM, columns) for columns in (_SEPARATE, _JOINED)),
    # The licence plate detector LPD-YuNet has the same outputs.
    Kind("YuNet of 2021 and 2022", SLIM, _YUNET, RAW, None, whole_cells=True),
)


def boxes(values: "NDArray[np.float32]", anchors: Anchors) -> "NDArray[np.float32]":
    """From the offset of the centre and the logarithm of the size, relative to a prior: see `Dense`."""
    powers = np.exp(np.minimum(values[:, 2:] * SIZE_VARIANCE, MAX_EXPONENT))
    sizes = powers * anchors.units / np.float32(CENTRE_VARIANCE)
    return xywh_to_xyxy(np.concatenate([anchors.points(values[:, :2]), sizes], axis=1))


def face_scores(classes: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Probabilities (N,) of a face, from scores (N, 2) of background and face.

    Exports differ in whether they end in a softmax. Of probabilities, each pair adds up to 1; of the logits of
    thousands of priors, never all.
    """
    if np.allclose(classes.sum(axis=1), 1, atol=SUM_ROUNDING):
        return classes[:, 1]
    return sigmoid(classes[:, 1] - classes[:, 0])


def arrange(kinds: Sequence["NDArray[np.float32]"]) -> Arranged:
    """Scores, and boxes with points: see `Dense`."""
    match kinds:
        case [joined]:
            return face_scores(joined[:, 4:6]), np.delete(joined, (4, 5), axis=1)
        case [classes, overlap, values] if overlap.shape[1] == 1:  # YuNet predicts the overlap with the true box
            return np.sqrt(face_scores(classes) * np.clip(overlap[:, 0], 0, 1)), values
        case [classes, *values]:
            return face_scores(classes), np.concatenate(values, axis=1)
    raise AssertionError


def recognise_retinaface(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, priors, 4], [1, priors, 2] and [1, priors, 10], or [1, priors, 16] of all three."""
    del stated  # it can't be decoded without its priors
    size = picture_size(file)
    if size is None:
        return None
    fitting = ((kind, head) for kind in KINDS if (head := find_head(file, [kind.count(size)], kind.columns)))
    kind, head = next(fitting, (None, None))
    if kind is None or head is None:
        return None
    colors = "BGR pixels from 0 to 255" if kind.normalization == RAW else "BGR pixels minus 104, 117, 123"
    return Recognition(
        "retinaface",
        "pose",
        (
            f"{counted(len(file.outputs), 'output')} with box, scores and five points for {kind.count(size)} priors",
            f"that is their number in {kind.model} at {size[1]} x {size[0]}",
            f"sides: {kind.sides()} pixels; if others in training, state anchors: FILE with width, height of each",
            f"{kind.model} takes {colors}, letterboxed with the padding right and below",
        ),
        build=lambda parts: detector(parts, head, kind.with_priors(parts.anchors).priors(size), arrange, boxes),
        classes=1,
        labels=kind.labels,
        resize="letterbox",
        color="bgr",
        normalization=kind.normalization,
    )
