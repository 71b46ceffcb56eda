"""Functions that the detection families share: boxes, overlap (IoU), non-maximum suppression, and grids of cells."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def xywh_to_xyxy(boxes: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Converts boxes (N, 4) from centre x, centre y, width, height to x1, y1, x2, y2, float32, in the same unit."""
    half = boxes[:, 2:] / 2
    corners = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return np.asarray(corners, np.float32)


def box_scale(size: tuple[int, int]) -> "NDArray[np.float32]":
    """Factors (4,) that turn boxes x1, y1, x2, y2 in fractions of the input into pixels; `size` is height, width."""
    return np.array([size[1], size[0], size[1], size[0]], np.float32)


def iou(first: "NDArray[np.float32]", second: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Intersection over union of all pairs of boxes. A box without an area has an IoU of 0 with all others.

    Args:
        first: (N, 4), x1, y1, x2, y2.
        second: (M, 4), x1, y1, x2, y2 in the same unit.

    Returns:
        (N, M), float32, 0 to 1.
    """
    # Column by column is several times as fast as on an axis of size 2.
    x1, y1, x2, y2 = (first[:, None, edge] for edge in range(4))
    left, top, right, bottom = (second[None, :, edge] for edge in range(4))
    wide = np.maximum(np.minimum(x2, right) - np.maximum(x1, left), 0)
    high = np.maximum(np.minimum(y2, bottom) - np.maximum(y1, top), 0)
    both = wide * high
    union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - both
    return np.asarray(np.minimum(both / np.where(both > 0, union, 1), 1), np.float32)


def overlap(first: Sequence[float] | None, second: Sequence[float] | None) -> float:
    """Intersection over union of two boxes, x1, y1, x2, y2 each; 0 if one is missing."""
    if first is None or second is None:
        return 0.0
    return float(iou(np.array([first], np.float32), np.array([second], np.float32))[0, 0])


def strongest(scores: "NDArray[np.float32]", min_score: float, count: int) -> "NDArray[np.intp]":
    """Indices of the `count` largest of the scores (N,) that are not below `min_score`, the largest first."""
    rows = np.flatnonzero(scores >= min_score)
    if len(rows) > count:
        rows = np.sort(rows[np.argpartition(-scores[rows], count - 1)[:count]])
    return rows[np.argsort(-scores[rows], kind="stable")]


def nms(
    boxes: "NDArray[np.float32]",
    scores: "NDArray[np.float32]",
    max_overlap: float,
    count: int,
    class_ids: "NDArray[np.intp] | None" = None,
) -> "NDArray[np.intp]":
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4), x1, y1, x2, y2.
        scores: (N,).
        max_overlap: a box that overlaps a better one by more than this (IoU) is dropped.
        count: maximum number of boxes to keep.
        class_ids: (N,); only boxes of the same class suppress each other. None: all do.

    Returns:
        Indices of the kept boxes, the best first.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, classes = boxes[order], np.zeros(len(order)) if class_ids is None else class_ids[order]
    kept: list[np.intp] = []
    while len(order) and len(kept) < count:
        kept.append(order[0])
        stays = (iou(boxes[:1], boxes)[0] <= max_overlap) | (classes != classes[0])
        stays[0] = False  # already kept
        order, boxes, classes = order[stays], boxes[stays], classes[stays]
    return np.asarray(kept, np.intp)


def grid_sides(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Rows and columns of a feature map; `size` is height, width of the input in pixels."""
    return math.ceil(size[0] / stride), math.ceil(size[1] / stride)


def cell_count(size: tuple[int, int], strides: Sequence[int]) -> int:
    """Number of cells of all feature maps; `size` is height, width of the input in pixels."""
    return sum(math.prod(grid_sides(size, stride)) for stride in strides)


def grid(size: tuple[int, int], strides: Sequence[int]) -> "tuple[NDArray[np.float32], NDArray[np.float32]]":
    """The cells of all feature maps, map after map, row after row.

    Args:
        size: height, width of the input in pixels.
        strides: of the feature maps, in pixels.

    Returns:
        Column, row of each cell (N, 2) and its stride (N, 1), both float32.
    """
    cells, steps = [], []
    for stride in strides:
        rows, columns = grid_sides(size, stride)
        y, x = np.divmod(np.arange(rows * columns), columns)
        cells.append(np.stack([x, y], axis=1))
        steps.append(np.full((rows * columns, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(steps).astype(np.float32)
