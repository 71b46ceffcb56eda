"""What the detection families share: boxes, their overlap, the choice among them, and grids of cells."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def xywh_to_xyxy(boxes: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Boxes (N, 4) of centre x, centre y, width, height as x1, y1, x2, y2."""
    half = boxes[:, 2:] / 2
    corners = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return np.asarray(corners, np.float32)


def box_scale(size: tuple[int, int]) -> "NDArray[np.float32]":
    """width, height, width, height: what makes boxes that are fractions of an input of (height, width) pixels of it."""
    return np.array([size[1], size[0], size[1], size[0]], np.float32)


def iou(first: "NDArray[np.float32]", second: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Intersection over union of each of (N, 4) with each of (M, 4) boxes x1, y1, x2, y2: (N, M), 0 to 1.

    Boxes without an area overlap with nothing.
    """
    # Column by column: several times as fast as on axes of two.
    x1, y1, x2, y2 = (first[:, None, edge] for edge in range(4))
    left, top, right, bottom = (second[None, :, edge] for edge in range(4))
    wide = np.maximum(np.minimum(x2, right) - np.maximum(x1, left), 0)
    high = np.maximum(np.minimum(y2, bottom) - np.maximum(y1, top), 0)
    both = wide * high
    union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - both
    return np.asarray(np.minimum(both / np.where(both > 0, union, 1), 1), np.float32)


def strongest(scores: "NDArray[np.float32]", min_score: float, count: int) -> "NDArray[np.intp]":
    """Indices of at most `count` scores (N,) that are not below `min_score`, the largest first."""
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
    """Greedy non-maximum suppression: indices of the boxes that stay, the best first.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        scores: (N,).
        max_overlap: a box that overlaps with a better one by more than this (IoU) goes.
        count: at most so many stay.
        class_ids: (N,); only boxes of the same class suppress each other. None: all do.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, classes = boxes[order], np.zeros(len(order)) if class_ids is None else class_ids[order]
    kept: list[np.intp] = []
    while len(order) and len(kept) < count:
        kept.append(order[0])
        stays = (iou(boxes[:1], boxes)[0] <= max_overlap) | (classes != classes[0])
        stays[0] = False  # it has been kept
        order, boxes, classes = order[stays], boxes[stays], classes[stays]
    return np.asarray(kept, np.intp)


def grid_sides(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Rows and columns of cells of a feature map; `size` is height, width of the input."""
    return math.ceil(size[0] / stride), math.ceil(size[1] / stride)


def cell_count(size: tuple[int, int], strides: Sequence[int]) -> int:
    """Number of cells of all feature maps; `size` is height, width of the input."""
    return sum(math.prod(grid_sides(size, stride)) for stride in strides)


def grid(size: tuple[int, int], strides: Sequence[int]) -> "tuple[NDArray[np.float32], NDArray[np.float32]]":
    """Column and row (N, 2) of each cell and its stride (N, 1), map after map, row after row.

    Args:
        size: height, width of the input in pixels.
        strides: of the feature maps, in pixels.
    """
    cells, steps = [], []
    for stride in strides:
        rows, columns = grid_sides(size, stride)
        y, x = np.divmod(np.arange(rows * columns), columns)
        cells.append(np.stack([x, y], axis=1))
        steps.append(np.full((rows * columns, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(steps).astype(np.float32)
