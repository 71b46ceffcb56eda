"""Semantic segmentation: a class for each pixel, as its number (argmax map) or as scores of all classes.

Source of the first: https://github.com/tensorflow/models/tree/master/research/deeplab (export_model.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_agent.decoders import Limits, check_finite, real_values
from edge_agent.decoders.class_number import ARGMAX
from edge_agent.decoders.detection import check_shape, items, label_of
from edge_agent.decoders.masks import area, outline
from edge_agent.decoders.recognition import Recognition, Size, is_batch, picture_size, sole_output
from edge_agent.engines import TensorSpec
from edge_agent.errors import InputError
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.preprocess.opencv import cv2
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CLASSES = 10_000
# Maps have the size of the input, or an integer fraction of it.
PARTS = (1, 2, 4, 8)
# Last operators of published models: scores are resized, or turned into probabilities.
_SCORES = {"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SOFTMAX", "Resize", "Softmax"}

# Last operators of a mask of one class.
_PROBABILITIES = {"LOGISTIC", "Sigmoid", "QLinearSigmoid", "HardSigmoid"}
THRESHOLD = 0.5

Kind = Literal["numbers", "probabilities", "scores, classes last", "scores, classes first"]
_CLASS_AXIS = {"scores, classes last": 2, "scores, classes first": 0}


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Decodes a map of the classes of pixels: one prediction per class that occurs, the largest area first.

    The model outputs no confidence, so `min_confidence` does not apply.

    Attributes:
        spec: the tensor.
        labels: one per class; None: there are only numbers.
        size: height, width of the model's input.
        kind: of map: (height, width), (height, width, classes) or (classes, height, width), each without the batch;
            `probabilities` are those of class 1, the other one is the background.
    """

    task = "segmentation"

    spec: TensorSpec
    labels: Sequence[str] | None
    size: Size
    kind: Kind

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`."""
        predictions = []
        for placement, item in zip(placements, items(outputs, len(placements)), strict=True):
            check_shape(item[0], *self.spec.shape[1:])
            seen, origin = _seen(self._classes(item[0]), placement)
            counts = np.bincount(seen.ravel())
            present = np.flatnonzero(counts)
            for class_id in present[np.argsort(-counts[present], kind="stable")][: limits.top_k]:
                mask = seen == class_id
                predictions.append(
                    Prediction(
                        label_of(int(class_id), self.labels),
                        int(class_id),
                        None,
                        placement.region,
                        area=area(mask, placement),
                        polygons=outline(mask, origin, placement),
                    )
                )
        return predictions

    def _classes(self, stored: "NDArray[Any]") -> "NDArray[np.uint16]":
        """The class of each pixel of the model's input: (height, width), uint16."""
        if self.kind == "probabilities":
            probable = real_values(stored, self.spec).reshape([size for size in stored.shape if size != 1])
            check_finite(probable)
            if probable.ndim != 2 or not (probable.min() >= -THRESHOLD and probable.max() <= 1 + THRESHOLD):  # noqa: PLR2004 - axes
                raise InputError(
                    "the model's answer is no map of probabilities: check decoder: raw gives the map itself"
                )
            numbers = (probable > THRESHOLD).astype(np.float32)
        elif self.kind == "numbers":
            numbers = real_values(stored, self.spec) if stored.dtype.kind == "f" else stored
            numbers = numbers.reshape([size for size in stored.shape if size != 1])
            check_finite(numbers)
            whole = numbers.dtype.kind != "f" or bool((numbers == np.rint(numbers)).all())
            if numbers.ndim != 2 or not (whole and numbers.min() >= 0 and numbers.max() < MAX_CLASSES):  # noqa: PLR2004 - axes
                raise InputError(
                    "the model's answer has values that are no numbers of classes: decoder: raw gives the map itself"
                )
        else:
            check_finite(stored)
            numbers = stored.argmax(axis=_CLASS_AXIS[self.kind])
        resized = cv2.resize(numbers.astype(np.uint16), self.size[::-1], interpolation=cv2.INTER_NEAREST)
        return np.asarray(resized, np.uint16)


def recognise_segmentation(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, height, width] of class numbers, or with an axis of scores last or first."""
    output, size = sole_output(file), picture_size(file)
    if output is None or size is None or not output.shape or not is_batch(output.shape[0]):
        return None
    operator = file.output_operators[0]
    kind = _kind(output, size)
    background = False
    if kind == "numbers" and operator in _PROBABILITIES and output.dtype not in ("int32", "int64"):
        if not stated:
            return None  # depth and heat maps look alike
        kind, classes, background = "probabilities", 2, True
        what = f"the probability of one class for each pixel ({operator})"
    elif kind == "numbers":
        by_type = output.dtype.startswith(("int", "uint")) and output.scale is None
        if operator not in ARGMAX and not by_type and not stated:
            return None
        classes, what = None, f"the number of a class for each pixel ({operator or output.dtype})"
    elif kind is not None:
        classes = output.shape[1:][_CLASS_AXIS[kind]]
        # An image with three channels has the same shape as the scores of three classes.
        if not stated and not (operator in _SCORES and (classes > 3 or file.labels is not None)):  # noqa: PLR2004 - channels
            return None
        what = f"{kind}: {classes} classes, the last operator is {operator or 'not known'}"
    else:
        return None
    return Recognition(
        "segmentation",
        "segmentation",
        (f"the output {list(output.shape)} is a map of {size[1]} x {size[0]} or an even part of it: {what}",),
        build=lambda parts: Segmentation(parts.outputs[0], parts.labels, size, kind),
        named=operator in ARGMAX,
        classes=classes,
        background=background,
    )


def _kind(output: Tensor, size: Size) -> Kind | None:
    axes = output.shape[1:]
    sizes = [(size[0] // part, size[1] // part) for part in PARTS if size[0] >= part and size[1] >= part]
    if tuple(axis for axis in axes if axis != 1) in sizes and len(axes) <= 3:  # noqa: PLR2004 - height, width, one
        return "numbers"
    if len(axes) != 3 or min(axes) < 1:  # noqa: PLR2004 - height, width, scores
        return None
    if axes[:2] in sizes and axes[2] <= MAX_CLASSES:
        return "scores, classes last"
    return "scores, classes first" if axes[1:] in sizes and axes[0] <= MAX_CLASSES else None


def _seen(classes: "NDArray[np.uint16]", placement: Placement) -> "tuple[NDArray[np.uint16], tuple[int, int]]":
    """Cuts the padding off a map (height, width) of the model's input; returns the rest and its x, y in the input."""
    left, top = max(0, round(placement.pad_x)), max(0, round(placement.pad_y))
    right = round(placement.pad_x + placement.crop_width * placement.scale_x)
    bottom = round(placement.pad_y + placement.crop_height * placement.scale_y)
    return classes[top:bottom, left:right], (left, top)
