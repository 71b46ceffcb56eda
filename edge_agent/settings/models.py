"""The settings of models: which file, how it is read, and what runs it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, field_validator

from edge_agent.settings.base import Frozen, Normalize, Seconds
from edge_agent.settings.series import Input
from edge_agent.settings.text import Language

AcceleratorName = Literal[
    "cpu", "edgetpu", "ethosu", "gpu", "openvino", "cuda", "tensorrt", "qnn", "nnapi", "coreml", "acl"
]
Output = Literal["probabilities", "logits", "sigmoid"]


class Preprocess(Frozen):
    """How pixels become the model's input tensor; what is left out is read from the model file."""

    resize: Literal["stretch", "letterbox", "center_crop"] | None = None
    """Fit the picture to the model's input: `stretch`, `letterbox` (keep the aspect ratio, pad right and below) or
    `center_crop` (keep the aspect ratio, cut); default: as the model family was published, else stretch."""
    color: Literal["rgb", "bgr", "gray"] | None = None
    """Channel order the model was trained with; default: rgb for three channels, gray for one."""
    layout: Literal["nhwc", "nchw"] | None = None
    """Order of the input's axes; default: read from its shape."""
    normalize: Literal["unit", "signed", "raw", "imagenet"] | Normalize | None = None
    """Real input values: `unit` 0..1, `signed` -1..1, `raw` 0..255, `imagenet`, or mean and std."""
    reduced_decoding: bool | None = None
    """Whether a JPEG that is at least twice as large as the model's input is decoded at 1/2, 1/4 or 1/8 of its size,
    and a camera's or a video's frame reduced likewise, where nothing else needs all its pixels; default: true."""


# In the file a number is as good as its text.
RuntimeOption = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean"]})]
RuntimeOptions = Annotated[dict[str, RuntimeOption], Field(max_length=64)]


class Delegate(Frozen):
    """A TFLite delegate of one's own."""

    delegate: str = Field(min_length=1, max_length=4096)
    """Its shared library; a name without a `/` is looked for where the system keeps libraries."""
    options: RuntimeOptions = Field({})
    """What it is told, as its makers document it."""


class Provider(Frozen):
    """An execution provider of ONNX Runtime, by its own name."""

    provider: str = Field(min_length=1, max_length=64)
    """`OpenVINOExecutionProvider`, …"""
    options: RuntimeOptions = Field({})
    """Provider options, as ONNX Runtime documents them."""


Accelerator = AcceleratorName | Delegate | Provider


class Model(Frozen):
    """One model file and how it is run."""

    path: Path
    """A .tflite or .onnx file, a bundle folder, or the name of a model from the registry."""
    labels: Path | None = None
    """Text file, one label a line in the order of the model's outputs; default: what the file itself carries; `none`:
    class numbers only."""
    decoder: str | None = None
    """How the outputs are read, where the file does not show it: `classification`, or a family that `inspect` names."""
    anchors: Path | None = None
    """Text file with the anchors of an SSD without post-processing: centre y, centre x, height, width in fractions."""
    output: Output | None = None
    """What a classifier's output is, where the file does not show it: `sigmoid` scores each label by itself."""
    preprocess: Preprocess = Preprocess()
    """How pixels become the input tensor, where the file does not say."""
    input: Input | None = None
    """What goes in, where that is no picture and the file does not say."""
    accelerators: tuple[Accelerator, ...] = Field(("cpu",), min_length=1, max_length=8)
    """In order of preference; a list that ends in `cpu` falls back, any other refuses to start instead. Each is a name,
    or `{delegate: LIBRARY, options: {…}}` (.tflite), or `{provider: NAME, options: {…}}` (.onnx)."""
    timeout: Seconds = Field(5.0, ge=0.05, le=25)
    """An inference on an accelerator that takes longer has hung: the next accelerator takes over."""
    isolate: bool = False
    """Runs the model in a process of its own: what crashes there does not end the agent."""
    threads: int | None = Field(None, ge=1, le=64)
    """CPU threads for one inference; default: chosen for the cores of this machine."""
    language: Language = Language()
    """For language models: how much they remember."""

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
