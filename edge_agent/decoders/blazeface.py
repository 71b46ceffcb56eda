"""BlazeFace, and the palm and person detectors of MediaPipe, which are built like it: boxes with points.

Sources: the graphs of https://github.com/google-ai-edge/mediapipe/tree/master/mediapipe/modules: face_detection
(face_detection_short_range_common.pbtxt, face_detection_full_range_common.pbtxt), palm_detection
(palm_detection_cpu.pbtxt), pose_detection (pose_detection_cpu.pbtxt): anchors, outputs, preprocessing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.decoders import sigmoid
from edge_agent.decoders.boxes import xywh_to_xyxy
from edge_agent.decoders.dense_head import (
    Anchors,
    Arranged,
    Head,
    anchor_counts,
    detector,
    find_head,
    grid_anchors,
)
from edge_agent.decoders.recognition import Recognition, Size, picture_size
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import SIGNED, UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the detectors.

    Attributes:
        label: of what it finds.
        columns: numbers of a box and of its points.
        points: a sentence about them.
        unit_sides: sides of the inputs, in pixels, that take pixels from 0 to 1; others take -1 to 1.
    """

    label: str
    columns: int
    points: str
    unit_sides: tuple[int, ...] = ()


KINDS = (
    Kind("face", 16, "points: right eye, left eye, nose, mouth, right ear, left ear"),
    # The palm detectors of 2019 and 2020, of 256 and 128 pixels, took -1 to 1.
    Kind("palm", 18, "points: wrist, knuckles from index finger to little finger, two of the thumb", unit_sides=(192,)),
    Kind("person", 12, "points: hips, a point for size and rotation, shoulders, another one; its box is of the face"),
)
# Strides of the feature maps, and the number of anchors in each cell: short range, back camera, full range, person.
GRIDS = (((8, 16), (2, 6)), ((16, 32), (2, 6)), ((4,), (1,)), ((8, 16, 32), (2, 2, 6)))


def recognise_blazeface(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, anchors, 1] and [1, anchors, 16], 18 for palms, 12 for persons; or these for each feature map."""
    del stated  # it can't be decoded without its grid
    size = picture_size(file)
    found = None if size is None else next(_fitting(file, size), None)
    if size is None or found is None:
        return None
    head, kind, anchors = found
    low, normalization = (0, UNIT) if size[0] in kind.unit_sides else (-1, SIGNED)
    return Recognition(
        "blazeface",
        "pose",
        (
            f"{len(file.outputs)} outputs are score, box and points for {sum(head.counts)} anchors",
            f"each has {kind.columns} numbers, as in MediaPipe's detector of {kind.label}s; {kind.points}",
            f"MediaPipe's detectors take RGB pixels, letterboxed, this one from {low} to 1",
        ),
        build=lambda parts: detector(parts, head, anchors, _arrange, _boxes),
        classes=1,
        labels=(kind.label,),
        resize="letterbox",
        color="rgb",
        normalization=normalization,
    )


def _fitting(file: ModelFile, size: Size) -> Iterator[tuple[Head, Kind, Anchors]]:
    """The outputs, what they are of, and the anchors."""
    for strides, per_cell in GRIDS:
        counts = anchor_counts(size, strides, per_cell)
        for kind in KINDS:
            for maps in dict.fromkeys((counts, (sum(counts),))):
                if head := find_head(file, maps, (1, kind.columns)):
                    anchors = grid_anchors(size, strides, per_cell, offset=0.5)
                    yield head, kind, Anchors(anchors.centres, np.ones_like(anchors.units))


def _arrange(kinds: Sequence["NDArray[np.float32]"]) -> Arranged:
    return sigmoid(kinds[0][:, 0]), kinds[1]


def _boxes(values: "NDArray[np.float32]", anchors: Anchors) -> "NDArray[np.float32]":
    return xywh_to_xyxy(np.concatenate([anchors.points(values[:, :2]), values[:, 2:]], axis=1))
