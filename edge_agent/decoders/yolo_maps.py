"""YOLO without its last layer: an output for each feature map, with boxes relative to anchors from the training.

Sources: https://github.com/pjreddie/darknet (region_layer.c of YOLOv2, yolo_layer.c of YOLOv3; .cfg files: anchors),
https://github.com/ultralytics/yolov5/blob/master/models/yolo.py (Detect) and
https://github.com/dog-qiuqiu/Yolo-FastestV2 (utils/utils.py: handel_preds; data/coco.data: anchors).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_agent.decoders import check_finite, real_values, sigmoid
from edge_agent.decoders.boxes import strongest, xywh_to_xyxy
from edge_agent.decoders.classification import softmax
from edge_agent.decoders.dense_head import MAX_EXPONENT, SIGMOIDS
from edge_agent.decoders.detection import MAX_CANDIDATES, Candidates, Detector, check_shape, check_size
from edge_agent.decoders.recognition import Parts, Recognition, Size, is_batch, picture_size
from edge_agent.engines import TensorSpec
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.modelfile.normalization import UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

Order = Literal["nchw", "nhwc", "nahwc", "nhwac"]
"""Of the axes: batch, anchors (a), rows (h), columns (w), numbers (c); without a, c has the numbers of each anchor."""

Family = Literal["yolov2", "yolov3", "yolov5_maps", "yolo_fastest_v2"]

STRIDES = (4, 8, 16, 32, 64)
V2_ANCHORS, ANCHORS = 5, 3
_BOX, _OBJECT = 4, 5
FASTEST = ((12.64, 19.39), (37.88, 51.48), (55.71, 138.31), (126.91, 78.23), (131.57, 214.55), (279.92, 258.87))
# The last operator of a head as it was trained: a convolution, maybe quantised, or the addition of its bias.
_RAW = ("CONV_2D", "Conv", "QLinearConv", "Add", "ADD", "BIAS_ADD")


@dataclass(frozen=True, slots=True)
class Map:
    """A feature map.

    Attributes:
        output: its index.
        rows, columns: of its cells.
        stride: of a cell, in pixels of the input.
        order: of its axes.
        numbers: of all anchors of a cell, or of one where anchors have an axis of their own.
    """

    output: int
    rows: int
    columns: int
    stride: int
    order: Order
    numbers: int

    def cells(self, stored: "NDArray[Any]", spec: TensorSpec) -> "NDArray[np.float32]":
        """The real values of its output, (rows, columns, all numbers of a cell)."""
        check_size(stored, self.rows, self.columns, stored.size // max(1, self.rows * self.columns))
        values = real_values(stored, spec)
        axes = {"nchw": (1, 2, 0), "nhwc": (0, 1, 2), "nahwc": (1, 2, 0, 3), "nhwac": (0, 1, 2, 3)}[self.order]
        check_shape(stored, *[-1] * len(axes))
        return np.ascontiguousarray(values.transpose(axes)).reshape(self.rows, self.columns, -1)


@dataclass(frozen=True, slots=True)
class Maps:
    """Reads candidates from feature maps: see `Read`.

    Attributes:
        maps: the finest first.
        family: how numbers are coded.
        specs: the outputs.
        anchors: (maps, anchors, 2), width, height in pixels of the input.
        classes: their number.
        activated: whether the outputs are past the sigmoid.
    """

    maps: Sequence[Map]
    family: Family
    specs: Sequence[TensorSpec]
    anchors: "NDArray[np.float32]" = field(repr=False)
    classes: int
    activated: bool

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        found = [self._of(each, item[each.output], number, min_score) for number, each in enumerate(self.maps)]
        boxes, scores, ids = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Candidates(boxes.astype(np.float32), scores, ids, boxes[:, 4:].astype(np.float32))

    def _of(self, of: Map, stored: "NDArray[Any]", number: int, min_score: float) -> "tuple[NDArray[Any], ...]":
        count = self.anchors.shape[1]
        cells = of.cells(stored, self.specs[of.output])
        check_finite(cells)
        if self.family == "yolo_fastest_v2":  # boxes of all anchors, objectness of all, one set of classes
            shape = (of.rows, of.columns, count)
            check_shape(cells, of.rows, of.columns, count * _OBJECT + self.classes)
            of_classes = np.repeat(cells[:, :, None, count * _OBJECT :], count, axis=2)
            objects = cells[..., count * _BOX : count * _OBJECT].reshape(*shape, 1)
            values = np.concatenate([cells[..., : count * _BOX].reshape(*shape, _BOX), objects, of_classes], axis=3)
        else:
            check_shape(cells, of.rows, of.columns, count * (_OBJECT + self.classes))
            values = cells.reshape(of.rows, of.columns, count, _OBJECT + self.classes)
        objectness = values[..., 4] if self.activated else sigmoid(values[..., 4])
        y, x, anchor = np.nonzero(objectness >= min_score)  # a score is at most the objectness
        values, objectness = values[y, x, anchor], objectness[y, x, anchor]
        if not self.activated:
            of_classes = softmax(values[:, 5:]) if self.family == "yolov2" else sigmoid(values[:, 5:])
        else:
            of_classes = values[:, 5:]
        scores = objectness * of_classes.max(axis=1, initial=0)
        rows = strongest(scores, min_score, MAX_CANDIDATES)
        origin = np.stack([x[rows], y[rows]], axis=1)
        boxes = self._boxes(values[rows, :_BOX], origin * of.stride, of.stride, self.anchors[number, anchor[rows]])
        return boxes, scores[rows], of_classes[rows].argmax(axis=1)

    def _boxes(
        self, coded: "NDArray[np.float32]", origin: "NDArray[Any]", stride: int, anchors: "NDArray[np.float32]"
    ) -> "NDArray[np.float32]":
        """Boxes (N, 4), x1, y1, x2, y2, from numbers (N, 4) and the upper left corners of their cells (N, 2)."""
        if self.family in ("yolov2", "yolov3"):
            centres = (coded[:, :2] if self.activated else sigmoid(coded[:, :2])) * stride + origin
            sides = np.exp(np.minimum(coded[:, 2:], MAX_EXPONENT)) * anchors
        else:
            shares = coded if self.activated else sigmoid(coded)
            centres = (shares[:, :2] * 2 - 0.5) * stride + origin
            sides = (shares[:, 2:] * 2) ** 2 * anchors
        return xywh_to_xyxy(np.concatenate([centres, sides], axis=1).astype(np.float32))


def find_maps(file: ModelFile, size: Size) -> list[Map]:
    """The feature maps of a model, the finest first; none if an output is something else."""
    found = [_map(tensor, number, size) for number, tensor in enumerate(file.outputs)]
    maps = [each for each in found if each is not None]
    if len(maps) < len(found) or len({each.stride for each in maps}) < len(maps):
        return []
    same = len({(each.order, each.numbers) for each in maps}) == 1
    return sorted(maps, key=lambda each: each.stride) if same else []


def _map(tensor: Tensor, output: int, size: Size) -> Map | None:
    shape = tensor.shape
    if len(shape) not in (4, 5) or not is_batch(shape[0]) or min(shape[1:]) < 1:
        return None
    orders: dict[Order, tuple[int, int, int]] = {"nhwc": (1, 2, 3), "nchw": (2, 3, 1)}
    if len(shape) == 5:  # noqa: PLR2004 - as above
        orders = {"nahwc": (2, 3, 4), "nhwac": (1, 2, 4)}
    for order, (rows, columns, numbers) in orders.items():
        for stride in STRIDES:
            if (shape[rows] * stride, shape[columns] * stride) == size:
                return Map(output, shape[rows], shape[columns], stride, order, shape[numbers])
    return None


def recognise_yolov2(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """One map of stride 16 or 32, [1, rows, columns, anchors x (5 + classes)], or with the rows last."""
    size = picture_size(file)
    maps = find_maps(file, size) if size else []
    if size is None or len(maps) != 1 or len(file.outputs[0].shape) != 4 or maps[0].stride < 16:  # noqa: PLR2004 - axes; as YOLOv2
        return None
    classes, rest = divmod(maps[0].numbers, V2_ANCHORS)
    if rest or classes <= _OBJECT or (not stated and file.output_operators[0] not in _RAW):
        return None
    sides = f"{maps[0].columns} x {maps[0].rows}"
    ask = (
        f"the file does not say which {V2_ANCHORS} anchors its boxes refer to: state anchors: FILE with a line for "
        f"each of width, height in cells of the {sides} map, as in the .cfg file that it was trained with; "
        f"anchors in fractions, as in ST's model zoo, have to be multiplied by {sides}"
    )
    return _recognition(file, "yolov2", maps, classes - _OBJECT, V2_ANCHORS, ask, model="YOLOv2")


def recognise_yolov3(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """Two or three maps, [1, 3 x (5 + classes), rows, columns], or with other orders of these axes."""
    return _three_anchors(file, "yolov3", "YOLOv3 and YOLOv4", stated=stated)


def recognise_yolov5_maps(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """As `recognise_yolov3`, and coded as in YOLOv5 and YOLOv7."""
    return _three_anchors(file, "yolov5_maps", "YOLOv5 and YOLOv7", stated=stated)


def _three_anchors(file: ModelFile, family: Family, model: str, *, stated: bool) -> Recognition | None:
    size = picture_size(file)
    maps = find_maps(file, size) if size else []
    if size is None or len(maps) not in (2, 3):
        return None
    own_axis = len(file.outputs[0].shape) == 5  # noqa: PLR2004 - anchors have one
    anchors_ = {shape[1] if maps[0].order == "nahwc" else shape[3] for shape in (one.shape for one in file.outputs)}
    numbers, rest = (maps[0].numbers, anchors_ != {ANCHORS}) if own_axis else divmod(maps[0].numbers, ANCHORS)
    operators = {file.output_operators[each.output] for each in maps}
    if rest or numbers <= _OBJECT or (not stated and not operators <= {*_RAW, *SIGMOIDS}):
        return None
    if family == "yolov3" and operators & set(SIGMOIDS):
        return None  # its sizes are not past a sigmoid
    ask = (
        f"the file does not say which {ANCHORS * len(maps)} anchors its boxes refer to: state anchors: FILE with a "
        "line for each of width, height in pixels of the input, the smallest first, as in the .cfg or .yaml file that "
        "it was trained with"
    )
    return _recognition(file, family, maps, numbers - _OBJECT, ANCHORS, ask, model=model)


def recognise_yolo_fastest_v2(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """Maps of strides 16 and 32, [1, rows, columns, 15 + classes]."""
    size = picture_size(file)
    maps = find_maps(file, size) if size else []
    if [each.stride for each in maps] != [16, 32] or maps[0].order != "nhwc" or maps[0].numbers <= ANCHORS * _OBJECT:
        return None
    operators = {file.output_operators[each.output] for each in maps}
    if not stated and not operators <= {"Concat", "CONCATENATION", "QLinearConcat"}:
        return None
    classes = maps[0].numbers - ANCHORS * _OBJECT
    return _recognition(file, "yolo_fastest_v2", maps, classes, ANCHORS, "", model="YOLO-FastestV2")


def _recognition(
    file: ModelFile, family: Family, maps: Sequence[Map], classes: int, anchors: int, ask: str, *, model: str
) -> Recognition:
    is_fastest = family == "yolo_fastest_v2"
    activated = is_fastest or all(file.output_operators[each.output] in SIGMOIDS for each in maps)
    strides = ", ".join(str(each.stride) for each in maps)

    def build(parts: Parts) -> Detector:
        given = np.array(FASTEST, np.float32) if parts.anchors is None else parts.anchors
        if given.shape != (len(maps) * anchors, 2):
            raise ModelError(
                f"anchors: expected {len(maps) * anchors} lines of width, height, found {list(given.shape)}"
            )
        scale = maps[0].stride if family == "yolov2" else 1
        table = given.reshape(len(maps), anchors, 2) * np.float32(scale)
        return Detector(Maps(maps, family, parts.outputs, table, classes, activated), parts.labels)

    return Recognition(
        family,
        "detection",
        (
            f"the outputs are maps of strides {strides}, {anchors} anchors and {classes} class(es), as in {model}",
            f"{model}: BGR pixels from 0 to 1, stretched" if is_fastest else f"{model}: RGB pixels",
        ),
        build=build,
        classes=classes,
        resize="stretch" if family in ("yolov2", "yolo_fastest_v2") else "letterbox",
        color="bgr" if is_fastest else "rgb",
        normalization=None if family == "yolov2" else UNIT,
        missing={"anchors": ask} if ask else {},
    )
