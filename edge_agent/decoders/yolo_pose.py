"""YOLO pose: detections with keypoints.

Source: https://github.com/ultralytics/ultralytics/blob/main/ultralytics/nn/modules/head.py (Pose).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_agent.decoders.detection import Candidates, Detector
from edge_agent.decoders.keypoints import to_picture
from edge_agent.decoders.recognition import (
    Parts,
    Recognition,
    Size,
    embedded_list,
    picture_size,
    sole_output,
    ultralytics_task,
)
from edge_agent.decoders.yolo import Rows, anchor_free, end_to_end, recognised, to_pixels
from edge_agent.modelfile.facts import ModelFile
from edge_agent.preprocess.placement import Placement

if TYPE_CHECKING:
    from numpy.typing import NDArray

COCO_KEYPOINTS = (17, 3)
MAX_KEYPOINTS = 1000
_WITH_CONFIDENCE = 3


@dataclass(frozen=True, slots=True)
class Keypoints:
    """Keypoints of detections: see `Details`.

    Attributes:
        count: number of keypoints.
        numbers: per keypoint: 2 (x, y) or 3 (x, y, confidence).
        size: height, width of the model's input.
    """

    count: int
    numbers: int
    size: Size

    def __call__(
        self, found: Candidates, item: Sequence["NDArray[Any]"], placement: Placement
    ) -> Iterator[dict[str, Any]]:
        """The keypoints of each detection: x, y in pixels of the image, and the confidence if the model has one."""
        del item
        values = found.extras.reshape(-1, self.numbers)
        # In pixels or in fractions of the input, like boxes.
        scale = to_pixels(values[:, :2].max(initial=0), self.size)[:2]
        keypoints = to_picture(values, placement, scale).reshape(-1, self.count, self.numbers)
        yield from ({"keypoints": tuple(map(tuple, person))} for person in keypoints.tolist())


def recognise_yolo_pose(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, 4 + classes + keypoints, cells], or [1, detections, 6 + keypoints]."""
    output, size, task = sole_output(file), picture_size(file), ultralytics_task(file)
    if output is None or size is None or task not in (None, "pose"):
        return None
    shape = embedded_list(file.metadata, "kpt_shape") or COCO_KEYPOINTS
    if len(shape) != 2 or shape[1] not in (2, _WITH_CONFIDENCE) or not 1 <= shape[0] <= MAX_KEYPOINTS:  # noqa: PLR2004 - x, y
        return None
    extras = shape[0] * shape[1]
    rows: Rows | None = anchor_free(output, size, extras) or end_to_end(output, size, extras)
    if rows is None or (task is None and not stated and rows.classes != 1):
        return None  # without a name in the file, only the published model of persons is recognised
    keypoints = Keypoints(*shape, size)
    return recognised(
        "yolo_pose",
        replace(rows, sentence=f"{rows.sentence}, and with {shape[0]} keypoints of {shape[1]} numbers"),
        output,
        task="pose",
        named=task is not None,
        build=lambda parts: _build(rows, keypoints, parts),
        labels=None if task else ("person",),
    )


def _build(rows: Rows, keypoints: Keypoints, parts: Parts) -> Detector:
    read = replace(rows, spec=parts.outputs[rows.output])
    return Detector(read, parts.labels, overlapping=rows.classes is not None, task="pose", details=keypoints)
