"""Rewrites a uint8 TFLite model as int8, with a scale for each channel of its weights: there are faster kernels for it.

The rules are those of the TFLite quantization specification
(https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec): weights are symmetric around
zero, a bias has the scale of its input times that of its channel, and the activations are shifted by 128. Inputs and
outputs of the model stay uint8. An operator that is not in the table below is left unchanged, between two that
convert.
"""

import copy
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.errors import ModelError
from edge_agent.quantization.tflite_file import TFLiteFile, with_appended_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Operators with int8 kernels by the rules of the specification -> the first version of the operator that has them.
OPERATORS = {
    "ADD": 2,
    "AVERAGE_POOL_2D": 2,
    "CONCATENATION": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "LOGISTIC": 2,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "MUL": 2,
    "PAD": 2,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 2,
    "SOFTMAX": 2,
    "SUB": 2,
}
# Those whose int8 kernels need one scale and one zero point for all inputs and outputs.
ONE_SCALE = {"AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D", "PAD", "RESHAPE", "RESIZE_BILINEAR"}
# Those with weights -> the axis of the weights' channels.
CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3}
INT8_MAX = 127
_WEIGHTS, _BIAS = 1, 2


def to_int8(model: bytes) -> bytes:
    """A model file that computes the same in int8.

    Args:
        model: a .tflite file, with the files that are appended to it.

    Raises:
        ModelError: nothing in it can be converted.
        MissingExtraError: the runtime, which has the schema of the format, is not installed.
    """
    file = TFLiteFile(model)
    _Rewriting(file).run()
    return with_appended_files(file.packed(), model)


