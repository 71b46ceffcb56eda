"""The settings of models: the file, its inputs and outputs, and the accelerators."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, field_validator, model_validator

from edge_agent.settings.base import Frozen, Normalize, Seconds
from edge_agent.settings.series import Input
from edge_agent.settings.text import Language
from edge_agent.system.units import parse_sides

AcceleratorName = Literal[
    "cpu",
    "edgetpu",
    "ethosu",
    "gpu",
    "npu",
    "hailo",
    "rknn",
    "imx500",
    "openvino",
    "cuda",
    "tensorrt",
    "migraphx",
    "qnn",
    "nnapi",
    "coreml",
    "acl",
]
Output = Literal["probabilities", "logits", "sigmoid"]


# Width, height in pixels.
PictureSize = Annotated[
    tuple[int, int],
    BeforeValidator(parse_sides),
    PlainSerializer(lambda sides: f"{sides[0]}x{sides[1]}", return_type=str),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["640x480", 320]}),
]


class Preprocess(Frozen):
    """How pixels become the model's input tensor. Default of each key: as the model file says."""

    size: PictureSize | None = None
    """Width and height of the input in pixels, such as `640x480`, or one number for a square, where the model leaves it
    open. Default: as the model file says."""
    resize: Literal["stretch", "letterbox", "center_crop"] | None = None
    """How an image is fitted to the model's input: `stretch`, `letterbox` (keep the aspect ratio, pad right and below)
    or `center_crop` (keep the aspect ratio, cut). Default: as the model family was published; center_crop for
    classifiers with ImageNet's classes; else stretch."""
    crop: float | None = Field(None, ge=0.1, le=1)
    """For center_crop: fraction of the shorter side that is kept, in the middle. Default: 1; 0.875 for classifiers with
    ImageNet's classes, as they are evaluated."""
    color: Literal["rgb", "bgr", "gray"] | None = None
    """Channel order that the model was trained with. Default: as the model family was published, else rgb for three
    channels, gray for one."""
    layout: Literal["nhwc", "nchw"] | None = None
    """Axis order of the input. Default: derived from its shape."""
    normalize: Literal["unit", "signed", "raw", "imagenet"] | Normalize | None = None
    """Range of the input values: `unit` 0..1, `signed` -1..1, `raw` 0..255, `imagenet`, or mean and std."""
    reduced_decoding: bool | None = None
    """Decode a JPEG that is at least twice as large as the model's input at 1/2, 1/4 or 1/8 of its size, and reduce
    frames of cameras and videos in the same way, where nothing else needs all pixels. Default: true."""


# The loader leaves YAML scalars as text; an editor sees numbers and booleans.
RuntimeOption = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean"]})]
RuntimeOptions = Annotated[dict[str, RuntimeOption], Field(max_length=64)]


class Delegate(Frozen):
    """A TFLite delegate, by its library."""

    delegate: str = Field(min_length=1, max_length=4096)
    """Shared library of the delegate. A name without a `/` is searched for in the system's library folders."""
    options: RuntimeOptions = Field({})
    """Options of the delegate, as its vendor documents them."""


class Provider(Frozen):
    """An execution provider of ONNX Runtime, by its own name."""

    provider: str = Field(min_length=1, max_length=64)
    """Name of the provider, such as `OpenVINOExecutionProvider`."""
    options: RuntimeOptions = Field({})
    """Options of the provider, as ONNX Runtime documents them."""


class Chip(Frozen):
    """A chip whose library comes with the system, with options."""

    chip: Literal["hailo", "rknn"]
    """`hailo` or `rknn`."""
    options: RuntimeOptions = Field({})
    """`hailo`: `group_id`, `multi_process_service`, `priority`, `score_threshold`, `iou_threshold`. `rknn`: `cores`.
    Both: `python`, the interpreter that has the vendor's library."""

    @model_validator(mode="after")
    def _known_options(self) -> "Chip":
        known = CHIP_OPTIONS[self.chip]
        for key, value in self.options.items():
            if key not in known:
                raise ValueError(f"options: {self.chip} has no option {key}, only {', '.join(known)}")
            pattern = known[key]
            if not re.fullmatch(pattern, value):
                raise ValueError(f"options.{key}: expected {pattern}, found {value!r}")
        return self


class Plugin(Frozen):
    """An accelerator that an installed package brings."""

    plugin: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$(?!\n)")
    """Its name."""
    options: RuntimeOptions = Field({})
    """Options, as the package documents them."""


