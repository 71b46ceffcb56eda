"""How a model is to be read: what goes into it and what comes out.

Each fact comes from the first that states it: the configuration, the bundle, the file's metadata, or a rule about the
file's tensors that is named as evidence. What none of them states is asked for; nothing is guessed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent import settings
from edge_agent.decoders import Decoder, families
from edge_agent.decoders.classification import Classification
from edge_agent.decoders.recognition import Parts, Recognition
from edge_agent.decoders.ssd_raw import read_anchors
from edge_agent.engines import TensorSpec
from edge_agent.errors import ModelError
from edge_agent.models.labels import check_count
from edge_agent.models.model_file import ModelFile, Tensor

if TYPE_CHECKING:
    from edge_agent.preprocess import Color, Layout, Resize

Channels = tuple[float, ...]

PRESETS: dict[str, tuple[Channels, Channels]] = {
    "unit": ((0.0,), (255.0,)),
    "signed": ((127.5,), (127.5,)),
    "raw": ((0.0,), (1.0,)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
_INTEGER_LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}
# Real ranges that a quantised input covers when pixels are meant to go in as they are.
_PIXEL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
_STEPS = 2.0
_OUTPUTS: dict[str, settings.Output] = {
    "SOFTMAX": "probabilities",
    "LOG_SOFTMAX": "logits",
    "LOGISTIC": "sigmoid",
    "Softmax": "probabilities",
    "QLinearSoftmax": "probabilities",
    "LogSoftmax": "logits",
    "Sigmoid": "sigmoid",
    "QLinearSigmoid": "sigmoid",
    # Sums of weighted inputs, with nothing behind them that would bound them.
    **dict.fromkeys(("FULLY_CONNECTED", "CONV_2D", "ADD", "MEAN", "AVERAGE_POOL_2D", "BATCH_MATMUL"), "logits"),
    **dict.fromkeys(("Gemm", "MatMul", "Conv", "Add", "GlobalAveragePool", "AveragePool", "ReduceMean"), "logits"),
    **dict.fromkeys(("QGemm", "QLinearMatMul", "QLinearConv", "QLinearAdd", "QLinearGlobalAveragePool"), "logits"),
}
_MAX_SIDE = 8192
CLASSIFICATION = "classification"


@dataclass(frozen=True, slots=True)
class Stated:
    """What the configuration and the bundle state, the configuration first."""

    decoder: str | None = None
    preprocess: settings.Preprocess = field(default_factory=settings.Preprocess)
    output: settings.Output | None = None
    labels: tuple[str, ...] | None = None
    labels_from: str = ""
    without_labels: bool = False
    anchors: Path | None = None


@dataclass(slots=True)
class Reading:
    """Everything needed to build the preprocessing and the decoder of a model of pictures.

    Attributes:
        family: of decoders, as `decoder:` states it.
        task: as in results.
        height, width, channels: of the input.
        mean, std: lead from pixels to stored values of the input.
        labels: one for each class; None: class numbers, or a task without classes.
        build: makes the decoder from the engine's outputs.
        evidence: a sentence for each fact.
    """

    family: str
    task: str
    height: int
    width: int
    channels: int
    layout: "Layout"
    color: "Color"
    resize: "Resize"
    mean: Channels
    std: Channels
    labels: tuple[str, ...] | None
    build: Callable[[Sequence[TensorSpec]], Decoder] = field(repr=False, compare=False)
    evidence: list[str] = field(default_factory=list)


class UnclearError(ModelError):
    """Facts are missing; the message names each and how to state it.

    Attributes:
        missing: what to state, by its key in a model's settings.
        family: of decoders that the model seems to be of.
        evidence: a sentence for each fact that is known.
    """

    def __init__(self, missing: Mapping[str, str], family: str, evidence: Sequence[str]) -> None:
        super().__init__("; ".join(missing.values()))
        self.missing = dict(missing)
        self.family = family
        self.evidence = list(evidence)


def read(file: ModelFile, stated: Stated) -> Reading:
    """Reads a model of pictures.

    Raises:
        UnclearError: facts are missing, or more than one reading is possible.
        ModelError: it is no model of pictures, or what is stated does not fit it.
    """
    evidence: list[str] = []
    missing: dict[str, str] = {}
    tensor = _image_input(file)
    recognition = _recognise(file, stated, evidence, missing)
    layout = _layout(tensor, stated, evidence, missing)
    height, width, channels = _sides(tensor, layout)
    color = _color(channels, stated, recognition, evidence)
    resize = stated.preprocess.resize or recognition.resize or "stretch"
    evidence.append(f"resize: {resize}, {_source(stated.preprocess.resize, recognition.resize)}")
    mean, std = _normalization(file, tensor, stated, recognition, color, evidence, missing)
    labels = _labels(file, stated, recognition, evidence, missing)
    if missing:
        raise UnclearError(missing, recognition.family, evidence)
    anchors = read_anchors(stated.anchors) if stated.anchors else None
    return Reading(
        family=recognition.family,
        task=recognition.task,
        height=height,
        width=width,
        channels=channels,
        layout=layout,
        color=color,
        resize=resize,
        mean=mean,
        std=std,
        labels=labels,
        build=lambda outputs: families.build(recognition, outputs, labels, anchors=anchors, output=stated.output),
        evidence=evidence,
    )


def _image_input(file: ModelFile) -> Tensor:
    if len(file.inputs) != 1 or len(file.inputs[0].shape) != 4:  # noqa: PLR2004 - batch, height, width, channels
        shapes = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in file.inputs)
        raise ModelError(f"not a model of pictures: expected one input of four axes, found {shapes or 'none'}")
    if file.inputs[0].dtype not in ("uint8", "int8", "int32", "float32", "float16"):
        raise ModelError(f"not a model of pictures: its input is of type {file.inputs[0].dtype}")
    return file.inputs[0]


def _recognise(file: ModelFile, stated: Stated, evidence: list[str], missing: dict[str, str]) -> Recognition:
    """The decoder family: the one that is stated, else the only one that fits."""
    if stated.decoder == CLASSIFICATION:
        return _classification(file, stated, evidence, missing)
    if stated.decoder is not None:
        found = [families.stated(file, stated.decoder)]
    else:
        found = families.fitting(file, len(stated.labels) if stated.labels is not None else None)
    if not found:
        return _classification(file, stated, evidence, missing)
    if len(found) > 1:
        names = [recognition.family for recognition in found]
        readings = "; ".join(f"{one.family}: {one.evidence[0]}" for one in found)
        missing["decoder"] = f"more than one reading fits ({readings}): state decoder: {' or '.join(names)}"
    chosen = found[0]
    evidence.append(f"decoder: {chosen.family}, {'as stated' if stated.decoder else chosen.evidence[0]}")
    evidence += chosen.evidence[0 if stated.decoder else 1 :]
    needs = {"anchors": stated.anchors, "output": stated.output}
    missing.update({key: sentence for key, sentence in chosen.missing.items() if needs[key] is None})
    return chosen


def _classification(file: ModelFile, stated: Stated, evidence: list[str], missing: dict[str, str]) -> Recognition:
    classes = _class_count(file)
    evidence.append(f"decoder: {CLASSIFICATION}, one output of {classes} score(s)")
    output = _output(file, stated, evidence, missing)

    def build(parts: Parts) -> Decoder:
        return Classification(parts.outputs[0], parts.labels or [str(number) for number in range(classes)], output)

    return Recognition(CLASSIFICATION, CLASSIFICATION, (), build=build, classes=classes)


def _class_count(file: ModelFile) -> int:
    # A batch stands first, but for an output of one axis, which has none.
    axes = [tensor.shape[1:] if len(tensor.shape) > 1 else tensor.shape for tensor in file.outputs]
    sizes = [[size for size in shape if size != 1] or [1] for shape in axes]
    if len(sizes) != 1 or len(sizes[0]) != 1 or sizes[0][0] < 1 or not file.outputs[0].shape:
        shapes = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in file.outputs)
        known = ", ".join([CLASSIFICATION, *families.FAMILIES])
        raise ModelError(f"what its outputs mean can't be told ({shapes or 'none'}): known are {known}")
    return sizes[0][0]


def _color(channels: int, stated: Stated, recognition: Recognition, evidence: list[str]) -> "Color":
    if channels == 1:
        color: Color = stated.preprocess.color or "gray"
        source = "as stated" if stated.preprocess.color else "for one channel"
    else:
        color = stated.preprocess.color or recognition.color or "rgb"
        source = _source(stated.preprocess.color, recognition.color)
    if (channels == 1) != (color == "gray"):
        raise ModelError(f"preprocess.color: {color} does not fit an input of {channels} channels")
    evidence.append(f"color: {color}, {source}")
    return color


def _source(stated: object, published: object) -> str:
    if stated is not None:
        return "as stated"
    return "as the family was published" if published is not None else "as is usual"


def _layout(tensor: Tensor, stated: Stated, evidence: list[str], missing: dict[str, str]) -> "Layout":
    if stated.preprocess.layout:
        evidence.append(f"layout: {stated.preprocess.layout}, as stated")
        return stated.preprocess.layout
    first, last = tensor.shape[1] in (1, 3), tensor.shape[3] in (1, 3)
    if first == last:
        missing["preprocess.layout"] = (
            f"the input's shape {list(tensor.shape)} does not tell its layout: state preprocess.layout: nhwc or nchw"
        )
    else:
        evidence.append(f"layout: {'nchw' if first else 'nhwc'}, from the input's shape {list(tensor.shape)}")
    return "nchw" if first else "nhwc"


def _sides(tensor: Tensor, layout: "Layout") -> tuple[int, int, int]:
    _, a, b, c = tensor.shape
    height, width, channels = (a, b, c) if layout == "nhwc" else (b, c, a)
    if channels not in (1, 3):
        raise ModelError(
            f"an input of {channels} channels is not a picture: expected 1 or 3, shape {list(tensor.shape)}"
        )
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise ModelError(
            f"the input's size is open or out of bounds, shape {list(tensor.shape)}: export the model with a fixed size"
        )
    return height, width, channels


def _normalization(
    file: ModelFile,
    tensor: Tensor,
    stated: Stated,
    recognition: Recognition,
    color: "Color",
    evidence: list[str],
    missing: dict[str, str],
) -> tuple[Channels, Channels]:
    """Mean and std that lead from pixels to the stored values of the input tensor."""
    channels = 1 if color == "gray" else 3
    if stated.preprocess.normalize is not None:
        mean, std = _stated_normalization(stated.preprocess.normalize, color)
        source = "as stated"
    elif file.normalization is not None:
        mean, std = file.normalization
        source = "from the file's metadata"
    elif tensor.dtype in ("uint8", "int32") and tensor.scale is None:
        mean, std, source = *PRESETS["raw"], "for an input of whole numbers"
    elif any(_covers(tensor, values) for values in _PIXEL_RANGES):
        evidence.append("normalize: pixels as they are, the quantised input covers exactly their range")
        return (float(-_INTEGER_LIMITS[tensor.dtype][0]),), (1.0,)
    elif recognition.normalization is not None:
        mean, std = recognition.normalization
        source = "as the family was published"
    else:
        missing["preprocess.normalize"] = (
            f"the file does not say how pixels become its input ({tensor.dtype}): state preprocess.normalize: "
            "unit (0..1), signed (-1..1), raw (0..255), imagenet, or {mean: …, std: …}"
        )
        return PRESETS["raw"]
    if len(mean) not in (1, channels) or len(std) not in (1, channels):
        raise ModelError(f"preprocess.normalize: {len(mean)} means and {len(std)} stds for {channels} channel(s)")
    evidence.append(f"normalize: mean {_listed(mean)}, std {_listed(std)}, {source}")
    return _quantised(mean, std, tensor)


def _stated_normalization(normalize: str | settings.Normalize, color: "Color") -> tuple[Channels, Channels]:
    if isinstance(normalize, str):
        mean, std = PRESETS[normalize]
        if normalize == "imagenet" and color == "gray":
            raise ModelError("preprocess.normalize: imagenet is for three channels: state mean and std")
        return (mean[::-1], std[::-1]) if color == "bgr" else (mean, std)
    mean, std = (v if isinstance(v, tuple) else (v,) for v in (normalize.mean, normalize.std))
    return mean, std


def _covers(tensor: Tensor, values: tuple[float, float]) -> bool:
    """Whether a tensor is quantised so that its whole range is from the one value to the other, but for rounding."""
    if tensor.scale is None or tensor.dtype not in _INTEGER_LIMITS:
        return False
    ends = [(limit - tensor.zero_point) * tensor.scale for limit in _INTEGER_LIMITS[tensor.dtype]]
    return all(abs(end - value) <= _STEPS * tensor.scale for end, value in zip(ends, values, strict=True))


def _quantised(mean: Channels, std: Channels, tensor: Tensor) -> tuple[Channels, Channels]:
    """Folds a quantised input's scale and zero point into mean and std.

    Where that maps the pixels 0..255 onto the whole range of the type, but for rounding, they go in as they are.
    """
    if tensor.scale is None:
        return mean, std
    count = max(len(mean), len(std))
    means = [mean[i % len(mean)] - tensor.zero_point * tensor.scale * std[i % len(std)] for i in range(count)]
    stds = [std[i % len(std)] * tensor.scale for i in range(count)]
    low, high = _INTEGER_LIMITS[tensor.dtype]
    ends = [(-m / s - low, (255 - m) / s - high) for m, s in zip(means, stds, strict=True)]
    if all(math.isclose(end, 0, abs_tol=_STEPS) for pair in ends for end in pair):
        return (float(-low),), (1.0,)
    return tuple(means), tuple(stds)


def _output(file: ModelFile, stated: Stated, evidence: list[str], missing: dict[str, str]) -> settings.Output:
    if stated.output:
        evidence.append(f"output: {stated.output}, as stated")
        return stated.output
    operator = file.output_operators[0] if file.output_operators else ""
    if output := _OUTPUTS.get(operator):
        evidence.append(f"output: {output}, the last operator is {operator}")
        return output
    if _covers(file.outputs[0], (0.0, 1.0)):
        evidence.append("output: probabilities, its quantised range is 0 to 1")
        return "probabilities"
    because = f": its last operator, {operator}, does not tell" if operator else ""
    missing["output"] = f"what are its scores{because}: state output: probabilities, logits or sigmoid"
    return "logits"


def _labels(
    file: ModelFile, stated: Stated, recognition: Recognition, evidence: list[str], missing: dict[str, str]
) -> tuple[str, ...] | None:
    if recognition.labels == ():
        return stated.labels
    if stated.without_labels:
        evidence.append("labels: none, as stated: class numbers only")
        return None
    if stated.labels is not None:
        labels, source = stated.labels, f"from {stated.labels_from}"
    elif file.labels is not None:
        labels, source = file.labels, file.labels_from
    elif recognition.labels is not None:
        labels, source = recognition.labels, "those of the family"
    else:
        count = f" with {recognition.classes} lines" if recognition.classes else ", one label a line"
        missing["labels"] = (
            f"the file carries no labels: state labels: FILE{count}, or `labels: none` for class numbers only"
        )
        return None
    if recognition.classes is not None and not recognition.takes(len(labels)):
        check_count(labels, recognition.classes, stated.labels_from or source)
    evidence.append(f"labels: {len(labels)}, {source}")
    return labels


def _listed(values: Channels) -> str:
    return ", ".join(f"{value:g}" for value in values)
