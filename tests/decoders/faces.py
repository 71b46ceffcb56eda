"""Faces with five points whose places are known, and how each family encodes them, in plain loops."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edge_agent.samples import Prediction
from tests.decoders.scenes import Floats, Thing, floats

SIZE = (96, 128)  # height, width
SQUARE = (128, 128)
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Face(Thing):
    """A thing of class 0 with points in pixels of the model's input."""

    points: Points = ()


def face(x1: float, y1: float, x2: float, y2: float, score: float, points: int = 5) -> Face:
    """A face whose points lie on its diagonal."""
    shares = [(number + 1) / (points + 1) for number in range(points)]
    places = tuple((x1 + share * (x2 - x1), y1 + share * share * (y2 - y1)) for share in shares)
    return Face((x1, y1, x2, y2), 0, score, places)


FACES = (face(10, 12, 50, 60, 0.9), face(60, 20, 120, 90, 0.6), face(3, 70, 21, 92, 0.4))


def points_fit(found: Sequence[Prediction], faces: Sequence[Face]) -> bool:
    """Whether each prediction has the points of the face whose score is its own, within a tenth of a pixel."""
    ranked = sorted(faces, key=lambda one: -one.score)
    return all(
        one.keypoints is not None
        and all(math.dist(seen, true) < 0.1 for seen, true in zip(one.keypoints, of.points, strict=True))
        for one, of in zip(found, ranked, strict=True)
    )


def cells(size: tuple[int, int], stride: int) -> Iterator[tuple[int, int]]:
    """Column, row of each cell, row after row."""
    for y, x in itertools.product(range(math.ceil(size[0] / stride)), range(math.ceil(size[1] / stride))):
        yield x, y


def in_cell(faces: Sequence[Face], strides: Sequence[int], stride: int, x: int, y: int) -> Face | None:
    """The face whose middle is in a cell; the first face is in the map of the first stride, and so on."""
    for number, one in enumerate(faces):
        left, top = one.xywh[:2]
        if strides[number % len(strides)] == stride and (left // stride, top // stride) == (x, y):
            return one
    return None


def flat(points: Points, x: float, y: float, unit_x: float, unit_y: float) -> list[float]:
    return [value for px, py in points for value in ((px - x) / unit_x, (py - y) / unit_y)]


def logit(score: float) -> float:
    return math.log(score / (1 - score))


def yunet(faces: Sequence[Face], size: tuple[int, int] = SIZE) -> list[Floats]:
    """Outputs cls_8, cls_16, cls_32, obj_8, …, bbox_8, …, kps_8, …"""
    outputs: list[list[Floats]] = [[], [], [], []]
    for stride in (8, 16, 32):
        rows = []
        for x, y in cells(size, stride):
            row = ([0.01], [0.02], [0.0] * 4, [0.0] * 10)
            if one := in_cell(faces, (8, 16, 32), stride, x, y):
                mid_x, mid_y, wide, high = one.xywh
                box = [mid_x / stride - x, mid_y / stride - y, math.log(wide / stride), math.log(high / stride)]
                row = ([one.score], [one.score], box, flat(one.points, x * stride, y * stride, stride, stride))
            rows.append(row)
        for kind, values in zip(outputs, zip(*rows, strict=True), strict=True):
            kind.append(floats(values)[None])
    return [one for kind in outputs for one in kind]


def scrfd(faces: Sequence[Face], size: tuple[int, int] = SIZE, anchors: int = 2) -> list[Floats]:
    """Outputs of scores, of boxes, of points, for strides 8, 16, 32; a face is found by the last anchor of its cell."""
    outputs: list[list[Floats]] = [[], [], []]
    for stride in (8, 16, 32):
        rows = []
        for x, y in cells(size, stride):
            for anchor in range(anchors):
                row = ([0.01], [0.0] * 4, [0.0] * 10)
                one = in_cell(faces, (8, 16, 32), stride, x, y)
                if one and anchor == anchors - 1:
                    x1, y1, x2, y2 = one.box
                    at_x, at_y = x * stride, y * stride
                    box = [value / stride for value in (at_x - x1, at_y - y1, x2 - at_x, y2 - at_y)]
                    row = ([one.score], box, flat(one.points, at_x, at_y, stride, stride))
                rows.append(row)
        for kind, values in zip(outputs, zip(*rows, strict=True), strict=True):
            kind.append(floats(values)[None])
    return [one for kind in outputs for one in kind]


def blazeface(
    faces: Sequence[Face],
    size: tuple[int, int] = SQUARE,
    grids: Sequence[tuple[int, int]] = ((8, 2), (16, 6)),
    points: int = 6,
) -> list[tuple[Floats, Floats]]:
    """For each feature map the scores (1, anchors, 1), as logits, and boxes with points (1, anchors, 4 + 2 x points).

    Args:
        faces: each is in the first map.
        size: height, width of the input.
        grids: stride and anchors a cell of each map.
        points: of a face.
    """
    outputs = []
    for stride, anchors in grids:
        scores, values = [], []
        for (x, y), anchor in itertools.product(cells(size, stride), range(anchors)):
            score, value = [-9.0], [0.0] * (4 + 2 * points)
            one = in_cell(faces, [grids[0][0]], stride, x, y)
            if one and anchor == 1 % anchors:
                at_x, at_y = (x + 0.5) * stride, (y + 0.5) * stride
                mid_x, mid_y, wide, high = one.xywh
                score = [logit(one.score)]
                value = [mid_x - at_x, mid_y - at_y, wide, high, *flat(one.points, at_x, at_y, 1, 1)]
            scores.append(score)
            values.append(value)
        outputs.append((floats(scores)[None], floats(values)[None]))
    return outputs


RETINAFACE = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
SLIM = ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256)))


