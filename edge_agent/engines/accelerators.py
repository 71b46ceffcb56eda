"""Accelerators: their names in a configuration, and what each runtime calls them.

`ACCELERATORS` is the whole table. An accelerator that is not in it can be named directly: a TFLite delegate by its
library, an execution provider of ONNX Runtime by its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_agent import settings
from edge_agent.engines import plugins
from edge_agent.errors import ModelError

CPU: Literal["cpu"] = "cpu"


@dataclass(frozen=True, slots=True)
class Row:
    """One accelerator.

    Attributes:
        tflite: shared library of the delegate, or one of the words below; "" where .tflite models can't use it.
        onnx: execution provider; "" where .onnx models can't use it.
        hef: the module of `edge_agent.chips` for .hef models; "" where they can't use it.
        rknn: the same for .rknn models.
        rpk: where the tensors of .rpk models come from; "" where they can't use it.
        install: what to install for it.
    """

    tflite: str = ""
    onnx: str = ""
    hef: str = ""
    rknn: str = ""
    rpk: str = ""
    install: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """An accelerator, resolved for one format of model files.

    Attributes:
        name: in messages and in `info`.
        runs_on: the delegate's shared library, or the execution provider.
        options: of the delegate or the provider.
        install: what to install for it; "" where that is not known.
    """

    name: str
    runs_on: str
    options: Mapping[str, str] = field(default_factory=dict)
    install: str = ""

    @property
    def is_cpu(self) -> bool:
        """Whether it is the CPU."""
        return self.name == CPU


# In place of a delegate: the interpreter with its default delegate (XNNPACK); LiteRT's `CompiledModel`.
INTERPRETER = "Interpreter"
COMPILED_FOR_GPU = "CompiledModel: GPU"
COMPILED_FOR_NPU = "CompiledModel: NPU"
COMPILED_FOR = (COMPILED_FOR_GPU, COMPILED_FOR_NPU)

ACCELERATORS: dict[settings.AcceleratorName, Row] = {
    "cpu": Row(INTERPRETER, "CPUExecutionProvider"),
    "edgetpu": Row("libedgetpu.so.1", install="libedgetpu1-std, `edge-agent doctor` says from where"),
    "ethosu": Row("libethosu_delegate.so", install="the board's own delegate for it, which comes with its system"),
    "gpu": Row(COMPILED_FOR_GPU, install="ai-edge-litert, in place of tflite-runtime, and a Vulkan driver"),
    "npu": Row(
        COMPILED_FOR_NPU,
        install="ai-edge-litert 2 and the NPU's own runtime, which LiteRT's dispatch library for it needs",
    ),
    "hailo": Row(
        hef="edge_agent.chips.hailo",
        install="hailo-all (Hailo-8, 8L) or hailo-h10-all (10H), `edge-agent doctor` says which",
    ),
    "rknn": Row(
        rknn="edge_agent.chips.rknn",
        install="rknn-toolkit-lite2, and Rockchip's librknnrt.so, `edge-agent doctor` says from where",
    ),
    "imx500": Row(rpk="sensor", install="imx500-all"),
    "openvino": Row(onnx="OpenVINOExecutionProvider", install="onnxruntime-openvino, in place of onnxruntime"),
    "cuda": Row(onnx="CUDAExecutionProvider", install="onnxruntime-gpu, in place of onnxruntime"),
    "tensorrt": Row(onnx="TensorrtExecutionProvider", install="onnxruntime-gpu, in place of onnxruntime"),
    "migraphx": Row(onnx="MIGraphXExecutionProvider", install="onnxruntime-migraphx, in place of onnxruntime"),
    "qnn": Row(onnx="QNNExecutionProvider", install="onnxruntime-qnn, in place of onnxruntime"),
    "nnapi": Row(onnx="NnapiExecutionProvider", install="an ONNX Runtime that was built with --use_nnapi"),
    "coreml": Row(onnx="CoreMLExecutionProvider", install="onnxruntime, on macOS"),
    "acl": Row(onnx="ACLExecutionProvider", install="an ONNX Runtime that was built with --use_acl"),
}


def name_of(accelerator: settings.Accelerator) -> str:
    """The name of an accelerator in messages and in `info`."""
    if isinstance(accelerator, str):
        return accelerator
    match accelerator:
        case settings.Delegate():
            own = Path(accelerator.delegate).name
        case settings.Provider():
            own = accelerator.provider
        case settings.Chip():
            own = accelerator.chip
        case settings.Plugin():
            own = accelerator.plugin
    return " ".join([own, *(f"{key}={value}" for key, value in accelerator.options.items())])


def known_as(accelerator: settings.Accelerator) -> str:
    """Its name in the table, also if the configuration names its library or provider; "" if it is not in there."""
    if isinstance(accelerator, str):
        return accelerator
    if isinstance(accelerator, settings.Chip):
        return accelerator.chip
    if isinstance(accelerator, settings.Plugin):
        return accelerator.plugin
    if isinstance(accelerator, settings.Delegate):
        library = Path(accelerator.delegate).name
        return next((name for name, row in ACCELERATORS.items() if row.tflite == library), "")
    return next((name for name, row in ACCELERATORS.items() if row.onnx == accelerator.provider), "")


def resolve(accelerator: settings.Accelerator, file_format: str) -> Target:
    """Resolves an accelerator for models of a format.

    Raises:
        ModelError: these models can't use it.
    """
    name = name_of(accelerator)
    if isinstance(accelerator, settings.Plugin):
        return Target(name, plugins.entry_point(accelerator.plugin, file_format).value, accelerator.options)
    if isinstance(accelerator, settings.Delegate) and file_format == "tflite":
        return Target(name, accelerator.delegate, accelerator.options)
    if isinstance(accelerator, settings.Provider) and file_format == "onnx":
        return Target(name, accelerator.provider, accelerator.options)
    if isinstance(accelerator, settings.Chip) and (runs_on := getattr(ACCELERATORS[accelerator.chip], file_format)):
        return Target(name, runs_on, accelerator.options, ACCELERATORS[accelerator.chip].install)
    if isinstance(accelerator, str) and (runs_on := getattr(ACCELERATORS[accelerator], file_format)):
        return Target(name, runs_on, install=ACCELERATORS[accelerator].install)
    usable = ", ".join(known for known, row in ACCELERATORS.items() if getattr(row, file_format))
    raise ModelError(f"{name}: models of this format can't use it: .{file_format} files can be run on {usable}")


def can_use(accelerator: settings.Accelerator, file_format: str) -> bool:
    """Whether there is a way to run models of a format on an accelerator."""
    try:
        resolve(accelerator, file_format)
    except ModelError:
        return False
    return True
