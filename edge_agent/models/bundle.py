"""Bundles: a folder with a model and `model.yaml`, which states what the model file does not."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, field_validator

from edge_agent.config.loader import NO_LABELS
from edge_agent.config.validation import validate
from edge_agent.config.yaml_lines import Problems, read
from edge_agent.engines.accelerators import CPU, can_use
from edge_agent.errors import ModelError
from edge_agent.modelfile import chips, gate
from edge_agent.settings import Accelerator, AcceleratorName, Output, Preprocess, Region
from edge_agent.settings.base import Fraction, Frozen
from edge_agent.settings.series import Input
from edge_agent.settings.text import Prompt, Schema, Words

MANIFEST = "model.yaml"
MAX_MANIFEST_SIZE = 100_000
MAX_VARIANTS = 32
MAX_EVALUATED = 32
FileFormat = Literal["tflite", "onnx", "hef", "rknn", "rpk", "genai", "gguf"]
# Format of the model file -> the modules that can run it.
RUNTIMES: dict[FileFormat, tuple[str, ...]] = {
    "tflite": ("ai_edge_litert", "tflite_runtime"),
    "onnx": ("onnxruntime",),
    "hef": ("hailo_platform",),
    "rknn": ("rknnlite",),
    "rpk": (),
    "genai": ("onnxruntime_genai",),
    "gguf": ("xllamacpp",),
}


def _known_target(name: str) -> str:
    # Of some accelerators there are several chips, which load different files.
    several = {chips.accelerator_of(chip) for chip in chips.LOADS} - chips.LOADS.keys()
    known = dict.fromkeys(one for one in (*get_args(AcceleratorName), *chips.LOADS) if one not in several)
    if name not in known:
        raise ValueError(f"must be an accelerator or a chip: {', '.join(known)}")
    return name


Target = Annotated[str, AfterValidator(_known_target)]


class Variant(Frozen):
    """The same model in a file for one kind of device."""

    target: Target = Field(alias="for")
    """What runs it: `cpu`, another accelerator, or a chip such as `hailo8l` or `rk3588`."""
    file: Path
    """Model file, relative to the bundle."""


class Golden(Frozen):
    """An input and one expected prediction; an input with several objects has several of these lines.

    The lines of an input are complete: no other prediction may be more confident, except within the tolerance.
    """

    input: Path
    """Image file, relative to the bundle."""
    label: str
    """Label of the prediction."""
    min_confidence: Fraction = 0.0
    """Its least confidence."""
    confidence: Fraction | None = None
    """Its confidence."""
    tolerance: Fraction = 0.05
    """By how much the confidence may differ."""
    box: Region | None = None
    """Of a detection: where it is, [x1, y1, x2, y2] in pixels of the input."""
    min_overlap: Fraction = 0.9
    """Least overlap of the boxes: intersection over union."""


class GoldenText(Frozen):
    """A prompt and the expected answer of a language model, with greedy decoding."""

    prompt: Prompt
    """The user's message."""
    text: str
    """The answer."""
    system: Words = ""
    """The system message."""
    json_schema: Schema = None
    """The JSON Schema that the answer must follow."""


class Quantized(Frozen):
    """What `models quantize` has measured of the file and of the original that it was made from."""

    original: Path
    """The original, relative to the bundle."""
    machine: str = ""
    """Where the times were measured."""
    original_ms: float
    """An inference of the original, in milliseconds."""
    ms: float
    """An inference of the file."""
    compared: int
    """Number of pictures or objects on which both were compared; none of them was used to make the file."""
    same: int
    """Those for which both gave the same result."""
    tied: int = 0
    """Further ones whose results were practically tied."""
    calibrated: int = 0
    """Number of samples from which the ranges were taken."""
    in_float: int = 0
    """Number of operators that were left in float."""
    original_accuracy: float | None = None
    """How right the original is on labelled data: `top1` of a classifier, `ap` of a detector."""
    accuracy: float | None = None
    """How right the file is on the same data."""


class Required(Frozen):
    """A small labelled data set in a bundle, and how right the model must be on it, on the device."""

    data: Path
    """Folder or file in one of the formats of `evaluate`, relative to the bundle."""
    require: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(min_length=1, max_length=20)
    """The least value of each measure, as `evaluate` names them; of errors (`mae`), the largest."""


class Evaluated(Frozen):
    """What `evaluate --record` has measured of the model. It is a statement, not evidence."""

    data: str = Field(max_length=200)
    """Name of the labelled data."""
    data_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Hash of the samples and of what is right for each."""
    samples: int = Field(ge=1)
    """Number of samples that were judged."""
    metrics: dict[str, float] = Field(min_length=1, max_length=20)
    """What was measured, as `evaluate` names it."""
    interval: dict[str, tuple[float, float]] = Field({}, max_length=20)
    """The 95 % interval of each measure."""
    model_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Hash of the model file that ran."""
    accelerator: str = Field(max_length=64)
    """What the model ran on."""
    machine: str = Field(max_length=200)
    """The device or the processor."""
    latency_ms: float | None = Field(None, ge=0)
    """From an encoded sample to its predictions, the median."""
    agent: str = Field(max_length=64)
    """Version of edge-agent."""
    at: str = Field(max_length=32)
    """When, in UTC."""


CALIBRATED = "threshold"
"""The measure of a detector that says from which confidence on it is right most often."""


TRANSCRIPTION = "transcription"
"""Task of speech to text, whose models always have the same files."""


