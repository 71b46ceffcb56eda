"""ONNX models, converted by ONNX Runtime's own tool: statically, to pairs of QuantizeLinear and DequantizeLinear.

How it chooses types: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html.
"""

import platform
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.errors import MissingExtraError, ModelError
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.quantization.graph import Operator
from edge_agent.quantization.quiet import quiet, reported
from edge_agent.system.text import read_attribute

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# The first that knows a scale for each channel.
OPSET, IR_VERSION = 13, 7


class Onnx:
    """See `Converter`: int8 weights with a scale for each channel, and activations of 8 bits.

    Args:
        file: a model with float32 weights.
        folder: for files in between; exists as long as this is used.

    Raises:
        MissingExtraError: the tool is not installed.
        ModelError: it can't be prepared.
    """

    def __init__(self, file: FileIdentity, folder: Path) -> None:
        try:
            with quiet():
                import onnx
                import onnxruntime
                from onnxruntime import quantization
                from onnxruntime.quantization.shape_inference import quant_pre_process
        except ImportError as error:
            raise MissingExtraError("quantizing .onnx models", "quantize", error) from None
        self._tool, self._onnx, self._folder = quantization, onnx, folder
        self._prepared, self._ranges = folder / "prepared.onnx", folder / "ranges.json"
        severity = 4  # fatal errors alone: the others arrive as exceptions
        onnxruntime.set_default_logger_severity(severity)
        with reported("prepared"), file.copied() as path:
            model = _modern(onnx, onnx.load(str(path)))
            self._metadata = {entry.key: entry.value for entry in model.metadata_props}
            onnx.save(model, str(self._prepared))
            quant_pre_process(self._prepared, self._prepared, skip_symbolic_shape=True)
            prepared = onnx.load(str(self._prepared))
            for number, node in enumerate(prepared.graph.node):
                node.name = f"{number} {node.op_type}"  # those that are to stay in float are found by name
            onnx.save(prepared, str(self._prepared))
        weights = {tensor.name for tensor in prepared.graph.initializer}
        self.operators: Sequence[Operator] = [
            Operator(
                node.name,
                tuple(node.input),
                tuple(node.output),
                node.op_type in WEIGHTED and not weights.isdisjoint(node.input),
            )
            for node in prepared.graph.node
        ]
        self.outputs = tuple(tensor.name for tensor in prepared.graph.output)
        self.inputs = tuple(tensor.name for tensor in prepared.graph.input if tensor.name not in weights)

    def calibrate(self, tensors: "Iterable[NDArray[Any]]") -> None:
        """See `Converter`. Ranges are averages of the least and the greatest values of each input."""
        self._quantize(_Reader(self.inputs[0], tensors), [], "calibrated")

    def convert(self, in_float: Collection[str]) -> bytes:
        """See `Converter`."""
        return self._quantize(None, in_float, "quantized")

    def _quantize(self, reader: "_Reader | None", in_float: Collection[str], step: str) -> bytes:
        unsigned = platform.machine() in ("x86_64", "AMD64")  # whose instructions multiply unsigned by signed
        out = self._folder / "quantized.onnx"
        with reported(step):
            self._tool.quantize_static(
                self._prepared,
                out,
                reader,
                per_channel=True,
                activation_type=self._tool.QuantType.QUInt8 if unsigned else self._tool.QuantType.QInt8,
                weight_type=self._tool.QuantType.QInt8,
                reduce_range=unsigned and not _has_vnni(),
                nodes_to_exclude=list(in_float),
                extra_options={"CalibMovingAverage": True},
                calibration_cache_path=self._ranges,
            )
            model = self._onnx.load(str(out))
            del model.metadata_props[:]
            self._onnx.helper.set_model_props(model, self._metadata)
            content: bytes = model.SerializeToString()
        return content


def _has_vnni() -> bool:
    """Whether sums of two products do not saturate at 16 bits, as they do on x86-64 without VNNI.

    There weights of 7 bits are needed: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html.
    """
    return "_vnni" in read_attribute(Path("/proc/cpuinfo"))


class _Reader:
    """Hands inputs to the tool, one at a time.

    Args:
        name: of the model's input.
        tensors: (1, …).
    """

    def __init__(self, name: str, tensors: "Iterable[NDArray[Any]]") -> None:
        self._name, self._tensors = name, iter(tensors)

    def get_next(self) -> "dict[str, NDArray[Any]] | None":
        tensor = next(self._tensors, None)
        return None if tensor is None else {self._name: tensor}


def _modern(onnx: Any, model: Any) -> Any:
    """The same model, in an opset that knows scales for channels, its weights no inputs.

    Raises:
        ModelError: it can't be converted to that.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [tensor for tensor in model.graph.input if tensor.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OPSET)
    if opset >= OPSET:
        return model
    model.ir_version = max(model.ir_version, IR_VERSION)
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except RuntimeError as error:
        raise ModelError(
            f"can't be quantized: its opset {opset} has no scale for each channel, and can't be converted to {OPSET} "
            f"({' '.join(str(error).split())[:200]}): export it again with opset {OPSET} or later"
        ) from None
