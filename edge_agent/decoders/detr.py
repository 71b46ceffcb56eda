"""DETR and its relatives: a fixed number of queries, each a box and a class, without non-maximum suppression.

Sources: https://github.com/lyuwenyu/RT-DETR, https://github.com/Peterande/D-FINE and https://github.com/Intellindust-AI-Lab/DEIMv2
(tools/deployment: `labels`, `boxes`, `scores` for a second input `orig_target_sizes`),
https://github.com/roboflow/rf-detr (`dets`, `labels`), https://github.com/huggingface/transformers
(models/detr: `logits`, `pred_boxes`; the last class is "no object"), and
https://github.com/ultralytics/ultralytics/blob/main/ultralytics/nn/modules/head.py (RTDETRDecoder).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_agent.decoders import Limits, check_finite, real_values, sigmoid
from edge_agent.decoders.boxes import box_scale, xywh_to_xyxy
from edge_agent.decoders.classification import softmax
from edge_agent.decoders.detection import Candidates, Detector, check_shape, class_numbers
from edge_agent.decoders.recognition import Parts, Recognition, Size, picture_size, sole_output, ultralytics_task
from edge_agent.decoders.text_detection import IMAGENET
from edge_agent.engines import TensorSpec
from edge_agent.errors import InputError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import UNIT
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scores = Literal["probabilities", "logits", "sigmoid"]
"""Of the classes: as they are; a softmax, with "no object" as the last class; or a sigmoid each."""

# Boxes in pixels reach beyond this, boxes in fractions never do.
_FRACTIONS = 2.0
_CERTAIN = 0.25
ULTRALYTICS_QUERIES = 300
_NAMED: dict[tuple[str, str], tuple[Scores | None, str]] = {
    ("dets", "labels"): ("sigmoid", "RF-DETR"),
    ("pred_boxes", "logits"): (None, "Transformers' DETR"),
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """Reads boxes (N, 4) x1, y1, x2, y2 in pixels of the input, class numbers (N,) and scores (N,).

    Attributes:
        boxes, classes, scores: indices of the outputs.
    """

    boxes: int
    classes: int
    scores: int

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        del min_score
        boxes, scores = (item[at].astype(np.float32) for at in (self.boxes, self.scores))
        check_shape(scores, -1)
        check_shape(boxes, len(scores), 4)
        check_shape(item[self.classes], len(scores))
        check_finite(boxes, scores)
        certain = boxes[scores >= _CERTAIN]
        if len(certain) and np.abs(certain).max() <= _FRACTIONS:
            raise InputError("the model's boxes are fractions of the picture, where pixels of its input are expected")
        return Candidates(boxes, scores, class_numbers(item[self.classes].astype(np.float32)), boxes[:, 4:])


@dataclass(frozen=True, slots=True)
class Queries:
    """Reads boxes centre x, centre y, width, height in fractions of the input, and scores of all classes.

    Attributes:
        boxes, scores: indices of the outputs, (queries, 4) and (queries, classes); the same one where it has both.
        specs: the outputs.
        kind: of the scores.
        size: height, width of the model's input.
        queries, classes: their numbers; -1: any.
    """

    boxes: int
    scores: int
    specs: Sequence[TensorSpec]
    kind: Scores
    size: Size
    queries: int
    classes: int

    def __call__(self, item: Sequence["NDArray[Any]"], min_score: float) -> Candidates:
        """Candidates: see `Read`."""
        del min_score
        together = self.boxes == self.scores
        check_shape(item[self.boxes], self.queries, 4 + self.classes if together else 4)
        boxes = real_values(item[self.boxes][:, :4], self.specs[self.boxes])
        table = item[self.scores][:, 4:] if together else item[self.scores]
        check_shape(table, len(boxes), self.classes)
        scores = real_values(table, self.specs[self.scores])
        check_finite(boxes, scores)
        if self.kind == "logits":
            scores = softmax(scores)[:, :-1]
        elif self.kind == "sigmoid":
            scores = sigmoid(scores)
        corners = xywh_to_xyxy(boxes) * box_scale(self.size)
        return Candidates(corners, scores.max(axis=1), scores.argmax(axis=1), boxes[:, 4:])


@dataclass(frozen=True, slots=True)
class Batchless:
    """A detector whose outputs may lack the axis of the batch, which some exports drop for one picture.

    Attributes:
        detector: takes outputs with that axis.
        axes: number of axes of the first output with it.
    """

    detector: Detector
    axes: int

    @property
    def task(self) -> str:
        """See `Decoder`."""
        return self.detector.task

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`."""
        batch = [output[None] for output in outputs] if outputs[0].ndim == self.axes - 1 else outputs
        return self.detector(batch, placements, limits)


