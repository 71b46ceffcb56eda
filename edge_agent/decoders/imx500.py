"""Detections of networks that suppress overlaps in the IMX500 (names that end in `_pp`): boxes, scores, classes, count.

Whether y or x comes first is in the file's `network_intrinsics`; where it has none, x does in networks of Ultralytics,
which call themselves yolo, and y in all others. Whether boxes are in fractions or in pixels of the input is derived
from the values.

Source: https://github.com/raspberrypi/picamera2/blob/main/examples/imx500/imx500_object_detection_demo.py and
https://github.com/raspberrypi/imx500-models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite
from edge_agent.decoders.detection import Candidates, Detector, check_shape, class_numbers
from edge_agent.decoders.recognition import Recognition, Size, picture_size
from edge_agent.decoders.yolo import to_pixels
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import RAW

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLUMNS = {"yx": (1, 0, 3, 2), "xy": (0, 1, 2, 3)}


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Reads boxes (N, 4), scores (N,), classes (N,) and their count (1,).

    Attributes:
        order: `yx` or `xy`.
        size: height, width of the model's input.
    """

    order: str
    size: Size

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        boxes, scores, classes, count = item
        check_shape(boxes, -1, 4)
        check_shape(scores, len(boxes))
        check_shape(classes, len(boxes))
        check_finite(count)
        valid = slice(0, max(0, min(len(boxes), round(float(count.reshape(-1)[0])))))
        check_finite(scores[valid])
        rows = np.flatnonzero(scores[valid] >= min_score)
        corners = boxes[rows][:, _COLUMNS[self.order]]
        corners = corners * to_pixels(boxes[valid].max(initial=0), self.size)
        return Candidates(corners, scores[rows], class_numbers(classes[rows]), corners[:, 4:])


def recognise_imx500(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """The four outputs of such a network."""
    size = picture_size(file)
    found = file.compiled.suppression if file.compiled else None
    if file.format != "rpk" or size is None or (found is None and not stated) or len(file.outputs) != 4:  # noqa: PLR2004 - parts
        return None
    of_ultralytics = file.metadata.get("name", "").startswith("yolo")
    order = file.metadata.get("cpu.bbox_order", "xy" if of_ultralytics else "yx")
    if order not in _COLUMNS:
        return None
    source = "by its intrinsics" if "cpu.bbox_order" in file.metadata else "as usual for its name"
    return Recognition(
        "imx500",
        "detection",
        (
            "the sensor gives boxes, scores, classes and their number, overlaps suppressed",
            f"boxes: {order[0]} before {order[1]}, {source}",
            "the sensor makes the input: all that it sees, stretched",
        ),
        build=lambda parts: Detector(Suppressed(order, size), parts.labels, overlapping=False),
        named=True,
        resize="stretch",
        color="rgb",
        normalization=RAW,
    )
