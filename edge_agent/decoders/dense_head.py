"""Dense heads: a score, a box and points for each anchor of each feature map, with outputs of their own.

YuNet, SCRFD, RetinaFace, BlazeFace and NanoDet differ in where their anchors are and in what the numbers of a box mean,
not in how their outputs are laid out. A family states the former; the latter is here.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values
from edge_agent.decoders.boxes import grid, grid_sides, strongest
from edge_agent.decoders.detection import MAX_CANDIDATES, Candidates, Detector, check_size
from edge_agent.decoders.keypoints import points_of
from edge_agent.decoders.recognition import Parts, Size, is_batch, number_of
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Sizes that are exp(value) * a unit: with this exponent they are far larger than any input.
MAX_EXPONENT = 10.0
# Last operators by which scores are probabilities already.
SIGMOIDS = ("LOGISTIC", "Sigmoid", "QLinearSigmoid", "HardSigmoid")
_BOX = 4


@dataclass(frozen=True, slots=True)
class Anchors:
    """The places that predictions are relative to.

    Attributes:
        centres: (N, 2), x, y in pixels of the input.
        units: (N, 2), pixels of an offset of 1, horizontally and vertically.
    """

    centres: "NDArray[np.float32]" = field(repr=False)
    units: "NDArray[np.float32]" = field(repr=False)

    def take(self, rows: "NDArray[np.intp]") -> "Anchors":
        """The anchors with these indices."""
        return Anchors(self.centres[rows], self.units[rows])

    def points(self, offsets: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Points (N, 2 x P) in pixels of the input, from offsets (N, 2 x P), x before y."""
        pairs = offsets.reshape(len(offsets), offsets.shape[1] // 2, 2) * self.units[:, None] + self.centres[:, None]
        return pairs.reshape(offsets.shape)

    def edges(self, distances: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Boxes (N, 4), x1, y1, x2, y2, from distances (N, 4) of the left, upper, right and lower edge."""
        return self.points(distances * np.array([-1, -1, 1, 1], np.float32))


def grid_anchors(size: Size, strides: Sequence[int], per_cell: Sequence[int], offset: float = 0.0) -> Anchors:
    """Anchors whose unit is the stride of their feature map.

    Args:
        size: height, width of the input in pixels.
        strides: of the feature maps, in pixels.
        per_cell: number of anchors in each cell of each map.
        offset: of a centre from the upper left corner of its cell, in cells.
    """
    maps = [grid(size, [stride]) for stride in strides]
    cells = np.concatenate([np.repeat(cells, count, axis=0) for (cells, _), count in zip(maps, per_cell, strict=True)])
    steps = np.concatenate([np.repeat(steps, count, axis=0) for (_, steps), count in zip(maps, per_cell, strict=True)])
    return Anchors((cells + np.float32(offset)) * steps, np.repeat(steps, 2, axis=1))


def anchor_counts(size: Size, strides: Sequence[int], per_cell: Sequence[int]) -> tuple[int, ...]:
    """The number of anchors of each feature map: see `grid_anchors`."""
    sides = [grid_sides(size, stride) for stride in strides]
    return tuple(rows * columns * count for (rows, columns), count in zip(sides, per_cell, strict=True))


@dataclass(frozen=True, slots=True)
class Head:
    """The outputs of a dense head.

    Attributes:
        outputs: for each kind of value, the indices of its outputs, one for each feature map.
        columns: for each kind, the number of values of an anchor.
        counts: the number of anchors of each feature map.
        batched: whether outputs have a batch axis.
        specs: the outputs; those of the file, until the engine is loaded.
    """

    outputs: tuple[tuple[int, ...], ...]
    columns: tuple[int, ...]
    counts: tuple[int, ...]
    batched: bool
    specs: Sequence[TensorSpec] = ()

    def __call__(self, item: Sequence["NDArray[Any]"]) -> "list[NDArray[np.float32]]":
        """For each kind, its values (anchors, columns), float32.

        Raises:
            InputError: a value is not finite.
            ModelError: an output has another size.
        """
        kinds = []
        for indices, columns in zip(self.outputs, self.columns, strict=True):
            parts = []
            for index, count in zip(indices, self.counts, strict=True):
                check_size(item[index], count, columns)
                parts.append(real_values(item[index].reshape(count, columns), self.specs[index]))
            kinds.append(parts[0] if len(parts) == 1 else np.concatenate(parts))
        check_finite(*kinds)
        return kinds


def find_head(file: ModelFile, counts: Sequence[int], columns: Sequence[int]) -> Head | None:
    """The outputs of a dense head, by their shapes; None if the file has others.

    Args:
        file: its facts.
        counts: the number of anchors of each feature map.
        columns: for each kind of value, the number of values of an anchor.
    """
    tables = [_table(tensor) for tensor in file.outputs]
    found = [table for table in tables if table is not None]
    if len(found) < len(tables) or len({batched for batched, _, _ in found}) != 1:
        return None
    if Counter(width for _, _, width in found) != Counter(list(columns) * len(counts)):
        return None
    outputs: list[tuple[int, ...]] = [()] * len(columns)
    for width in set(columns):
        kinds = [kind for kind, each in enumerate(columns) if each == width]
        places = [place for place, (_, _, each) in enumerate(found) if each == width]
        rows, names = [found[place][1] for place in places], [file.outputs[place].name for place in places]
        levels = _levels(rows, names, counts, trusted=not file.open_size)
        if levels is None or any(levels.count(level) != len(kinds) for level in range(len(counts))):
            return None
        maps = [[place for place, level in zip(places, levels, strict=True) if level == n] for n in range(len(counts))]
        for number, kind in enumerate(kinds):
            outputs[kind] = tuple(of_map[number] for of_map in maps)
    return Head(tuple(outputs), tuple(columns), tuple(counts), found[0][0])


def _table(tensor: Tensor) -> tuple[bool, int, int] | None:
    """Whether an output has a batch axis, its rows (-1: open) and its columns; None if it is no table."""
    match tensor.shape:
        case (batch, rows, columns) if is_batch(batch):
            return True, rows, columns
        case (1, rows) if rows > 1:
            return True, rows, 1
        case (rows, columns):
            return False, rows, columns
    return None


def _levels(rows: Sequence[int], names: Sequence[str], counts: Sequence[int], *, trusted: bool) -> list[int] | None:
    """The feature map of each output of one width, the largest map first.

    Args:
        rows: of each output; -1: open.
        names: of the outputs.
        counts: the number of anchors of each feature map.
        trusted: whether rows have to be these numbers; else they are those of another size of input.
    """
    sizes = sorted(set(rows), reverse=True)
    if sizes == sorted(counts, reverse=True) or (not trusted and len(sizes) == len(counts)):
        return [sizes.index(count) for count in rows]
    if trusted and any(count != -1 for count in rows):
        return None
    strides = [number_of(name) for name in names]
    if len(set(strides)) == len(counts):
        return [sorted(set(strides)).index(stride) for stride in strides]
    # All maps of the first kind, then all of the second, as published models have them.
    return [number % len(counts) for number in range(len(rows))]


Arranged = tuple["NDArray[np.float32]", "NDArray[np.float32]"]


@dataclass(frozen=True, slots=True)
class Dense:
    """Reads candidates of one class from a dense head: see `Read`.

    Attributes:
        head: its outputs.
        anchors: in the order of the head's values.
        arrange: from the head's values to scores (N,) and, for each anchor, a box and points (N, 4 + 2 x P).
        boxes: from the encoded boxes (K, 4) of some anchors, and these, to boxes x1, y1, x2, y2 in pixels of the input.
    """

    head: Head
    anchors: Anchors
    arrange: Callable[[Sequence["NDArray[np.float32]"]], Arranged]
    boxes: Callable[["NDArray[np.float32]", Anchors], "NDArray[np.float32]"]

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        scores, values = self.arrange(self.head(item))
        rows = strongest(scores, min_score, MAX_CANDIDATES)
        values, anchors = values[rows], self.anchors.take(rows)
        boxes = self.boxes(values[:, :_BOX], anchors)
        return Candidates(boxes, scores[rows], np.zeros(len(rows), np.intp), anchors.points(values[:, _BOX:]))


def detector(
    parts: Parts,
    head: Head,
    anchors: Anchors,
    arrange: Callable[[Sequence["NDArray[np.float32]"]], Arranged],
    boxes: Callable[["NDArray[np.float32]", Anchors], "NDArray[np.float32]"],
    *,
    points: bool = True,
) -> Detector:
    """The decoder of a dense head: see `Dense`.

    Args:
        parts: what it is built from.
        head: the outputs, as found in the file.
        anchors: see `Dense`.
        arrange: see `Dense`.
        boxes: see `Dense`.
        points: whether there are any besides the boxes.
    """
    read = Dense(replace(head, specs=parts.outputs), anchors, arrange, boxes)
    if not points:
        return Detector(read, parts.labels, batched=head.batched)
    return Detector(read, parts.labels, batched=head.batched, task="pose", details=points_of)