def retinaface(
    faces: Sequence[Face],
    priors: Sequence[tuple[int, tuple[int, ...]]] = RETINAFACE,
    size: tuple[int, int] = SIZE,
    *,
    logits: bool = False,
    whole: bool = False,
) -> tuple[Floats, Floats, Floats]:
    """Boxes (1, priors, 4), scores of background and face (1, priors, 2), points (1, priors, 10).

    Args:
        faces: each is found by the second prior of its cell.
        priors: stride of a feature map and the sides of its priors.
        size: height, width of the input.
        logits: whether scores are logits.
        whole: whether cells that reach over the edge are left out.
    """
    boxes, scores, points = [], [], []
    strides = [stride for stride, _ in priors]
    for stride, sides in priors:
        part = tuple(side // stride * stride for side in size) if whole else size
        for (x, y), (number, side) in itertools.product(cells((part[0], part[1]), stride), enumerate(sides)):
            at_x, at_y, unit = (x + 0.5) * stride, (y + 0.5) * stride, 0.1 * side
            box, score, point = [0.0] * 4, 0.01, [0.0] * 10
            one = in_cell(faces, strides, stride, x, y)
            if one and number == 1:
                mid_x, mid_y, wide, high = one.xywh
                box = [(mid_x - at_x) / unit, (mid_y - at_y) / unit]
                box += [math.log(wide / side) / 0.2, math.log(high / side) / 0.2]
                score, point = one.score, flat(one.points, at_x, at_y, unit, unit)
            boxes.append(box)
            scores.append([1.5, logit(score) + 1.5] if logits else [1 - score, score])
            points.append(point)
    return floats(boxes)[None], floats(scores)[None], floats(points)[None]


def yolov5_face(faces: Sequence[Face], size: tuple[int, int] = SIZE) -> Floats:
    """(1, 3 x cells, 16): box, objectness, points, class, in pixels."""
    count = 3 * sum(1 for stride in (8, 16, 32) for _ in cells(size, stride))
    rows = floats([[size[1] / 2, size[0] / 2, 1, 1, *[0] * 12]] * count)
    for number, one in enumerate(faces):
        rows[7 + 11 * number] = [*one.xywh, one.score, *flat(one.points, 0, 0, 1, 1), 1]
    return rows[None]


def moved(faces: Sequence[Face], points: int) -> tuple[Face, ...]:
    """The same faces with another number of points."""
    return tuple(replace(one, points=face(*one.box, one.score, points).points) for one in faces)
