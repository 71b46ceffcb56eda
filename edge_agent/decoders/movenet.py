"""MoveNet: 17 keypoints of one person, or of up to six; also as heat maps, as STMicroelectronics publishes it.

Sources: https://www.tensorflow.org/hub/tutorials/movenet and the model cards that it links (outputs, preprocessing),
https://github.com/tensorflow/examples/blob/master/lite/examples/pose_estimation/raspberry_pi/data.py (person).
Heat maps: https://github.com/STMicroelectronics/stm32ai-modelzoo/tree/main/pose_estimation/movenet (preprocessing, in
movenet_lightning_heatmaps_192_config.yaml) and its services (heatmaps_spe_postprocess).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import Decoder, check_finite, real_values
from edge_agent.decoders.boxes import box_scale
from edge_agent.decoders.dense_head import SIGMOIDS
from edge_agent.decoders.detection import Candidates, Detector, check_shape
from edge_agent.decoders.keypoints import Instance, SinglePose
from edge_agent.decoders.recognition import Parts, Recognition, Size, is_batch, picture_size, sole_output
from edge_agent.decoders.yolo_pose import Keypoints
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import RAW, SIGNED

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEYPOINTS = 17  # nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; the left one first
LABELS = ("person",)
# Keypoints below this score do not count towards the confidence of a person.
MIN_KEYPOINT_SCORE = 0.1
# Keypoints of the published heat maps, and pixels of the input for each of their cells.
HEAT_MAPS, HEAT_STRIDE = (17, 13), 4
_NUMBERS = 3
_PERSON = KEYPOINTS * _NUMBERS + 5


def person(values: "NDArray[np.float32]") -> Instance:
    """A person of keypoints (K, 3): x, y in pixels of the input, confidence. Its own is the mean of theirs.

    Those that can't be seen do not count.
    """
    scores = np.minimum(values[:, 2], 1)
    counted = scores[scores > MIN_KEYPOINT_SCORE]
    return Instance(float(counted.mean()) if len(counted) else 0.0, values)


@dataclass(frozen=True, slots=True)
class OnePerson:
    """Reads (1, 17, 3): y, x, confidence, as fractions of the input. The model outputs no box and no person score.

    Attributes:
        spec: the tensor.
        size: height, width of the model's input.
    """

    spec: TensorSpec
    size: Size

    def __call__(self, item: Sequence["NDArray[Any]"]) -> Instance:
        """The person: see `SinglePose`."""
        check_shape(item[0], 1, KEYPOINTS, _NUMBERS)
        values = real_values(item[0][0], self.spec)[:, [1, 0, 2]]
        check_finite(values)
        return person(values * np.array([self.size[1], self.size[0], 1], np.float32))


@dataclass(frozen=True, slots=True)
class HeatMaps:
    """Reads (rows, columns, keypoints): for each keypoint where it may be. It is in the middle of the hottest cell.

    Attributes:
        spec: the tensor.
        size: height, width of the model's input.
    """

    spec: TensorSpec
    size: Size

    def __call__(self, item: Sequence["NDArray[Any]"]) -> Instance:
        """The person: see `SinglePose`."""
        check_shape(item[0], *self.spec.shape[1:])
        rows, columns, keypoints = item[0].shape
        cells = item[0].reshape(-1, keypoints)
        check_finite(real_values(cells, self.spec))
        hottest = cells.argmax(axis=0)
        y, x = np.divmod(hottest, columns)
        points = (np.stack([x, y], axis=1) + 0.5) / (columns, rows) * self.size[::-1]
        scores = real_values(cells[hottest, np.arange(keypoints)], self.spec)
        return person(np.concatenate([points, scores[:, None]], axis=1).astype(np.float32))


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
    """[1, 1, 17, 3], [1, persons, 56], or heat maps [1, height / 4, width / 4, 17]."""
    output, size = sole_output(file), picture_size(file)
    if output is None or size is None or not output.shape or not is_batch(output.shape[0]):
        return None
    build: Callable[[Parts], Decoder]
    shape, heat = output.shape[1:], False
    if shape == (1, KEYPOINTS, _NUMBERS):
        what, build = f"{KEYPOINTS} keypoints of one person", lambda parts: _single(OnePerson, parts, size)
    elif len(shape) == 2 and shape[1] == _PERSON and 1 <= shape[0] <= 100:  # noqa: PLR2004 - axes; 100: any grid has more cells
        what = f"{KEYPOINTS} keypoints and a box for each of {shape[0]} persons"
        build = lambda parts: _several(parts, size)  # noqa: E731 - one of three
    elif shape[:-1] == (size[0] // HEAT_STRIDE, size[1] // HEAT_STRIDE) and shape[-1] > 0:
        if not stated and (shape[-1] not in HEAT_MAPS or file.output_operators[0] not in SIGMOIDS):
            return None
        what, heat = f"heat maps of {shape[-1]} keypoints", True
        build = lambda parts: _single(HeatMaps, parts, size)  # noqa: E731 - one of three
    else:
        return None
    takes = "-1 to 1, stretched" if heat else "0 to 255, resized with padding: letterbox"
    return Recognition(
        "movenet",
        "pose",
        (
            f"the output {list(output.shape)} is {what}, as in MoveNet",
            f"MoveNet{' as heat maps' if heat else ''} takes RGB pixels from {takes}",
        ),
        build=build,
        classes=1,
        labels=LABELS,
        resize="stretch" if heat else "letterbox",
        color="rgb",
        normalization=SIGNED if heat else RAW,
    )


def _single(kind: type[OnePerson | HeatMaps], parts: Parts, size: Size) -> SinglePose:
    return SinglePose(kind(parts.outputs[0], size), parts.labels)


def _several(parts: Parts, size: Size) -> Detector:
    keypoints = Keypoints(KEYPOINTS, _NUMBERS, size)
    return Detector(Persons(parts.outputs[0], size), parts.labels, overlapping=False, task="pose", details=keypoints)
