"""MediaPipe's landmarks of one hand, face or person, which fills the input: a crop of what a detector has found.

Sources: the graphs of https://github.com/google-ai-edge/mediapipe/tree/master/mediapipe/modules: hand_landmark
(hand_landmark_cpu.pbtxt), face_landmark (face_landmark_cpu.pbtxt, tensors_to_face_landmarks_with_attention.pbtxt),
pose_landmark (pose_landmark_by_roi_cpu.pbtxt, tensors_to_pose_landmarks_and_segmentation.pbtxt). Of a hand seen in a
mirror, left and right are exchanged: https://github.com/opencv/opencv_zoo/tree/main/models/handpose_estimation_mediapipe.
The crop is not rotated, and the heat maps of the pose model are not used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values, sigmoid
from edge_agent.decoders.dense_head import SIGMOIDS
from edge_agent.decoders.detection import check_size
from edge_agent.decoders.keypoints import Instance, SinglePose
from edge_agent.decoders.recognition import Parts, Recognition, Size, is_batch, number_of, picture_size
from edge_agent.decoders.yolo import to_pixels
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the models.

    Attributes:
        what: it looks at.
        numbers: of its landmarks' output: points x columns.
        columns: numbers of a point: x, y, z in pixels of the input, and maybe its visibility and presence, as logits.
        points: how many of the points are published.
        labels: two: a second score decides between them.
    """

    what: str
    numbers: int
    columns: int
    points: int
    labels: tuple[str, ...]


KINDS = (
    Kind("hand", 63, 3, 21, ("left hand", "right hand")),
    Kind("face", 1404, 3, 468, ("face",)),
    Kind("face", 1434, 3, 478, ("face",)),
    Kind("person", 195, 5, 33, ("person",)),
)
_VISIBILITY = 3


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Reads landmarks, the score that there is anything, and the side of a hand: see `SinglePose`.

    Attributes:
        kind: of the model.
        landmarks: indices of the outputs that may be the landmarks: in pixels of the input, or else in metres.
        scores: indices of the scores: of its presence and, of a hand, that it is a right one.
        logits: whether a sigmoid has to be applied to the scores.
        size: height, width of the model's input.
        specs: the outputs; those of the file, until the engine is loaded.
    """

    kind: Kind
    landmarks: tuple[int, ...]
    scores: tuple[int, ...]
    logits: bool
    size: Size
    specs: Sequence[TensorSpec] = ()

    def __call__(self, item: Sequence["NDArray[Any]"]) -> Instance:
        """What the model sees in its input: see `SinglePose`."""
        # A model is broken whose mask or heat maps, which nobody uses, are no numbers.
        check_finite(*(tensor for tensor in item if tensor.dtype.kind == "f"))
        vectors = [self._values(item, index, self.kind.numbers) for index in self.landmarks]
        scores = [float(self._values(item, index, 1)[0]) for index in self.scores]
        # Pixels are larger than metres.
        values = max(vectors, key=lambda vector: float(np.abs(vector).max())).reshape(-1, self.kind.columns)
        values = values[: self.kind.points]
        points = values[:, :2] * to_pixels(values[:, :2].max(), self.size)[:2]
        if self.kind.columns > _VISIBILITY:
            points = np.concatenate([points, sigmoid(values[:, _VISIBILITY, None])], axis=1)
        right = len(scores) > 1 and scores[1] > 0.5  # noqa: PLR2004 - as likely as left
        return Instance(scores[0], points, int(right))

    def _values(self, item: Sequence["NDArray[Any]"], index: int, count: int) -> "NDArray[np.float32]":
        check_size(item[index], count)
        values = real_values(item[index].reshape(count), self.specs[index])
        return sigmoid(values) if count == 1 and self.logits else values


def recognise_landmarks(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """Outputs of 63 (hand), 1404 or 1434 (face) or 195 numbers (person), and of one: its score."""
    del stated  # the sizes are unique
    size, found = picture_size(file), _outputs(file)
    if size is None or found is None:
        return None
    kind, landmarks, scores = found
    labels = kind.labels if len(scores) >= len(kind.labels) else (kind.what,)
    operator = file.output_operators[scores[0]]
    read = Landmarks(kind, landmarks, scores, operator not in SIGMOIDS, size)
    what = "logit" if read.logits else "probability"
    return Recognition(
        "landmarks",
        "pose",
        (
            f"outputs of {kind.numbers} and 1 numbers are landmarks of a {kind.what} and its score, as in MediaPipe",
            f"{kind.points} points; the score is a {what}, its last operator is {operator or 'not known'}",
            f"it expects a crop of one {kind.what}, such as a pipeline with a source of `type: pipeline` makes",
            "MediaPipe's landmark models take RGB pixels from 0 to 1, letterboxed",
        ),
        build=lambda parts: _build(parts, read),
        classes=len(labels),
        labels=labels,
        resize="letterbox",
        color="rgb",
        normalization=UNIT,
    )


def _outputs(file: ModelFile) -> tuple[Kind, tuple[int, ...], tuple[int, ...]] | None:
    """Which model it is, its outputs that may be the landmarks, and its scores: presence before the side of a hand."""
    order = sorted(range(len(file.outputs)), key=lambda index: (number_of(file.outputs[index].name), index))
    sizes = {
        index: math.prod(shape[1:]) for index in order if is_batch((shape := file.outputs[index].shape or (0,))[0])
    }
    scores = tuple(index for index in order if sizes.get(index) == 1)
    for kind in KINDS:
        landmarks = tuple(index for index in order if sizes.get(index) == kind.numbers)
        if landmarks and scores:
            named = [index for index in scores if "handedness" in file.outputs[index].name]
            return kind, landmarks, tuple(sorted(scores, key=lambda index: index in named))[: len(kind.labels)]
    return None


def _build(parts: Parts, read: Landmarks) -> SinglePose:
    return SinglePose(replace(read, specs=parts.outputs), parts.labels)
