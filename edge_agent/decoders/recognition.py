"""The result of recognising a decoder family in a model file, and what a decoder is built from."""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from edge_agent.decoders import Decoder
from edge_agent.decoders.boxes import cell_count
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.modelfile.normalization import Normalization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_agent.preprocess.image import Color
    from edge_agent.preprocess.placement import Resize

Size = tuple[int, int]
"""Height, width."""

# Feature maps of published YOLO, YOLOX and NanoDet models; the last three: P6, P2 and tiny variants.
ANCHORS = 3  # per cell, in YOLOv5 and YOLOv7
PROTOTYPE_STRIDE = 4
STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))


@dataclass(frozen=True, slots=True)
class Parts:
    """What a decoder is built from, besides the recognition.

    Attributes:
        outputs: of the engine, in its order.
        labels: one per class; that of a background class may be left out. None: numbers only.
        anchors: of SSD, (N, 4) centre y, centre x, height, width as fractions of the input, or of YOLO, (N, 2) width,
            height; None: those of the published models.
        output: what the scores are, if it is set.
    """

    outputs: Sequence[TensorSpec]
    labels: Sequence[str] | None
    anchors: "NDArray[np.float32] | None" = None
    output: Literal["probabilities", "logits", "sigmoid"] | None = None


@dataclass(frozen=True, slots=True)
class Recognition:
    """A decoder family, recognised in a model file.

    Attributes:
        family: its name, as in the setting `decoder`.
        task: as published in results.
        evidence: sentences that `inspect` prints.
        build: makes the decoder.
        named: whether names or metadata in the file show the family; it then outweighs families that fit by shape.
        classes: number of classes of the outputs; None where the file does not show it.
        background: whether class 0 is the background, whose label may be left out.
        unlisted: number of classes that may have no label.
        uncounted: first labels of lists that count a background which the outputs do not count.
        labels: those that the family defines itself; () if predictions need none.
        resize, color, normalization: of the input, as in the family's published source. The last is mean, std, each one
            value or one per channel: x becomes (x - mean) / std, with pixels from 0 to 255. None: not published.
        missing: what has to be set before the decoder can be built: `anchors` or `output` -> a sentence about it.
    """

    family: str
    task: str
    evidence: tuple[str, ...]
    build: Callable[[Parts], Decoder] = field(repr=False, compare=False)
    named: bool = False
    classes: int | None = None
    background: bool = False
    unlisted: int = 0
    uncounted: frozenset[str] = frozenset()
    labels: tuple[str, ...] | None = None
    resize: "Resize | None" = None
    color: "Color | None" = None
    normalization: Normalization | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    def of_classes(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The labels of a list, without one of a background that the outputs do not count."""
        return labels[1:] if labels and labels[0] in self.uncounted else labels

    def takes(self, label_count: int) -> bool:
        """Whether this number of labels fits."""
        if self.classes is None or label_count in (self.classes, self.classes - self.background):
            return True
        return self.classes - self.unlisted <= label_count <= self.classes


def picture_size(file: ModelFile) -> Size | None:
    """Height, width of the input of a model that takes one image; None for other models."""
    if len(file.inputs) != 1 or len(file.inputs[0].shape) != 4:  # noqa: PLR2004 - batch and three axes of an image
        return None
    _, first, second, last = file.inputs[0].shape
    height, width = (first, second) if last in (1, 3) else (second, last)
    if (last not in (1, 3) and first not in (1, 3)) or min(height, width) < 1:
        return None
    return height, width


def strides_of(size: Size, cells: int) -> tuple[int, ...] | None:
    """The published set of strides whose feature maps have this total number of cells; None if there is none."""
    return next((strides for strides in STRIDES if cell_count(size, strides) == cells), None)


def cells_sentence(cells: int, strides: Sequence[int], size: Size) -> str:
    """The evidence that a number is a number of cells."""
    return f"{cells} cells of strides {', '.join(map(str, strides))} at {size[1]} x {size[0]}"


def ultralytics_task(file: ModelFile) -> str | None:
    """The task in the metadata of an Ultralytics export: `detect`, `segment`, `pose`, …; None for other files.

    https://github.com/ultralytics/ultralytics/blob/main/ultralytics/engine/exporter.py
    """
    return file.metadata.get("task") if {"stride", "names"} <= file.metadata.keys() else None


def with_sizes(file: ModelFile) -> ModelFile:
    """The same file, with the sizes that the outputs of an Ultralytics export have for the size of its input.

    A file that was exported with open sizes (`dynamic=True`) leaves those of its outputs open as well.
    """
    size = picture_size(file)
    if size is None or not {"stride", "names"} <= file.metadata.keys():
        return file
    stride = file.metadata["stride"]
    strides = STRIDES[1] if stride == "64" else STRIDES[0]
    cells = cell_count(size, strides)

    def known(shape: tuple[int, ...]) -> tuple[int, ...]:
        match shape:
            case (batch, -1, columns) if columns > 0:  # YOLOv5
                return batch, ANCHORS * cells, columns
            case (batch, columns, -1):
                return batch, columns, cells
            case (batch, channels, -1, -1):  # prototypes of masks
                return batch, channels, size[0] // PROTOTYPE_STRIDE, size[1] // PROTOTYPE_STRIDE
        return shape

    return replace(file, outputs=tuple(replace(tensor, shape=known(tensor.shape)) for tensor in file.outputs))


def embedded_list(metadata: Mapping[str, str], key: str) -> tuple[int, ...] | None:
    """A short list of numbers in the metadata of an Ultralytics export, written as text, such as `[17, 3]`."""
    text = metadata.get(key, "")
    try:
        values = ast.literal_eval(text) if len(text) <= 64 else None  # noqa: PLR2004 - longer is no such list
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(values, list | tuple) and all(isinstance(value, int) for value in values):
        return tuple(values)
    return None


def sole_output(file: ModelFile) -> Tensor | None:
    """The output of a model that has exactly one; else None."""
    return file.outputs[0] if len(file.outputs) == 1 else None


def without_batch(tensor: Tensor) -> tuple[int, ...]:
    """The axes of an output besides the batch, which a single axis of a known size is not."""
    return tensor.shape[1:] if len(tensor.shape) > 1 or tensor.shape in ((1,), (-1,)) else tensor.shape


def number_of(name: str) -> int:
    """The number at the end of the name of an output, 3 of `Identity_3:0`; 0 where it has none."""
    match = re.search(r"_(\d{1,4})(?::\d)?$", name)
    return int(match[1]) if match else 0


def is_batch(size: int) -> bool:
    """Whether an axis of this size can be the batch axis."""
    return size in (1, -1)


def with_background(labels: Sequence[str] | None, classes: int) -> Sequence[str] | None:
    """Labels for all classes, where class 0 is the background and its label may be left out."""
    return ("background", *labels) if labels is not None and len(labels) == classes - 1 else labels
