"""SSD without post-processing: boxes encoded relative to anchors, and scores for each anchor.

Sources:
https://github.com/tensorflow/models/tree/master/research/object_detection: box_coders/faster_rcnn_box_coder.py,
anchor_generators/multiple_grid_anchor_generator.py (create_ssd_anchors, with the defaults that the published MobileNet
SSD models use), export_tflite_ssd_graph_lib.py (outputs).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values, sigmoid
from edge_agent.decoders.boxes import box_scale, grid_sides, strongest
from edge_agent.decoders.detection import MAX_CANDIDATES, Candidates, Detector, check_shape
from edge_agent.decoders.recognition import Parts, Recognition, Size, is_batch, picture_size
from edge_agent.decoders.ultraface import recognise_ultraface
from edge_agent.decoders.yolo_nas import recognise_yolo_nas
from edge_agent.engines import TensorSpec
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import SIGNED
from edge_agent.system.text import TextError, lines, read_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Scales of the box encoding in the published models (`y_scale`, `x_scale` 10; `height_scale`, `width_scale` 5).
CENTRE_SCALE, SIZE_SCALE = 10.0, 5.0
FIRST_STRIDE, MAPS = 16, 6
MIN_SCALE, MAX_SCALE = 0.2, 0.95
RATIOS = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)
MAX_ANCHOR_FILE = 8 * 1024**2
_MAX_EXPONENT = 10.0
_PROBABILITIES = {"LOGISTIC", "SOFTMAX", "Sigmoid", "Softmax", "QLinearSigmoid", "QLinearSoftmax"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """Reads boxes (anchors, 4) ty, tx, th, tw, and scores (anchors, classes); class 0 is the background.

    Attributes:
        boxes, scores: indices of the outputs.
        specs: the outputs.
        anchors: (anchors, 4), centre y, centre x, height, width as fractions of the input.
        logits: whether a sigmoid has to be applied to the scores.
        size: height, width of the model's input.
    """

    boxes: int
    scores: int
    specs: Sequence[TensorSpec]
    anchors: "NDArray[np.float32]" = field(repr=False)
    logits: bool
    size: Size

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        for tensor, spec in zip(item, self.specs, strict=True):
            check_shape(tensor, *spec.shape[1:])
        stored = item[self.scores][:, 1:]
        best = real_values(stored.max(axis=1), self.specs[self.scores])
        check_finite(best)
        if self.logits:
            best = sigmoid(best)
        rows = strongest(best, min_score, MAX_CANDIDATES)
        encoded = real_values(item[self.boxes][rows], self.specs[self.boxes])
        anchors = self.anchors[rows]
        centres = encoded[:, :2] / CENTRE_SCALE * anchors[:, 2:] + anchors[:, :2]
        half = np.exp(np.minimum(encoded[:, 2:] / SIZE_SCALE, _MAX_EXPONENT)) * anchors[:, 2:] / 2
        boxes = np.concatenate([centres - half, centres + half], axis=1)[:, [1, 0, 3, 2]] * box_scale(self.size)
        return Candidates(boxes, best[rows], stored[rows].argmax(axis=1) + 1, boxes[:, 4:])


def ssd_anchors(size: Size) -> "NDArray[np.float32]":
    """The anchors of the published MobileNet SSD models.

    Args:
        size: height, width of the input in pixels.

    Returns:
        (N, 4), float32, centre y, centre x, height, width as fractions of the input.
    """
    scales = [MIN_SCALE + (MAX_SCALE - MIN_SCALE) * number / (MAPS - 1) for number in range(MAPS)] + [1.0]
    anchors = []
    for number, (rows, columns) in enumerate(_maps(size)):
        scale, following = scales[number], scales[number + 1]
        shapes = [(scale, ratio) for ratio in RATIOS] + [(math.sqrt(scale * following), 1.0)]
        if number == 0:
            shapes = [(0.1, 1.0), (scale, 2.0), (scale, 1 / 2)]
        # An anchor of ratio 1 is square in pixels, also if the input is not.
        unit_y, unit_x = min(size) / size[0], min(size) / size[1]
        sides = [(scale / math.sqrt(ratio) * unit_y, scale * math.sqrt(ratio) * unit_x) for scale, ratio in shapes]
        y, x = np.divmod(np.arange(rows * columns), columns)
        centres = np.stack([(y + 0.5) / rows, (x + 0.5) / columns], axis=1)
        tiled = np.concatenate([np.repeat(centres, len(sides), axis=0), np.tile(sides, (len(centres), 1))], axis=1)
        anchors.append(tiled)
    return np.concatenate(anchors).astype(np.float32)


def read_anchors(path: Path) -> "NDArray[np.float32]":
    """Reads anchors from a text file of numbers separated by spaces or commas.

    The file has one line per anchor with centre y, centre x, height, width, or four lines, one for each of these; for
    YOLO one line per anchor with width, height.

    Returns:
        (N, 4), float32, centre y, centre x, height, width as fractions of the input, or (N, 2), width, height.

    Raises:
        ModelError: the file can't be read or holds something else.
    """
    try:
        rows = [line.replace(",", " ").split() for line in lines(read_text(path, MAX_ANCHOR_FILE)) if line.strip()]
        values = np.array([[float(number) for number in row] for row in rows], np.float32)
    except TextError as error:
        raise ModelError(f"{path}: expected anchors as text, found {error}") from error
    except OSError as error:
        raise ModelError(f"{path}: the anchors can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path}: expected lines of as many numbers each: {error}") from error
    anchors = values.T if values.ndim == 2 and len(values) == 4 and values.shape[1] not in (2, 4) else values  # noqa: PLR2004 - axes, numbers
    if anchors.ndim != 2 or anchors.shape[1] not in (2, 4) or not np.isfinite(anchors).all():  # noqa: PLR2004 - axes, numbers
        raise ModelError(
            f"{path}: expected centre y, centre x, height, width for each anchor, or width, height for YOLO, found "
            f"{list(values.shape)}"
        )
    return anchors


def recognise_ssd_raw(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, anchors, 4] and [1, anchors, classes]."""
    size = picture_size(file)
    shapes = [tensor.shape for tensor in file.outputs]
    if size is None or len(shapes) != 2 or any(len(shape) != 3 or not is_batch(shape[0]) for shape in shapes):  # noqa: PLR2004 - axes
        return None
    boxes = next((place for place in range(2) if shapes[place][2] == 4), None)  # noqa: PLR2004 - numbers of a box
    if boxes is None or shapes[0][1] != shapes[1][1] or shapes[1 - boxes][2] < 2:  # noqa: PLR2004 - background and a class
        return None
    if (recognise_ultraface(file) or recognise_yolo_nas(file)) and not stated:
        return None
    count, classes = shapes[1 - boxes][1:]
    published = sum(rows * columns * (6 if number else 3) for number, (rows, columns) in enumerate(_maps(size)))
    evidence = [
        f"the outputs {list(shapes[boxes])} and {list(shapes[1 - boxes])} are encoded boxes and scores",
        f"they are for {count} anchors, the background and {classes - 1} class(es)",
    ]
    missing = {}
    if count == published:
        evidence.append(f"anchors: {count} is their number in MobileNet SSD at {size[1]} x {size[0]}: those are taken")
    else:
        missing["anchors"] = (
            f"the file does not say which {count} anchors its boxes refer to: state anchors: FILE with a line for each "
            "of centre y, centre x, height, width as fractions of the input"
        )
    operator = file.output_operators[1 - boxes]
    if operator in _PROBABILITIES:
        evidence.append(f"output: probabilities, the last operator of the scores is {operator}")
    else:
        missing["output"] = (
            "the file does not show what its scores are: state output: probabilities or logits (of a sigmoid)"
        )
    evidence.append("SSD takes RGB pixels, stretched, from -1 to 1")
    return Recognition(
        "ssd_raw",
        "detection",
        tuple(evidence),
        build=lambda parts: _build(parts, boxes, size, count),
        named={"raw_outputs/box_encodings", "raw_outputs/class_predictions"}
        <= {tensor.name for tensor in file.outputs},
        classes=classes,
        background=True,
        resize="stretch",
        color="rgb",
        normalization=SIGNED,
        missing=missing,
    )


def _build(parts: Parts, boxes: int, size: Size, count: int) -> Detector:
    anchors = ssd_anchors(size) if parts.anchors is None else parts.anchors
    if anchors.shape != (count, 4):
        raise ModelError(f"anchors: expected {count}, found {len(anchors)}")
    read = Encoded(boxes, 1 - boxes, parts.outputs, anchors, parts.output == "logits", size)
    return Detector(read, parts.labels)


def _maps(size: Size) -> list[tuple[int, int]]:
    """Rows, columns of the feature maps, each half the size of the one before."""
    maps = [grid_sides(size, FIRST_STRIDE)]
    for _ in range(MAPS - 1):
        maps.append(grid_sides(maps[-1], 2))
    return maps