_FRACTION = r"0|1|[01]?\.\d{1,6}"
# Options of each chip, and what matches their values.
CHIP_OPTIONS: dict[str, dict[str, str]] = {
    "hailo": {
        "python": r"/.{1,1000}",
        "group_id": r"[\w.-]{1,64}",
        "multi_process_service": r"auto|true|false",
        "priority": r"[0-9]|[12][0-9]|3[01]",
        "score_threshold": _FRACTION,
        "iou_threshold": _FRACTION,
    },
    "rknn": {"python": r"/.{1,1000}", "cores": r"auto|all|0|1|2|0_1|0_1_2"},
}
Accelerator = AcceleratorName | Delegate | Provider | Chip | Plugin


class Model(Frozen):
    """One model file and how it is run."""

    path: Path
    """A model file, the folder of a bundle or of an export, or the name of a model from the registry."""
    labels: Path | None = None
    """Text file with one label per line, in the order of the model's outputs. Default: the labels in the model file or
    bundle. `none`: class numbers only."""
    decoder: str | None = None
    """How the outputs are decoded, where the file does not show it: `classification`, or a family that `inspect`
    names. `raw`: not at all; results carry the output tensors."""
    anchors: Path | None = None
    """Text file with the anchors of an SSD without post-processing: centre y, centre x, height, width, as fractions of
    the input; or of YOLO without its last layer: width, height, in pixels of the input (YOLOv2: in cells); or of
    RetinaFace: width, height of each prior, in pixels."""
    output: Output | None = None
    """What the scores of a classifier are, where the file does not show it. `sigmoid`: each label has a score of its
    own."""
    preprocess: Preprocess = Preprocess()
    """How pixels become the input tensor, where the file does not say."""
    input: Input | None = None
    """What the input is, if not an image, where the file does not say."""
    accelerators: tuple[Accelerator, ...] = Field(("cpu",), min_length=1, max_length=8)
    """In order of preference. A list that ends in `cpu` falls back to the CPU; with any other list, the model does not
    start if none of the accelerators works. Each entry is a name, or `{delegate: LIBRARY, options: {…}}` (.tflite), or
    `{provider: NAME, options: {…}}` (.onnx), or `{chip: hailo, options: {…}}` (.hef) or `{chip: rknn, options: {…}}`
    (.rknn), or `{plugin: NAME, options: {…}}`, which an installed package brings."""
    timeout: Seconds = Field(5.0, ge=0.05, le=25)
    """Time limit of an inference on an accelerator. One that takes longer counts as hung, and the next accelerator
    takes over."""
    isolate: bool = False
    """Run the model in a process of its own, so that a crash there does not end the agent."""
    threads: int | None = Field(None, ge=1, le=64)
    """CPU threads for one inference. Default: chosen by measuring, with `engines`; on accelerators and in a process of
    its own, half of the cores, or fewer where several models share them."""
    engines: Annotated[int, Field(ge=1, le=16)] | Literal["auto"] = "auto"
    """How many inferences run at the same time on the CPU. `auto`: what makes the most inferences a second on this
    machine without a longer single one, measured when the model is first loaded. Models that keep state, those in a
    process of their own, and language models have one."""
    tune: Literal["auto", "none"] = "none"
    """`auto`: a uint8 .tflite file runs as int8, if that is faster here and its answers stay within the tolerance of
    the bundle's golden samples."""
    language: Language = Language()
    """For language models: sizes of the context and of the cache."""

    @model_validator(mode="after")
    def _one_engine_in_a_process_of_its_own(self) -> "Model":
        if self.isolate and self.engines not in ("auto", 1):
            raise ValueError("engines: a model in a process of its own (isolate) has one")
        return self

    @field_validator("accelerators", mode="before")
    @classmethod
    def _without_xnnpack(cls, value: Any) -> Any:
        for one in value if isinstance(value, list | tuple) else ():
            if one == "xnnpack" or (isinstance(one, dict) and one.get("delegate") == "xnnpack"):
                raise ValueError("xnnpack is no longer an accelerator: use cpu, which runs .tflite models on XNNPACK")
        return value

    @field_validator("accelerators")
    @classmethod
    def _each_once(cls, value: tuple[Accelerator, ...]) -> tuple[Accelerator, ...]:
        if any(one in value[:at] for at, one in enumerate(value)):
            raise ValueError("must name each only once")
        return value
