"""SSD, EfficientDet-Lite and others that end in the operator TFLite_Detection_PostProcess, which includes NMS.

The order of its four outputs differs between exporters, so each is identified by its name or its shape or, if these are
ambiguous, by its values.

Sources:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/kernels/detection_postprocess.cc (the outputs),
https://github.com/google-coral/pycoral/blob/master/pycoral/adapters/detect.py (names in signatures),
https://github.com/tensorflow/models/issues/10970 (orders).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values
from edge_agent.decoders.boxes import box_scale
from edge_agent.decoders.detection import Candidates, Detector, check_shape, class_numbers
from edge_agent.decoders.recognition import Recognition, Size, picture_size
from edge_agent.engines import TensorSpec
from edge_agent.errors import InputError, ModelError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import SIGNED

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPERATOR = "TFLite_Detection_PostProcess"
ROLES = ("boxes", "classes", "scores", "count")
# First labels of files that count the background, which the operator's class numbers do not.
BACKGROUND_LABELS = frozenset({"???", "background", "__background__", "unlabeled"})
_METADATA_NAMES = {
    "boxes": {"location", "locations", "detection_boxes"},
    "classes": {"category", "categories", "classes", "detection_classes"},
    "scores": {"score", "scores", "detection_scores"},
    "count": {"number of detections", "num_detections"},
}


@dataclass(frozen=True, slots=True)
class PostProcessed:
    """Reads boxes (N, 4) y1, x1, y2, x2 as fractions of the input, classes (N,), scores (N,) and their count.

    Attributes:
        specs: the outputs. Their shapes are not known before the first inference.
        places: role -> index of the output. Empty: roles are derived from shapes and values at each inference.
        size: height, width of the model's input.
    """

    specs: Sequence[TensorSpec]
    places: Mapping[str, int]
    size: Size

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        values = [real_values(np.asarray(tensor), spec) for tensor, spec in zip(item, self.specs, strict=True)]
        roles = self.places or places_by_values(values)
        boxes, classes, scores, count = (values[roles[role]] for role in ROLES)
        check_finite(count)
        check_shape(boxes, -1, 4)
        check_shape(classes, len(boxes))
        check_shape(scores, len(boxes))
        # Rows beyond the count are uninitialised memory.
        valid = slice(0, max(0, min(len(boxes), round(float(count.reshape(-1)[0])))))
        scores = scores[valid]
        check_finite(scores)
        rows = np.flatnonzero(scores >= min_score)
        corners = boxes[valid][rows][:, [1, 0, 3, 2]] * box_scale(self.size)
        return Candidates(corners, scores[rows], class_numbers(classes[valid][rows]), corners[:, 4:])


def recognise_ssd(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """The four outputs of the operator."""
    size = picture_size(file)
    if size is None or len(file.outputs) != len(ROLES):
        return None
    by_operator = OPERATOR in file.custom_operators
    if not by_operator and not stated:
        return None
    evidence = [f"the model ends in {OPERATOR}"] if by_operator else []
    places, source = _places(file)
    evidence.append(source)
    classes = int(file.metadata.get("detection.num_classes", 0)) or None
    if classes:
        evidence.append(f"classes: {classes}, as the operator states")
    if file.labels and file.labels[0] in BACKGROUND_LABELS:
        evidence.append(f"the first label, {file.labels[0]!r}, is not that of class 0: labels begin with the next one")
    evidence.append("SSD takes RGB pixels, stretched, from -1 to 1")
    recognition = Recognition(
        "ssd",
        "detection",
        tuple(evidence),
        build=lambda parts: Detector(
            PostProcessed(parts.outputs, places, size),
            None if parts.labels is None else recognition.of_classes(tuple(parts.labels)),
            overlapping=False,
        ),
        named=by_operator,
        classes=classes,
        uncounted=BACKGROUND_LABELS,
        resize="stretch",
        color="rgb",
        normalization=SIGNED,
    )
    return recognition


def _places(file: ModelFile) -> tuple[dict[str, int], str]:
    """The roles of the outputs by their names, and the evidence; no roles if the names are not known."""
    for key in ("name", "signature"):
        names = [file.metadata.get(f"output{number}.{key}", "").lower() for number in range(len(ROLES))]
        roles = {role: number for number, name in enumerate(names) for role in ROLES if name in _METADATA_NAMES[role]}
        if len(roles) == len(ROLES):
            return roles, f"outputs: {_in_order(roles)}, by the names in the file's metadata"
    # The operator's own tensors are numbered in its order, those of a TF 2 function and its signature in reverse.
    for kind, pattern, order, names in (
        ("tensors", rf"{OPERATOR}(?::([0-3]))?", ROLES, [tensor.name for tensor in file.outputs]),
        ("tensors", "StatefulPartitionedCall:([0-3])", ROLES[::-1], [tensor.name for tensor in file.outputs]),
        (
            "signature's outputs",
            "output_([0-3])",
            ROLES[::-1],
            [file.metadata.get(f"output{number}.signature", "") for number in range(len(ROLES))],
        ),
    ):
        found = [re.fullmatch(pattern, name) for name in names]
        roles = {order[int(match[1] or 0)]: place for place, match in enumerate(found) if match}
        if len(roles) == len(ROLES):
            return roles, f"outputs: {_in_order(roles)}, by the names of the {kind}"
    return {}, "outputs: boxes and count are recognised by their shapes, class numbers by being whole numbers"


def _in_order(roles: Mapping[str, int]) -> str:
    return ", ".join(sorted(roles, key=lambda role: roles[role]))


def places_by_values(values: Sequence["NDArray[np.float32]"]) -> dict[str, int]:
    """The roles of the four outputs of one item: boxes have two axes, the count none, class numbers are integers.

    Args:
        values: (N, 4), (N,), (N,) and (), in any order.

    Raises:
        InputError: the values are ambiguous: classes and scores can't be distinguished.
        ModelError: the outputs have other shapes.
    """
    axes = [tensor.ndim for tensor in values]
    if sorted(axes) != [0, 1, 1, 2]:
        raise ModelError(f"expected boxes, classes, scores and their count, found outputs of {axes} axes")
    boxes, count = axes.index(2), axes.index(0)
    check_finite(values[count])
    valid = slice(0, max(0, round(float(values[count]))))
    first, second = (place for place in range(len(ROLES)) if axes[place] == 1)
    whole = [bool((values[place][valid] == np.rint(values[place][valid])).all()) for place in (first, second)]
    above_one = [bool((values[place][valid] > 1).any()) for place in (first, second)]
    # Scores are integers only if all of them are 0 or 1.
    is_class = above_one if whole[0] == whole[1] else whole
    if is_class[0] == is_class[1] and values[first][valid].size:
        raise InputError("the model's answer does not show which of its outputs has the classes and which the scores")
    classes, scores = (first, second) if is_class[0] else (second, first)
    return {"boxes": boxes, "classes": classes, "scores": scores, "count": count}
