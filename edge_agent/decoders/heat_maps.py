"""Keypoints as one map each of where it may be, and as one row and one column each (SimCC).

Sources: Simple Baselines for Human Pose Estimation (https://arxiv.org/abs/1804.06208) and HRNet, whose code is at
https://github.com/leoxiaobin/deep-high-resolution-net.pytorch (lib/core/inference.py: the hottest cell, moved by a
quarter towards its hotter neighbours; lib/dataset: RGB with ImageNet's mean and deviation). SimCC
(https://arxiv.org/abs/2107.03332) as in RTMPose, https://github.com/open-mmlab/mmpose (mmpose/codecs/utils/
post_processing.py, get_simcc_maximum: the less sure of both directions counts).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values
from edge_agent.decoders.detection import check_shape
from edge_agent.decoders.keypoints import Instance, SinglePose
from edge_agent.decoders.movenet import LABELS, person
from edge_agent.decoders.recognition import Recognition, Size, is_batch, picture_size, sole_output
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.modelfile.normalization import IMAGENET

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pixels of the input for each cell, and cells of SimCC for each pixel, as published.
STRIDES, STRIDE = (2, 4, 8), 4
SPLIT, MAX_SPLIT = 2, 4
# COCO's keypoints of a person, and the shape of a person's picture.
KEYPOINTS, SIDES = 17, (4, 3)
MAX_KEYPOINTS = 300
_TOWARDS = 0.25


@dataclass(frozen=True, slots=True)
class HeatMaps:
    """Reads one map for each keypoint, (K, rows, columns) or (rows, columns, K).

    Attributes:
        specs: of the one output.
        size: height, width of the model's input.
        last: whether the keypoints are the last axis.
    """

    specs: Sequence[TensorSpec]
    size: Size
    last: bool

    def __call__(self, item: Sequence["NDArray[Any]"]) -> Instance:
        """The person: see `SinglePose`."""
        check_shape(item[0], *self.specs[0].shape[1:])
        maps = real_values(np.moveaxis(item[0], -1, 0) if self.last else item[0], self.specs[0])
        check_finite(maps)
        count, rows, columns = maps.shape
        numbers = np.arange(count)
        y, x = np.divmod(maps.reshape(count, -1).argmax(axis=1), columns)
        padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
        across = np.sign(padded[numbers, y + 1, x + 2] - padded[numbers, y + 1, x])
        down = np.sign(padded[numbers, y + 2, x + 1] - padded[numbers, y, x + 1])
        cells = np.stack([x + _TOWARDS * across, y + _TOWARDS * down], axis=1)
        points = cells * (self.size[1] / columns, self.size[0] / rows)
        return person(np.concatenate([points, maps[numbers, y, x][:, None]], axis=1).astype(np.float32))


@dataclass(frozen=True, slots=True)
class SimCC:
    """Reads (K, columns) and (K, rows): how likely each keypoint is in each of them.

    Attributes:
        specs: of both.
        order: where the columns and the rows are among the outputs.
        size: height, width of the model's input.
    """

    specs: Sequence[TensorSpec]
    order: tuple[int, int]
    size: Size

    def __call__(self, item: Sequence["NDArray[Any]"]) -> Instance:
        """The person: see `SinglePose`."""
        points, scores = [], []
        for at, length in zip(self.order, self.size[::-1], strict=True):
            check_shape(item[at], *self.specs[at].shape[1:])
            values = real_values(item[at], self.specs[at])
            check_finite(values)
            points.append(values.argmax(axis=1) * (length / values.shape[1]))
            scores.append(values.max(axis=1))
        return person(np.stack([*points, np.minimum(*scores).clip(0, 1)], axis=1).astype(np.float32))


def recognise_heat_maps(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, 17, height / 4, width / 4] of a picture of 4 x 3, as those of persons are; others have to be stated."""
    output, size = sole_output(file), picture_size(file)
    if output is None or size is None or len(output.shape) != 4 or not is_batch(output.shape[0]):  # noqa: PLR2004 - batch, keypoints, rows, columns
        return None
    first, second, third = output.shape[1:]
    for last, keypoints, cells in ((False, first, (second, third)), (True, third, (first, second))):
        stride = next((stride for stride in STRIDES if cells == (size[0] // stride, size[1] // stride)), None)
        usual = keypoints == KEYPOINTS and stride == STRIDE and size[0] * SIDES[1] == size[1] * SIDES[0]
        if stride is not None and 0 < keypoints <= MAX_KEYPOINTS and (usual or stated):
            of = f"{cells[1]} x {cells[0]} cells for each of {keypoints} keypoints"
            read = partial(HeatMaps, size=size, last=last)
            return _recognition("heat_maps", f"the output {list(output.shape)} is a map of {of}", read)
    return None


def recognise_simcc(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, keypoints, 2 x width] and [1, keypoints, 2 x height], in either order."""
    size = picture_size(file)
    if size is None or len(file.outputs) != 2:  # noqa: PLR2004 - columns and rows
        return None
    for order in ((0, 1), (1, 0)):
        across, down = (file.outputs[at] for at in order)
        split = _split(across, down, size)
        if split and (split == SPLIT or stated):
            return _recognition(
                "simcc",
                f"the outputs are {across.shape[1]} keypoints, {split} columns and rows for each pixel of {size[1]} x "
                f"{size[0]}",
                partial(SimCC, order=order, size=size),
            )
    return None


def _split(across: Tensor, down: Tensor, size: Size) -> int:
    """How many cells there are for a pixel in both directions; 0 if the outputs are none of SimCC."""
    match across.shape, down.shape:
        case ((batch, keypoints, columns), (_, others, rows)) if is_batch(batch) and keypoints == others > 0:
            return next((n for n in range(1, MAX_SPLIT + 1) if (columns, rows) == (n * size[1], n * size[0])), 0)
    return 0


def _recognition(family: str, what: str, read: "Callable[[Sequence[TensorSpec]], HeatMaps | SimCC]") -> Recognition:
    return Recognition(
        family,
        "pose",
        (
            what,
            "it expects a crop of one person, such as a pipeline with a source of `type: pipeline` makes",
            "such models take RGB pixels with ImageNet's mean and deviation, the aspect ratio kept",
        ),
        build=lambda parts: SinglePose(read(parts.outputs), parts.labels),
        classes=1,
        labels=LABELS,
        resize="letterbox",
        color="rgb",
        normalization=IMAGENET,
    )
