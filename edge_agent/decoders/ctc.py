"""Text recognition: for each column of a picture of one line of text the scores of the characters (CTC).

Sources: https://github.com/PaddlePaddle/PaddleOCR (ppocr/postprocess/rec_postprocess.py: blank first, a space last,
mean of the probabilities; tools/infer/predict_rec.py: preprocessing), https://github.com/RapidAI/RapidOCR (characters
in the metadata), https://github.com/sirius-ai/LPRNet_Pytorch (characters of Chinese number plates, blank last) and
https://github.com/opencv/opencv_zoo/tree/main/models/text_recognition_crnn (time before the batch).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_agent.decoders import Limits, check_finite, real_values
from edge_agent.decoders.classification import softmax
from edge_agent.decoders.detection import check_shape, items
from edge_agent.decoders.recognition import Parts, Recognition, is_batch, picture_size, sole_output
from edge_agent.engines import TensorSpec
from edge_agent.errors import InputError, ModelError
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.modelfile.normalization import SIGNED, Normalization
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

Axes = Literal["steps, classes", "classes, steps", "steps, batch, classes"]

TASK = "ocr"
BLANKS = ("blank", "<blank>", "[blank]")
# Blank, and spaces whose lines at the end of a list of characters have no text.
UNLISTED = 3
LPRNET_SIZE, LPRNET_STEPS = (24, 94), 18
LPRNET_NORMALIZATION: Normalization = ((127.5,), (128.0,))
LPRNET = tuple("京沪津渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新0123456789ABCDEFGHJKLMNPQRSTUVWXYZIO-")
# Heights of PaddleOCR's pictures of a line, and the pixels of their width for each step.
LINE_HEIGHTS, STEP_WIDTHS = (32, 48), (4, 8)
# Operators after which the scores of a step are probabilities, or their logarithms.
_PROBABILITIES, _LOGARITHMS = ("Softmax", "SOFTMAX"), ("LogSoftmax", "LOG_SOFTMAX")
_LEAST_CLASSES = 8
# Sums of float16 or quantised probabilities.
_ROUNDING = 0.05


@dataclass(frozen=True, slots=True)
class Ctc:
    """Decodes the scores of characters, greedily: repeated characters count once, and blanks not at all.

    Attributes:
        spec: the output tensor.
        axes: of an output, with the batch before them unless they name it; an output of two axes is one item.
        characters: one per class; that of the blank does not matter.
        blank: number of the blank.
        scores: `probabilities`, or `logits`, of which the softmax is taken.
    """

    task = TASK

    spec: TensorSpec
    axes: Axes
    characters: Sequence[str]
    blank: int
    scores: Literal["probabilities", "logits"]

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`. One for each item, whose label is the text; none if there is none."""
        stored = outputs[0]
        if self.axes == "steps, batch, classes" and stored.ndim == 3:  # noqa: PLR2004 - as its name says
            stored = stored.swapaxes(0, 1)
        batch = stored[None] if stored.ndim == 2 else stored  # noqa: PLR2004 - without a batch
        predictions = []
        for placement, item in zip(placements, items([batch], len(placements)), strict=True):
            table = item[0].T if self.axes == "classes, steps" else item[0]
            check_shape(table, -1, len(self.characters))
            text, confidence = self._read(real_values(table, self.spec))
            if text and confidence >= limits.min_confidence:
                predictions.append(Prediction(text, None, confidence, placement.region))
        return predictions

    def _read(self, table: "NDArray[np.float32]") -> tuple[str, float]:
        """The text in scores (steps, classes), and the mean probability of its characters."""
        check_finite(table)
        if not len(table):
            return "", 0.0
        if self.scores == "logits":
            table = softmax(table)
        elif table.min() < -_ROUNDING or table.max() > 1 + _ROUNDING:
            raise InputError(
                f"the model's scores go from {table.min():.3g} to {table.max():.3g}, and are no probabilities: state "
                "output: logits"
            )
        best = table.argmax(axis=1)
        is_new = np.append(True, best[1:] != best[:-1]) & (best != self.blank)
        confidences = table[is_new, best[is_new]]
        text = "".join(self.characters[number] for number in best[is_new]).strip()
        return text, min(1.0, float(confidences.mean())) if len(confidences) else 0.0


