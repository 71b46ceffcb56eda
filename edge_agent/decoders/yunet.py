"""YuNet: faces with five points: right eye, left eye, nose, right and left corner of the mouth.

Sources: https://github.com/opencv/opencv/blob/4.x/modules/objdetect/src/face_detect.cpp (outputs, preprocessing: BGR
pixels as they are; since 2022 without priors) and https://github.com/ShiqiYu/libfacedetection.train.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.decoders.boxes import xywh_to_xyxy
from edge_agent.decoders.dense_head import (
    MAX_EXPONENT,
    Anchors,
    Arranged,
    anchor_counts,
    detector,
    find_head,
    grid_anchors,
)
from edge_agent.decoders.recognition import Recognition, picture_size
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import RAW

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRIDES, PER_CELL = (8, 16, 32), (1, 1, 1)
COLUMNS = (1, 1, 4, 10)  # class, objectness, box, points


def arrange(kinds: Sequence["NDArray[np.float32]"]) -> Arranged:
    """The score is the geometric mean of the scores of the class and of the objectness."""
    classes, objectness, boxes, points = kinds
    scores = np.sqrt(np.clip(classes, 0, 1) * np.clip(objectness, 0, 1))[:, 0]
    return scores, np.concatenate([boxes, points], axis=1)


def boxes(values: "NDArray[np.float32]", anchors: Anchors) -> "NDArray[np.float32]":
    """From the offset of the centre and the logarithm of the size, both in strides: see `Dense`."""
    sizes = np.exp(np.minimum(values[:, 2:], MAX_EXPONENT)) * anchors.units
    return xywh_to_xyxy(np.concatenate([anchors.points(values[:, :2]), sizes], axis=1))


def recognise_yunet(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """For strides 8, 16, 32: [1, cells, 1] twice, [1, cells, 4] and [1, cells, 10]."""
    del stated  # it can't be decoded without its grid
    size = picture_size(file)
    head = size and find_head(file, anchor_counts(size, STRIDES, PER_CELL), COLUMNS)
    if size is None or not head:
        return None
    return Recognition(
        "yunet",
        "pose",
        (
            f"12 outputs are class, objectness, box and five points for {sum(head.counts)} cells of strides 8, 16, 32",
            "YuNet takes BGR pixels from 0 to 255, letterboxed with the padding right and below",
        ),
        build=lambda parts: detector(parts, head, grid_anchors(size, STRIDES, PER_CELL), arrange, boxes),
        classes=1,
        labels=("face",),
        resize="letterbox",
        color="bgr",
        normalization=RAW,
    )