class Manifest(Frozen):
    """The content of `model.yaml`."""

    name: str
    """Name of the model."""
    version: str
    """Version of the model."""
    task: str
    """`classification`, `detection`, …"""
    licence: str = ""
    """SPDX name of the licence of the weights."""
    source: str = ""
    """Where the model comes from."""
    files: dict[FileFormat, Path] = Field({})
    """The same model in one or more formats, relative to the bundle."""
    variants: tuple[Variant, ...] = Field((), max_length=MAX_VARIANTS)
    """The same model for several kinds of devices. Each device uses the file for its chip."""
    left_out: tuple[str, ...] = Field((), max_length=MAX_VARIANTS)
    """What the release that this archive is a part of has further variants for."""
    compiled: dict[Target, Path] = Field({})
    """The same model compiled for accelerators, as in `edgetpu: digits_edgetpu.tflite`, relative to the bundle; each
    replaces the file of its format there."""
    labels: Path | None = None
    """Text file, one label a line; default: what the model file carries; `none`: class numbers only."""
    decoder: str | None = None
    """The decoder family, where it can't be derived from the file."""
    anchors: Path | None = None
    """Text file with the anchors of an SSD without post-processing, relative to the bundle."""
    output: Output | None = None
    """What a classifier's output is, where that can't be derived from the file."""
    preprocess: Preprocess = Preprocess()
    """How pixels become the input tensor."""
    input: Input | None = None
    """The input, where it is no picture."""
    threshold: float | None = Field(None, ge=0)
    """Of an anomaly model: scores above this are anomalies."""
    min_confidence: Fraction | None = None
    """Minimum confidence of pipelines that state none; default: what `evaluate --record` has found, of a detector."""
    quantized: Quantized | None = None
    """The original of a file that `models quantize` made, and what was measured."""
    golden_text: tuple[GoldenText, ...] = Field((), max_length=20)
    """Golden samples of a language model."""
    evaluation: Required | None = None
    """Labelled data in the bundle, and how right the model must be on it."""
    evaluated: tuple[Evaluated, ...] = Field((), max_length=MAX_EVALUATED)
    """How right the model was found to be, by data, machine and accelerator."""
    golden: tuple[Golden, ...] = ()
    """Golden samples: inputs with the expected predictions."""

    @field_validator("variants")
    @classmethod
    def _each_target_once(cls, value: tuple[Variant, ...]) -> tuple[Variant, ...]:
        if len({one.target for one in value}) < len(value):
            raise ValueError("must have one file for each target")
        return value

    @property
    def calibrated(self) -> float | None:
        """Minimum confidence of pipelines that state none: the stated one, else that of the latest evaluation."""
        found = [one.metrics[CALIBRATED] for one in self.evaluated if {CALIBRATED, "ap"} <= one.metrics.keys()]
        return found[-1] if self.min_confidence is None and found else self.min_confidence

    @property
    def plain(self) -> dict[FileFormat, Path]:
        """The files that need no particular accelerator, by their format."""
        suffixes = {f".{kind}": kind for kind in get_args(FileFormat)}
        stated = [one.file for one in self.variants if one.target == CPU]
        return self.files | {suffixes.get(file.suffix, "tflite"): file for file in stated}

    @property
    def for_targets(self) -> dict[str, Path]:
        """The other files, by the accelerator or chip that they are for."""
        return self.compiled | {one.target: one.file for one in self.variants if one.target != CPU}


def read_manifest(folder: Path) -> Manifest:
    """Reads a bundle's `model.yaml`.

    Raises:
        ModelError: it is missing or unreadable, names files outside of the bundle or that do not exist, or the bundle
            holds anything but data.
    """
    gate.check_folder(folder)
    path = folder / MANIFEST
    problems = Problems(path)
    try:
        # Without variables: a bundle from elsewhere must not read this machine's secrets.
        raw = read(path, problems, {}, MAX_MANIFEST_SIZE)
    except FileNotFoundError:
        raise ModelError(f"{folder}: not a model bundle: it has no {MANIFEST}") from None
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror}") from None
    manifest = validate(Manifest, raw, problems)
    if manifest is None or problems.texts():
        raise ModelError("; ".join(problems.texts()))
    if not manifest.plain and not manifest.for_targets and manifest.task != TRANSCRIPTION:
        raise ModelError(f"{path}: names no model file: state `files` or `variants`")
    named = [*manifest.plain.values(), *manifest.for_targets.values(), *(golden.input for golden in manifest.golden)]
    labels = None if manifest.labels == NO_LABELS else manifest.labels
    if manifest.quantized is not None:
        named.append(manifest.quantized.original)
    for name in [*named, *filter(None, (labels, manifest.anchors))]:
        try:
            gate.inside(folder, name)
        except ModelError as error:
            raise ModelError(f"{path}: names {error}") from None
    return manifest


def manifest_beside(file: Path) -> Manifest | None:
    """The manifest of the bundle that a model file belongs to; None if it belongs to none."""
    if not (file.parent / MANIFEST).is_file():
        return None
    manifest = read_manifest(file.parent)
    return manifest if Path(file.name) in manifest.plain.values() else None


def choose_file(manifest: Manifest, accelerators: Sequence[Accelerator] = (CPU,)) -> Path:
    """The plain file for the first accelerator that an installed runtime can use, TFLite before ONNX."""
    files = manifest.plain
    installed = [
        file_format
        for file_format, modules in RUNTIMES.items()
        if file_format in files and any(importlib.util.find_spec(module) for module in modules)
    ]
    for accelerator in accelerators:
        for file_format in installed:
            if can_use(accelerator, file_format):
                return files[file_format]
    return next(iter(files.values()))
