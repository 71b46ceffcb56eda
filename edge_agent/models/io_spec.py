"""What goes into a model and what comes out of it: its preprocessing, decoder and labels.

Each fact comes from the first that states it: the configuration, the bundle, the file's metadata, or a rule about the
file's tensors, which is named as evidence. A fact that none of them states is missing, and the error names the key
that states it; nothing is guessed.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edge_agent import settings
from edge_agent.decoders import Decoder, families
from edge_agent.decoders.classification import Classification
from edge_agent.decoders.nearest import unknown_outputs
from edge_agent.decoders.raw import RAW, raw
from edge_agent.decoders.recognition import Parts, Recognition, ultralytics_task
from edge_agent.decoders.ssd_raw import read_anchors
from edge_agent.engines import TensorSpec
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.labels import check_count
from edge_agent.modelfile.normalization import UNIT
from edge_agent.models.picture_input import (
    picture_tensor,
    read_pictures,
    sizes_of,
    with_channels,
    with_size,
    without_fixed_batch,
    without_sizes,
)
from edge_agent.models.series_input import is_square, joined_columns, read_series, takes_numbers, without_state
from edge_agent.models.state import Feed
from edge_agent.preprocess.image import Preprocess
from edge_agent.preprocess.sensor import OfSensor
from edge_agent.settings.series import Input
from edge_agent.system.units import counted
from edge_agent.timeseries.numbers import SeriesPreprocess

_OUTPUTS: dict[str, settings.Output] = {
    "SOFTMAX": "probabilities",
    "LOG_SOFTMAX": "logits",
    "LOGISTIC": "sigmoid",
    "Softmax": "probabilities",
    "QLinearSoftmax": "probabilities",
    "LogSoftmax": "logits",
    "Sigmoid": "sigmoid",
    "QLinearSigmoid": "sigmoid",
    # Sums of weighted inputs, with no activation after them that would bound them.
    **dict.fromkeys(("FULLY_CONNECTED", "CONV_2D", "ADD", "MEAN", "AVERAGE_POOL_2D", "BATCH_MATMUL"), "logits"),
    **dict.fromkeys(("Gemm", "MatMul", "Conv", "Add", "GlobalAveragePool", "AveragePool", "ReduceMean"), "logits"),
    **dict.fromkeys(("QGemm", "QLinearMatMul", "QLinearConv", "QLinearAdd", "QLinearGlobalAveragePool"), "logits"),
}
CLASSIFICATION = "classification"
EXTENSIONS = "com.microsoft.extensions."
# Embeddings have 32, 128, 192, 512, … numbers; a number of classes is one of these by chance only.
VECTOR_STEP = 32


@dataclass(frozen=True, slots=True)
class Stated:
    """What the configuration and the bundle state; where both do, what the configuration states.

    Attributes:
        sources: key of `preprocess` -> the file beside the model that states it, where none of both does.
        notes: sentences about files beside the model that are not used.
    """

    decoder: str | None = None
    preprocess: settings.Preprocess = field(default_factory=settings.Preprocess)
    input: Input | None = None
    output: settings.Output | None = None
    labels: tuple[str, ...] | None = None
    labels_from: str = ""
    without_labels: bool = False
    anchors: Path | None = None
    threshold: float | None = None
    min_confidence: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class IOSpec:
    """Everything needed to build the preprocessing and the decoder of a model.

    Attributes:
        family: the decoder family, as in `decoder:`.
        task: as in results.
        preprocess: makes the input tensor of a sample.
        labels: one for each class; None: class numbers, or a task without classes.
        build: makes the decoder from the engine's outputs.
        evidence: a sentence for each fact.
        feed: what goes in besides the tensor that `preprocess` makes.
        keeps_state: whether the file itself keeps state from one inference to the next.
    """

    family: str
    task: str
    preprocess: Preprocess | SeriesPreprocess
    labels: tuple[str, ...] | None
    build: Callable[[Sequence[TensorSpec]], Decoder] = field(repr=False, compare=False)
    evidence: list[str] = field(default_factory=list)
    feed: Feed = field(default_factory=Feed)
    keeps_state: bool = False


# What `models fit` finds, for which tasks, and how messages say so.
_FITTED = ("decoder", "output")
FITTED_TASKS = ("classification", "detection")
WAY_OUT = "or let `edge-agent models fit MODEL DATA` find it from labelled pictures"


class UnclearError(ModelError):
    """Facts are missing; the message names each and how to state it.

    Attributes:
        missing: what to state, by its key in a model's settings.
        way_out: how else it can be found; "" if in no other way.
        family: the decoder family that fits best.
        evidence: a sentence for each fact that is known.
    """

    def __init__(self, missing: Mapping[str, str], family: str, evidence: Sequence[str], task: str = "") -> None:
        found = any(key.startswith("preprocess.") or key in _FITTED for key in missing) and task in FITTED_TASKS
        self.way_out = WAY_OUT if found else ""
        super().__init__("; ".join([*missing.values(), *filter(None, [self.way_out])]))
        self.missing = dict(missing)
        self.family = family
        self.evidence = list(evidence)


def derive(file: ModelFile, stated: Stated) -> IOSpec:
    """Derives the input and output of a model of pictures, of readings or of sound.

    Args:
        file: the model file.
        stated: by the configuration and the bundle.

    Raises:
        UnclearError: facts are missing, or more than one decoder fits.
        ModelError: it is no such model, the runtime would compute it wrongly, or what is stated does not fit it.
    """
    if file.miscomputed:
        raise ModelError(file.miscomputed)
    if others := [name for name in file.custom_operators if name.startswith(EXTENSIONS)]:
        raise ModelError(
            f"it has operators of onnxruntime-extensions for what comes before and after it ({', '.join(others)}): "
            "take the file that they were added to"
        )
    evidence: list[str] = []
    missing: dict[str, str] = {}
    preprocess: Preprocess | SeriesPreprocess
    file, feed = without_state(file, stated.input)
    if takes_numbers(file, stated.input):
        file, columns, how = joined_columns(file, stated.input, evidence)
        feed = replace(feed, columns=tuple(column.name for column in columns))
        preprocess = read_series(file, how, evidence, columns)
        if stated.input is None and is_square(file):
            missing["input"] = (
                f"its input {list(file.inputs[0].shape)} may be an image without channels: state input: "
                "{kind: image}, or {kind: series} for as many readings of as many channels"
            )
        recognition = _recognise(file, stated, families.OF_NUMBERS, evidence, missing)
    else:
        file = with_channels(without_fixed_batch(file, evidence), stated.input)
        file, sizes = without_sizes(file)
        file = with_size(file, picture_tensor(file), stated.preprocess, evidence, missing)
        recognition = _recognise(file, stated, families.OF_PICTURES, evidence, missing)
        names = stated.labels or file.labels
        preprocess = read_pictures(file, stated.preprocess, stated.sources, recognition, names, evidence, missing)
        if file.format == "rpk":
            facts = {one.name: getattr(preprocess, one.name) for one in fields(preprocess) if one.init}
            preprocess = OfSensor(**facts, numbers=sum(math.prod(one.shape) for one in file.outputs))
        given = sizes_of(sizes, preprocess.height, preprocess.width, evidence)
        feed = replace(feed, constants={**feed.constants, **given})
    labels = _labels(file, stated, recognition, evidence, missing)
    evidence += stated.notes
    if missing:
        pictures = isinstance(preprocess, Preprocess)
        raise UnclearError(missing, recognition.family, evidence, recognition.task if pictures else "")
    anchors = read_anchors(stated.anchors) if stated.anchors else None
    if file.keeps_state:
        evidence.append("state: kept inside of the file, so it serves one pipeline and one stream")
    return IOSpec(
        family=recognition.family,
        task=recognition.task,
        preprocess=preprocess,
        labels=labels,
        build=lambda outputs: families.build(recognition, outputs, labels, anchors=anchors, output=stated.output),
        evidence=evidence,
        feed=feed,
        keeps_state=file.keeps_state,
    )


def _recognise(
    file: ModelFile, stated: Stated, known: Collection[str], evidence: list[str], missing: dict[str, str]
) -> Recognition:
    """The decoder family: the one that is stated, else the only one that fits."""
    if stated.decoder == CLASSIFICATION and not families.fitting(file, None, families.CLASSIFIERS):
        return _classification(file, stated, evidence, missing, known)
    if stated.decoder == RAW:
        recognition = raw(file)
        evidence += ["decoder: raw, as stated", *recognition.evidence]
        return recognition
    if stated.decoder == CLASSIFICATION:
        found = families.fitting(file, None, families.CLASSIFIERS)
    elif stated.decoder is not None:
        found = [families.stated(file, stated.decoder, known)]
    else:
        found = families.fitting(file, len(stated.labels) if stated.labels is not None else None, known)
    if not found:
        return _classification(file, stated, evidence, missing, known)
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


def _classification(
    file: ModelFile, stated: Stated, evidence: list[str], missing: dict[str, str], known: Collection[str]
) -> Recognition:
    scores = _class_count(file, stated, known)
    count = counted(scores, "score") if scores else "scores, whose number is open until it runs"
    evidence.append(f"decoder: {CLASSIFICATION}, one output of {count}")
    output = _output(file, stated, evidence, missing)
    labels = file.labels if stated.labels is None else stated.labels
    binary = scores == 1 and not stated.without_labels and labels is not None and len(labels) == 2  # noqa: PLR2004 - as for a score of two classes
    if binary:
        evidence.append("its score is that of the second label; the first label has the rest")
    classes = 2 if binary else scores
    if classes is None and stated.without_labels:
        missing["labels"] = "how many classes it has is open until it runs: state labels: FILE, one label a line"

    def build(parts: Parts) -> Decoder:
        names = parts.labels or [str(number) for number in range(classes or 0)]
        return Classification(parts.outputs[0], names, output, binary)

    if ultralytics_task(file) == "classify":
        evidence.append("classifiers of Ultralytics take RGB pixels from 0 to 1, the centre square")
        published: dict[str, Any] = {"resize": "center_crop", "color": "rgb", "normalization": UNIT}
    else:
        published = {}
    return Recognition(CLASSIFICATION, CLASSIFICATION, (), build=build, classes=classes, **published)


def _class_count(file: ModelFile, stated: Stated, families_: Collection[str]) -> int | None:
    """The number of scores; None if it is open until the model runs, which converters of 2018 leave so."""
    # The first axis is the batch, except for an output of one axis, which has none.
    axes = [tensor.shape[1:] if len(tensor.shape) > 1 else tensor.shape for tensor in file.outputs]
    sizes = [[size for size in shape if size != 1] or [1] for shape in axes]
    if len(sizes) == 1 and len(sizes[0]) == 1:
        if file.outputs[0].shape and sizes[0][0] > 0:
            return sizes[0][0]
        if stated.decoder == CLASSIFICATION or file.output_operators[:1] in (("SOFTMAX",), ("Softmax",)):
            return None
    raise ModelError(unknown_outputs(file, families_))


def _output(file: ModelFile, stated: Stated, evidence: list[str], missing: dict[str, str]) -> settings.Output:
    if stated.output:
        evidence.append(f"output: {stated.output}, as stated")
        return stated.output
    operator = file.output_operators[0] if file.output_operators else ""
    if output := _OUTPUTS.get(operator):
        evidence.append(f"output: {output}, the last operator is {operator}")
        return output
    if file.outputs[0].covers((0.0, 1.0)):
        evidence.append("output: probabilities, its quantised range is 0 to 1")
        return "probabilities"
    because = f": its last operator, {operator}, does not tell" if operator else ""
    missing["output"] = f"what are its scores{because}: state output: probabilities, logits or sigmoid"
    return "logits"


def _may_be_vector(file: ModelFile, recognition: Recognition) -> bool:
    """Whether the scores of a classifier may as well be an embedding: their number fits, and nothing bounds them."""
    operator = file.output_operators[0] if file.output_operators else ""
    unbounded = _OUTPUTS.get(operator, "logits") == "logits" and operator not in ("LOG_SOFTMAX", "LogSoftmax")
    return (
        recognition.family == CLASSIFICATION
        and recognition.classes is not None
        and unbounded
        and (recognition.classes % VECTOR_STEP == 0)
    )


def _labels(
    file: ModelFile, stated: Stated, recognition: Recognition, evidence: list[str], missing: dict[str, str]
) -> tuple[str, ...] | None:
    if recognition.labels == ():
        return stated.labels
    if stated.without_labels:
        evidence.append("labels: none, as stated: class numbers only")
        return None
    own = None if file.labels is None else recognition.of_classes(file.labels)
    if stated.labels is not None:
        labels, source = recognition.of_classes(stated.labels), f"from {stated.labels_from}"
        if recognition.classes is None and own is not None and len(own) != len(labels):
            raise ModelError(
                f"labels {stated.labels_from}: {len(labels)} labels, and the model carries {len(own)} of its own "
                f"({file.labels_from}): take those, or a list of as many"
            )
    elif own is not None:
        labels, source = own, file.labels_from
    elif recognition.labels is not None:
        labels, source = recognition.labels, "those of the family"
    else:
        lines = "1 line" if recognition.classes == 1 else f"{recognition.classes} lines"
        count = f" with {lines}" if recognition.classes else ", one label a line"
        if recognition.family == CLASSIFICATION and recognition.classes == 1:
            count = " with 1 line, or with 2 if the score is that of the second of two classes"
        if recognition.unlisted:
            count = f", one character a line (PaddleOCR's dict.txt), for {recognition.classes} classes with the blank"
        vector = "; if they are no classes but a vector to compare, state decoder: embedding"
        missing["labels"] = (
            f"the file carries no labels: state labels: FILE{count}, or `labels: none` for class numbers only"
            + (vector if _may_be_vector(file, recognition) else "")
        )
        return None
    if recognition.classes is not None and not recognition.takes(len(labels)):
        check_count(labels, recognition.classes, stated.labels_from or source)
    evidence.append(f"labels: {len(labels)}, {source}")
    return labels
