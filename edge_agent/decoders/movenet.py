"""MoveNet: 17 keypoints of one person, or of up to six.

Sources: https://www.tensorflow.org/hub/tutorials/movenet and the model cards that it links (outputs, preprocessing),
https://github.com/tensorflow/examples/blob/master/lite/examples/pose_estimation/raspberry_pi/data.py (person).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import Limits, check_finite, real_values
from edge_agent.decoders.boxes import box_scale
from edge_agent.decoders.detection import Candidates, Detector, check_shape, items, label_of
from edge_agent.decoders.recognition import RAW, Parts, Recognition, Size, is_batch, picture_size, sole_output
from edge_agent.decoders.yolo_pose import Keypoints
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEYPOINTS = 17  # nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; the left one first
LABELS = ("person",)
# Keypoints below this score do not count towards the confidence of a person.
MIN_KEYPOINT_SCORE = 0.1
_NUMBERS = 3
_PERSON = KEYPOINTS * _NUMBERS + 5


@dataclass(frozen=True, slots=True)
class SinglePose:
    """Decodes (1, 17, 3): y, x, confidence, as fractions of the input. The model outputs no box and no person score.

    Attributes:
        spec: the tensor.
        labels: exactly one.
        size: height, width of the model's input.
    """

    task = "pose"

    spec: TensorSpec
    labels: Sequence[str] | None
    size: Size

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`. The confidence is the mean of the keypoints' confidences."""
        predictions = []
        for placement, item in zip(placements, items(outputs, len(placements)), strict=True):
            check_shape(item[0], 1, KEYPOINTS, _NUMBERS)
            values = real_values(item[0][0], self.spec)
            check_finite(values)
            scores = np.minimum(values[:, 2], 1)
            counted = scores[scores > MIN_KEYPOINT_SCORE]
            confidence = float(counted.mean()) if len(counted) else 0.0
            if confidence >= limits.min_confidence:
                with np.errstate(over="ignore"):  # infinite values are clipped to the image
                    points = placement.to_picture(values[:, 1::-1] * box_scale(self.size)[:2])
                keypoints = np.concatenate([points, scores[:, None]], axis=1)
                predictions.append(
                    Prediction(
                        label_of(0, self.labels),
                        0,
                        confidence,
                        placement.region,
                        keypoints=tuple(map(tuple, keypoints.tolist())),
                    )
                )
        return predictions


@dataclass(frozen=True, slots=True)
class Persons:
    """Reads (persons, 56): 17 times y, x, confidence, then y1, x1, y2, x2, score, as fractions of the input.

    Attributes:
        spec: the tensor.
        size: height, width of the model's input.
    """

    spec: TensorSpec
    size: Size

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        check_shape(item[0], -1, _PERSON)
        values = real_values(item[0], self.spec)
        check_finite(values)
        values = values[values[:, -1] >= min_score]
        boxes = values[:, [-4, -5, -2, -3]] * box_scale(self.size)
        keypoints = values[:, :-5].reshape(-1, KEYPOINTS, _NUMBERS)[:, :, [1, 0, 2]]
        keypoints = keypoints.reshape(len(values), KEYPOINTS * _NUMBERS)
        return Candidates(boxes, values[:, -1], np.zeros(len(values), np.intp), keypoints)


def recognise_movenet(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, 1, 17, 3], or [1, persons, 56]."""
    del stated  # the shape is unique
    output, size = sole_output(file), picture_size(file)
    if output is None or size is None or not output.shape or not is_batch(output.shape[0]):
        return None
    single = output.shape[1:] == (1, KEYPOINTS, _NUMBERS)
    # 100: far fewer than any grid has cells.
    if not single and (len(output.shape) != 3 or output.shape[2] != _PERSON or not 1 <= output.shape[1] <= 100):  # noqa: PLR2004 - axes
        return None
    what = "of one person" if single else f"and a box for each of {output.shape[1]} persons"
    return Recognition(
        "movenet",
        "pose",
        (
            f"the output {list(output.shape)} is {KEYPOINTS} keypoints {what}, as in MoveNet",
            "MoveNet takes RGB pixels from 0 to 255, resized with padding: letterbox",
        ),
        build=lambda parts: _build(parts, size, single=single),
        classes=1,
        labels=LABELS,
        resize="letterbox",
        color="rgb",
        normalization=RAW,
    )


def _build(parts: Parts, size: Size, *, single: bool) -> SinglePose | Detector:
    spec = parts.outputs[0]
    if single:
        return SinglePose(spec, parts.labels, size)
    keypoints = Keypoints(KEYPOINTS, _NUMBERS, size)
    return Detector(Persons(spec, size), parts.labels, overlapping=False, task="pose", details=keypoints)
