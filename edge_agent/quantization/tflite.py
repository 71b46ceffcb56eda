"""TFLite models, converted by Google's ai-edge-quantizer."""

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from edge_agent.errors import MissingExtraError
from edge_agent.quantization.graph import Operator
from edge_agent.quantization.quiet import quiet, reported
from edge_agent.quantization.tflite_file import TFLiteFile, with_appended_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Inputs that are held in memory at the same time.
TOGETHER = 8
THREADS = 2
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


class TFLite:
    """See `Converter`: int8 weights with a scale for each channel, and int8 activations.

    Args:
        content: of a .tflite file with float32 weights.

    Raises:
        MissingExtraError: the tool is not installed.
        ModelError: the file has not exactly one graph.
    """

    def __init__(self, content: bytes) -> None:
        try:
            with quiet():
                import ai_edge_quantizer.quantizer
        except ImportError as error:
            raise MissingExtraError("quantizing .tflite models", "quantize", error) from None
        file = TFLiteFile(content)
        model, self._graph = file.model, file.graph
        if not model.signatureDefs:  # the tool finds inputs by their names there
            model.signatureDefs = [_signature(file.schema, self._graph)]
        for code in model.operatorCodes:  # old files have theirs in a field that the tool does not read
            code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
        self._original, self._signed = content, file.packed()
        signature = model.signatureDefs[0]
        self._key, self._input = signature.signatureKey.decode(), signature.inputs[0].name.decode()
        self._tool = ai_edge_quantizer.quantizer
        self._ranges: Any = None
        self.operators: Sequence[Operator] = [
            Operator(
                # As the tool names it.
                "".join(f"{name};" for name in self._names(operator.outputs)),
                self._names(operator.inputs),
                self._names(operator.outputs),
                file.kind(operator) in WEIGHTED,
            )
            for operator in self._graph.operators
        ]
        self.inputs, self.outputs = self._names(self._graph.inputs), self._names(self._graph.outputs)

    def _names(self, indices: "NDArray[Any] | Sequence[int]") -> tuple[str, ...]:
        return tuple(self._graph.tensors[index].name.decode() for index in indices if index >= 0)

    def calibrate(self, tensors: "Iterable[NDArray[Any]]") -> None:
        """See `Converter`. Ranges are moving averages of the least and the greatest values."""
        rest = iter(tensors)
        while part := list(islice(rest, TOGETHER)):
            with reported("calibrated"):
                self._ranges = self._quantizer(()).calibrate(
                    {self._key: [{self._input: tensor} for tensor in part]},
                    previous_calibration_result=self._ranges,
                    num_threads=THREADS,
                )

    def convert(self, in_float: Collection[str]) -> bytes:
        """See `Converter`."""
        with reported("quantized"):
            result = self._quantizer(in_float).quantize(self._ranges, enable_progress_report=False)
            return with_appended_files(bytes(result.quantized_model), self._original)

    def _quantizer(self, in_float: Collection[str]) -> Any:
        quantizer = self._tool.Quantizer(self._signed)
        quantizer.add_static_config(".*", "*", activation_num_bits=8, weight_num_bits=8)
        for kind in ("INPUT", "OUTPUT"):
            quantizer.update_quantization_recipe(".*", kind, algorithm_key="no_quantize")
        for name in in_float:
            quantizer.update_quantization_recipe(f"^{re.escape(name)}$", "*", algorithm_key="no_quantize")
        return quantizer


def _signature(schema: Any, graph: Any) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    for kind in ("inputs", "outputs"):
        entries = []
        for number, index in enumerate(getattr(graph, kind)):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = f"{kind[:-1]}{number}".encode(), int(index)
            entries.append(entry)
        setattr(signature, kind, entries)
    return signature
