"""What a decoder family sees in a model file, and what a decoder is built from."""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from edge_agent.decoders import Decoder
from edge_agent.decoders.boxes import cell_count
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_agent.preprocess.image import Color
    from edge_agent.preprocess.placement import Resize

Channels = tuple[float, ...]
Size = tuple[int, int]
"""Height, width."""

UNIT = ((0.0,), (255.0,))
SIGNED = ((127.5,), (127.5,))
RAW = ((0.0,), (1.0,))

# Feature maps of published YOLO, YOLOX and NanoDet models; the last three: P6, P2 and tiny variants.
STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))


@dataclass(frozen=True, slots=True)
class Parts:
    """What a decoder is built from, besides what was recognised.

    Attributes:
        outputs: as the engine has them, in its order.
        labels: one for each class; where there is a background it may be left out. None: numbers only.
        anchors: of SSD, (N, 4) centre y, centre x, height, width as fractions of the input; None: those that the
            recognition tells of.
        output: what scores are, where it is stated.
    """

    outputs: Sequence[TensorSpec]
    labels: Sequence[str] | None
    anchors: "NDArray[np.float32] | None" = None
    output: Literal["probabilities", "logits", "sigmoid"] | None = None


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a family sees in a model file.

    Attributes:
        family: its name, as `decoder:` states it.
        task: as in results.
        evidence: sentences.
        build: makes the decoder.
        named: whether something in the file names the family, so that others that fit by shape alone are out.
        classes: number of classes that the outputs have; None where they do not show it.
        background: whether class 0 is the background; labels may leave it out.
        labels: those that the family defines itself; () where predictions need none.
        resize, color, normalization: of the input, as the family's published source states them, the last as (mean,
            std), one value or one a channel: x becomes (x - mean) / std, pixels count from 0 to 255. None: it says
            nothing.
        missing: what has to be stated before the decoder can be built, a sentence for each of `anchors` and `output`
            of `Parts` that is.
    """

    family: str
    task: str
    evidence: tuple[str, ...]
    build: Callable[[Parts], Decoder] = field(repr=False, compare=False)
    named: bool = False
    classes: int | None = None
    background: bool = False
    labels: tuple[str, ...] | None = None
    resize: "Resize | None" = None
    color: "Color | None" = None
    normalization: tuple[Channels, Channels] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    def takes(self, label_count: int) -> bool:
        """Whether so many labels fit."""
        return self.classes is None or label_count in (self.classes, self.classes - self.background)


def picture_size(file: ModelFile) -> Size | None:
    """Height and width of the one picture that a model takes; None if it takes something else."""
    if len(file.inputs) != 1 or len(file.inputs[0].shape) != 4:  # noqa: PLR2004 - batch and three axes of a picture
        return None
    _, first, second, last = file.inputs[0].shape
    height, width = (first, second) if last in (1, 3) else (second, last)
    if (last not in (1, 3) and first not in (1, 3)) or min(height, width) < 1:
        return None
    return height, width


def strides_of(size: Size, cells: int) -> tuple[int, ...] | None:
    """The strides of the feature maps that have so many cells in all; None if no published set has."""
    return next((strides for strides in STRIDES if cell_count(size, strides) == cells), None)


def cells_sentence(cells: int, strides: Sequence[int], size: Size) -> str:
    """The evidence that a number is one of cells."""
    return f"{cells} cells of strides {', '.join(map(str, strides))} at {size[1]} x {size[0]}"


def ultralytics_task(file: ModelFile) -> str | None:
    """`detect`, `segment`, `pose`, … as an Ultralytics export states it in the file; None if it is none.

    https://github.com/ultralytics/ultralytics/blob/main/ultralytics/engine/exporter.py
    """
    return file.metadata.get("task") if {"stride", "names"} <= file.metadata.keys() else None


def embedded_list(metadata: Mapping[str, str], key: str) -> tuple[int, ...] | None:
    """A short list of numbers that an Ultralytics export has written as text, such as `[17, 3]`."""
    text = metadata.get(key, "")
    try:
        values = ast.literal_eval(text) if len(text) <= 64 else None  # noqa: PLR2004 - longer is no such list
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(values, list | tuple) and all(isinstance(value, int) for value in values):
        return tuple(values)
    return None


def sole_output(file: ModelFile) -> Tensor | None:
    """The output of a model that has one."""
    return file.outputs[0] if len(file.outputs) == 1 else None


def is_batch(size: int) -> bool:
    """Whether an axis can be that of the batch."""
    return size in (1, -1)


def with_background(labels: Sequence[str] | None, classes: int) -> Sequence[str] | None:
    """Labels for all columns of the scores, where the first column is the background and may be left out."""
    return ("background", *labels) if labels is not None and len(labels) == classes - 1 else labels