class _Rewriting:
    """Converts one graph from uint8 to int8.

    Args:
        file: is changed.

    Raises:
        ModelError: the file has not exactly one graph.
    """

    def __init__(self, file: TFLiteFile) -> None:
        self._schema, self._model, self._graph = file.schema, file.model, file.graph
        self._name = file.kind
        self._uses = Counter(int(index) for operator in self._graph.operators for index in operator.inputs)
        # Tensors that have become int8 -> their uint8 originals.
        self._old: dict[int, Any] = {}
        # The same -> the index of a uint8 copy, where one is needed.
        self._beside: dict[int, int] = {}
        self._quantize_code: int | None = None

    def run(self) -> None:
        """Converts the operators that can be converted.

        Raises:
            ModelError: there are none.
        """
        graph = self._graph
        chosen = [operator for operator in graph.operators if self._can_be_converted(operator)]
        if not any(self._name(operator) in CHANNELS for operator in chosen):
            raise ModelError("can't be converted: it has no convolution with uint8 weights")
        for operator in chosen:
            self._convert(operator)
        rest = [operator for operator in graph.operators if operator not in chosen]
        wanted = {int(index) for user in (*(operator.inputs for operator in rest), graph.outputs) for index in user}
        steps = [
            self._quantize(self._in_uint8(index), index) for index in map(int, graph.inputs) if self._is_new(index)
        ]
        for operator in graph.operators:
            outputs = [int(index) for index in operator.outputs if self._is_new(index)]
            steps.append(operator)
            if operator in rest:
                operator.inputs = self._all_in_uint8(operator.inputs)
                operator.outputs = self._all_in_uint8(operator.outputs)
                steps += [self._quantize(self._in_uint8(index), index) for index in outputs]
            else:
                steps += [self._quantize(index, self._in_uint8(index)) for index in outputs if index in wanted]
        graph.inputs, graph.outputs = self._all_in_uint8(graph.inputs), self._all_in_uint8(graph.outputs)
        graph.operators = steps
        used = {tensor.buffer for tensor in graph.tensors} | {entry.buffer for entry in self._model.metadata or ()}
        for number, buffer in enumerate(self._model.buffers):
            if number not in used:
                buffer.data = None

    def _can_be_converted(self, operator: Any) -> bool:
        name = self._name(operator)
        tensors = [self._graph.tensors[index] for index in (*operator.inputs, *operator.outputs) if index >= 0]
        stored = [tensor.quantization for tensor in tensors if self._is_uint8(tensor)]
        if name not in OPERATORS or not stored:
            return False
        if name not in CHANNELS:
            scales = {(float(one.scale[0]), int(one.zeroPoint[0])) for one in stored}
            return name not in ONE_SCALE or len(scales) == 1
        parameters = [int(index) for index in operator.inputs[_WEIGHTS:] if index >= 0]
        return all(self._uses[index] == 1 and self._values(index) is not None for index in parameters)

    def _is_uint8(self, tensor: Any) -> bool:
        quantization = tensor.quantization
        return (
            tensor.type == self._schema.TensorType.UINT8 and quantization is not None and quantization.scale is not None
        )

    def _values(self, index: int) -> "NDArray[np.uint8] | None":
        data = self._model.buffers[self._graph.tensors[index].buffer].data
        return None if data is None or not len(data) else np.asarray(data, np.uint8)

    def _convert(self, operator: Any) -> None:
        name = self._name(operator)
        if name in CHANNELS:
            self._requantize(operator, CHANNELS[name])
        code = self._model.operatorCodes[operator.opcodeIndex]
        code.version = max(code.version, OPERATORS[name])
        for index in map(int, (*operator.inputs, *operator.outputs)):
            if index >= 0 and self._is_uint8(self._graph.tensors[index]):
                self._shift(index)

    def _shift(self, index: int) -> None:
        """Makes an activation int8: the same values, with a zero point that is 128 lower."""
        if self._is_new(index):
            return
        tensor = self._graph.tensors[index]
        self._old[index] = copy.deepcopy(tensor)
        tensor.type = self._schema.TensorType.INT8
        tensor.quantization.zeroPoint = np.asarray(tensor.quantization.zeroPoint) - 128
        if (values := self._values(index)) is not None:
            tensor.buffer = self._buffer(values ^ np.uint8(128))

    def _requantize(self, operator: Any, axis: int) -> None:
        """Quantises the weights and the bias of a convolution again, one scale a channel.

        Weights of a channel that are all within 127 steps of zero keep their scale, without any loss. Others are scaled
        to that range: a step of the new scale is then at most about two of the old.
        """
        weights = self._graph.tensors[operator.inputs[_WEIGHTS]]
        scale, zero_point = float(weights.quantization.scale[0]), int(weights.quantization.zeroPoint[0])
        stored = self._values(operator.inputs[_WEIGHTS])
        assert stored is not None, "only operators with constant weights are chosen"  # noqa: S101 - for the type checker
        steps = stored.reshape(weights.shape).astype(np.int32) - zero_point
        others = tuple(other for other in range(steps.ndim) if other != axis)
        widen = np.maximum(1.0, np.abs(steps).max(axis=others) / INT8_MAX)
        shape = [-1 if other == axis else 1 for other in range(steps.ndim)]
        weights.type = self._schema.TensorType.INT8
        weights.buffer = self._buffer(np.rint(steps / widen.reshape(shape)).astype(np.int8))
        weights.quantization.scale = (scale * widen).astype(np.float32)
        weights.quantization.zeroPoint = np.zeros(widen.size, np.int64)
        weights.quantization.quantizedDimension = axis
        if len(operator.inputs) <= _BIAS or operator.inputs[_BIAS] < 0:
            return
        bias = self._graph.tensors[operator.inputs[_BIAS]]
        input_scale = float(self._graph.tensors[operator.inputs[0]].quantization.scale[0])
        values = np.frombuffer(np.asarray(self._model.buffers[bias.buffer].data, np.uint8).tobytes(), np.int32)
        bias.buffer = self._buffer(np.rint(values / widen).astype(np.int32))
        bias.quantization.scale = (input_scale * scale * widen).astype(np.float32)
        bias.quantization.zeroPoint = np.zeros(widen.size, np.int64)
        bias.quantization.quantizedDimension = 0

    def _is_new(self, index: int) -> bool:
        return int(index) in self._old

    def _all_in_uint8(self, indices: "NDArray[np.int32]") -> "NDArray[np.int32]":
        return np.array([self._in_uint8(int(index)) for index in indices], np.int32)

    def _in_uint8(self, index: int) -> int:
        """The index of a tensor in uint8: itself, or a copy."""
        if not self._is_new(index):
            return index
        if index not in self._beside:
            self._beside[index] = len(self._graph.tensors)
            self._graph.tensors.append(self._old[index])
            self._graph.tensors[index].name += b"_int8"
        return self._beside[index]

    def _quantize(self, given: int, wanted: int) -> Any:
        """A QUANTIZE operator from one tensor to another."""
        operator, code = self._schema.OperatorT(), self._schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = self._schema.BuiltinOperator.QUANTIZE
        code.version = 1
        if self._quantize_code is None:
            self._quantize_code = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        operator.opcodeIndex = self._quantize_code
        operator.inputs, operator.outputs = np.array([given], np.int32), np.array([wanted], np.int32)
        operator.builtinOptionsType = self._schema.BuiltinOptions.QuantizeOptions
        operator.builtinOptions = self._schema.QuantizeOptionsT()
        return operator

    def _buffer(self, data: "NDArray[Any]") -> int:
        """A new one, since the old one may have other users."""
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(data.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1