def recognise_detr(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """By the names of the outputs, or the metadata of an Ultralytics export."""
    size = picture_size(file)
    if size is None:
        return None
    at = {tensor.name: number for number, tensor in enumerate(file.outputs)}
    if at.keys() == {"labels", "boxes", "scores"}:
        return _chosen(at)
    for (boxes, scores), (kind, model) in _NAMED.items():
        if {boxes, scores} <= at.keys():
            return _queries(file, size, at[boxes], at[scores], kind, model)
    output = sole_output(file)
    if output is None or len(output.shape) != 3 or output.shape[1] != ULTRALYTICS_QUERIES or output.shape[2] <= 6:  # noqa: PLR2004 - axes; a detection with its class
        return None
    is_rtdetr = "rtdetr" in file.description.lower().replace("-", "") and ultralytics_task(file) == "detect"
    if not is_rtdetr and not stated:
        return None
    return _queries(file, size, 0, 0, "probabilities", "RT-DETR of Ultralytics")


def _chosen(at: dict[str, int]) -> Recognition:
    def build(parts: Parts) -> Batchless:
        read = Chosen(at["boxes"], at["labels"], at["scores"])
        return Batchless(Detector(read, parts.labels, overlapping=False), 3 if at["boxes"] == 0 else 2)

    return Recognition(
        "detr",
        "detection",
        (
            "the outputs labels, boxes and scores are those of RT-DETR, D-FINE and DEIM: boxes in pixels of the input",
            "these take RGB pixels from 0 to 1, stretched",
        ),
        build=build,
        named=True,
        resize="stretch",
        color="rgb",
        normalization=UNIT,
    )


def _queries(file: ModelFile, size: Size, boxes: int, scores: int, kind: Scores | None, model: str) -> Recognition:
    tensor = file.outputs[scores]
    classes = tensor.shape[-1] - (4 if boxes == scores else 0) if len(tensor.shape) == 3 else -1  # noqa: PLR2004 - axes
    queries = tensor.shape[1] if len(tensor.shape) == 3 else -1  # noqa: PLR2004 - axes
    missing = {}
    if kind is None:
        missing["output"] = (
            'the file does not show what its scores are: state output: logits (a softmax, whose last class is "no '
            'object", as of DETR and YOLOS) or sigmoid (a score for each class, as of Deformable DETR and RT-DETR)'
        )

    def build(parts: Parts) -> Detector:
        chosen = kind or parts.output or "sigmoid"
        read = Queries(boxes, scores, parts.outputs, chosen, size, queries, classes if classes > 0 else -1)
        return Detector(read, parts.labels, overlapping=False)

    return Recognition(
        "detr",
        "detection",
        (
            f"the outputs are those of {model}: {queries} boxes with scores of {classes} classes",
            f"{model} takes RGB pixels, stretched",
        ),
        build=build,
        named=True,
        classes=classes if classes > 0 else None,
        unlisted=1 if kind is None else 0,
        resize="stretch",
        color="rgb",
        normalization={"sigmoid": IMAGENET, "probabilities": UNIT}.get(kind or ""),
        missing=missing,
    )
