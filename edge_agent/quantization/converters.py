"""Which converter a model file needs: the file decides."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.quantization import Converter
from edge_agent.quantization.graph import Operator
from edge_agent.quantization.onnx import Onnx
from edge_agent.quantization.tflite import WEIGHTED, TFLite
from edge_agent.quantization.tflite_file import TFLiteFile
from edge_agent.quantization.uint8 import to_int8

if TYPE_CHECKING:
    from numpy.typing import NDArray

# ONNX operators of models that are quantized already.
_QUANTIZED = ("QLinear", "QGemm", "QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuant")


class Uint8:
    """See `Converter`: a uint8 file holds its ranges, so that it needs no samples.

    Args:
        content: of the file.
    """

    operators: Sequence[Operator] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def __init__(self, content: bytes) -> None:
        self._content = content

    def calibrate(self, tensors: "Iterable[NDArray[Any]]") -> None:
        """Nothing has to be observed."""

    def convert(self, in_float: Collection[str]) -> bytes:  # noqa: ARG002 - nothing is in float
        """See `Converter`."""
        return to_int8(self._content)


def converter_for(file: ModelFile, folder: Path) -> Converter:
    """The converter for a model file.

    Args:
        file: the model file.
        folder: for files in between; exists as long as the converter is used.

    Raises:
        ModelError: it is quantized already, or can't be read by the tool.
        MissingExtraError: the tool is not installed.
    """
    nothing = ModelError("nothing to convert: its weights are stored as integers already")
    if file.format == "onnx":
        if any(name.rpartition(".")[2].startswith(_QUANTIZED) for name in file.operators):
            raise nothing
        return Onnx(file.identity, folder)
    content = file.identity.content()
    types = _weight_types(content)
    if "UINT8" in types:
        return Uint8(content)
    if types - {"FLOAT32"}:
        raise nothing
    return TFLite(content)


def _weight_types(content: bytes) -> set[str]:
    """The types of the weights of a .tflite file, as the schema names them."""
    file = TFLiteFile(content)
    return {
        file.type_of(graph.tensors[operator.inputs[1]])
        for graph in file.model.subgraphs
        for operator in graph.operators
        if file.kind(operator) in WEIGHTED
    }
