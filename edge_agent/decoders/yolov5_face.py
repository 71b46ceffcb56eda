"""YOLOv5-face: YOLOv5 with five points for each face: left eye, right eye, nose, left and right corner of the mouth.

Source: https://github.com/deepcam-cn/yolov5-face: models/yolo.py (Detect: 16 columns, all in pixels), detect_face.py
(preprocessing).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_agent.decoders.detection import Candidates, Detector, check_shape
from edge_agent.decoders.recognition import Parts, Recognition, Size, picture_size, sole_output, ultralytics_task
from edge_agent.decoders.yolo import Anchored, anchored, recognised
from edge_agent.decoders.yolo_pose import Keypoints
from edge_agent.modelfile.facts import ModelFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTS = 5
# Its columns (box, objectness, points, class) in the order in which YOLOv5 has them, with the points at the end.
_ORDER = (*range(5), 15, *range(5, 15))


@dataclass(frozen=True, slots=True)
class Faces(Anchored):
    """(cells x anchors, 16): box, objectness, five points, class score."""

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        check_shape(item[self.output], *self.spec.shape[1:])
        return Anchored.__call__(self, [item[self.output][:, _ORDER]], min_score)


def recognise_yolov5_face(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, 3 x cells, 16]."""
    output, size = sole_output(file), picture_size(file)
    if output is None or size is None or ultralytics_task(file) is not None:
        return None
    rows = anchored(output, size, 2 * POINTS, stated=stated)
    if rows is None or rows.classes != 1:
        return None
    faces = Faces(rows.spec, size, rows.sentence.replace("the objectness", f"the objectness, {POINTS} points"), 1)
    return recognised(
        "yolov5_face",
        faces,
        output,
        task="pose",
        build=lambda parts: _build(faces, size, parts),
        labels=("face",),
    )


def _build(faces: Faces, size: Size, parts: Parts) -> Detector:
    read = replace(faces, spec=parts.outputs[faces.output])
    return Detector(read, parts.labels, task="pose", details=Keypoints(POINTS, 2, size))
