"""SCRFD: faces, with five points (eyes, nose, corners of the mouth) or without.

Source: https://github.com/deepinsight/insightface/blob/master/detection/scrfd/tools/scrfd.py (outputs; preprocessing:
RGB, (x - 127.5) / 128, the aspect ratio kept and the padding right and below).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.decoders import sigmoid
from edge_agent.decoders.dense_head import (
    SIGMOIDS,
    Anchors,
    Arranged,
    Head,
    anchor_counts,
    detector,
    find_head,
    grid_anchors,
)
from edge_agent.decoders.detection import Detector
from edge_agent.decoders.recognition import Parts, Recognition, Size, picture_size
from edge_agent.modelfile.facts import ModelFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Strides of the feature maps, and the number of anchors in each cell.
MAPS = {3: ((8, 16, 32), (2, 2, 2)), 5: ((8, 16, 32, 64, 128), (1, 1, 1, 1, 1))}
NORMALIZATION = ((127.5,), (128.0,))
COLUMNS = (1, 4, 10)  # score, box, points


def recognise_scrfd(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """For strides 8, 16, 32, two anchors a cell: [anchors, 1], [anchors, 4] and, with points, [anchors, 10]."""
    del stated  # it can't be decoded without its grid
    size = picture_size(file)
    for strides, per_cell in MAPS.values():
        for columns in (COLUMNS, COLUMNS[:2]):
            if size and (head := find_head(file, anchor_counts(size, strides, per_cell), columns)):
                return _recognised(file, head, size, strides, per_cell)
    return None


def _recognised(
    file: ModelFile, head: Head, size: Size, strides: Sequence[int], per_cell: Sequence[int]
) -> Recognition:
    pose = len(head.columns) == len(COLUMNS)
    operators = {file.output_operators[index] for index in head.outputs[0]}
    anchors = f"{sum(head.counts)} anchors of strides {', '.join(map(str, strides))}"
    logits = operators.isdisjoint(SIGMOIDS)
    return Recognition(
        "scrfd",
        "pose" if pose else "detection",
        (
            f"{len(file.outputs)} outputs are score, box{' and five points' if pose else ''} for {anchors}",
            f"the last operator of the scores is {', '.join(sorted(operators)) or 'not known'}",
            "SCRFD takes RGB pixels, letterboxed with the padding right and below, (x - 127.5) / 128",
        ),
        build=lambda parts: _build(parts, head, grid_anchors(size, strides, per_cell), logits=logits),
        classes=1,
        labels=("face",),
        resize="letterbox",
        color="rgb",
        normalization=NORMALIZATION,
    )


def _build(parts: Parts, head: Head, anchors: Anchors, *, logits: bool) -> Detector:
    def arrange(kinds: Sequence["NDArray[np.float32]"]) -> Arranged:
        scores = kinds[0][:, 0]
        return sigmoid(scores) if logits else scores, np.concatenate(kinds[1:], axis=1)

    points = len(head.columns) == len(COLUMNS)
    return detector(parts, head, anchors, arrange, lambda values, of: of.edges(values), points=points)