def recognise_ctc(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, steps, classes] of a picture of one line as PaddleOCR takes it, or [1, classes, 18] as LPRNet gives it."""
    output, size = sole_output(file), picture_size(file)
    if output is None or size is None:
        return None
    operator = file.output_operators[0]
    shape = output.shape if len(output.shape) == 2 else output.shape[1:]  # noqa: PLR2004 - LPRNet leaves out the batch
    if size == LPRNET_SIZE and len(shape) == 2 and shape[1] == LPRNET_STEPS and shape[0] > LPRNET_STEPS:  # noqa: PLR2004 - classes, steps
        return _recognition(file, output, "classes, steps", shape[0], stated=stated)
    if len(output.shape) != 3:  # noqa: PLR2004 - batch, steps, classes
        return None
    least = 2 if stated else _LEAST_CLASSES
    if is_batch(output.shape[0]) and output.shape[2] >= least:
        is_line = size[0] in LINE_HEIGHTS and output.shape[1] in (-1, *(-(-size[1] // step) for step in STEP_WIDTHS))
        if stated or (is_line and operator in _PROBABILITIES):
            return _recognition(file, output, "steps, classes", output.shape[2], stated=stated)
    if stated and output.shape[1] == 1 and output.shape[2] >= least:
        return _recognition(file, output, "steps, batch, classes", output.shape[2], stated=stated)
    return None


def _recognition(file: ModelFile, output: Tensor, axes: Axes, classes: int, *, stated: bool) -> Recognition:
    is_lprnet = axes == "classes, steps"
    operator = file.output_operators[0]
    is_probable = operator in _PROBABILITIES and operator not in _LOGARITHMS
    model = "LPRNet" if is_lprnet else "PaddleOCR"
    published = f"{model} takes BGR pixels, " + (
        "stretched, (x - 127.5) / 128" if is_lprnet else "the height of the line kept, from -1 to 1"
    )

    def build(parts: Parts) -> Ctc:
        characters, blank = characters_of(parts.labels, classes, blank_last=is_lprnet)
        scores: Literal["probabilities", "logits"] = "probabilities" if is_probable else "logits"
        if parts.output is not None:
            scores = "probabilities" if parts.output == "probabilities" else "logits"
        return Ctc(parts.outputs[0], axes, characters, blank, scores)

    return Recognition(
        "ctc",
        TASK,
        (
            f"the output {list(output.shape)} is scores of {classes} characters, {axes}",
            *(() if stated and not is_lprnet else (published,)),
        ),
        build=build,
        named=is_lprnet,
        classes=classes,
        unlisted=UNLISTED,
        labels=LPRNET if is_lprnet and classes == len(LPRNET) else None,
        resize="stretch" if is_lprnet else "letterbox",
        color="bgr" if picture_channels(file) == 3 else None,  # noqa: PLR2004 - grey ones have no order
        normalization=LPRNET_NORMALIZATION if is_lprnet else SIGNED,
    )


def picture_channels(file: ModelFile) -> int:
    """1 or 3, of a model that takes one image."""
    shape = file.inputs[0].shape
    return shape[1] if shape[1] in (1, 3) else shape[3]


def characters_of(labels: Sequence[str] | None, classes: int, *, blank_last: bool) -> tuple[tuple[str, ...], int]:
    """The character of each class, and the number of the blank.

    Args:
        labels: as stated: one line a character. A line without a text is a space. One that says `blank` is the blank;
            where there is none, it is before the first character, or the last class. None: numbers, with a space after
            each.
        classes: number of classes.
        blank_last: whether the model's family has the blank as its last class.

    Raises:
        ModelError: it is not clear which one is the blank.
    """
    if labels is None:
        return tuple(f"{number} " for number in range(classes)), classes - 1 if blank_last else 0
    characters = [label or " " for label in labels]
    marked = [at for at, label in enumerate(labels) if label in BLANKS]
    if not marked and blank_last:
        marked = [classes - 1]
    elif not marked and len(characters) < classes:
        characters, marked = ["", *characters], [0]
    if len(marked) != 1:
        raise ModelError(
            f"labels: {len(labels)} characters for {classes} classes, one of which is CTC's blank: write `blank` into "
            "its line"
        )
    characters += [" "] * (classes - len(characters))
    return tuple(characters), marked[0]
