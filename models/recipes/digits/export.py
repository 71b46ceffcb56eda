"""Quantises the trained network to int8: first as TFLite, then the same integers as ONNX."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tensorflow import keras
from tensorflow.lite.python import schema_py_generated as schema

from .camera import INPUT_HEIGHT, INPUT_WIDTH
from .dataset import LABELS, Sources, make_dataset

CALIBRATION_SEED = 7
CALIBRATION_SAMPLES = 1000
OPSET = 13
IR_VERSION = 8
"""OPSET and IR_VERSION are old enough for ONNX Runtime 1.17 and far older."""
_OFFSET = 128
"""uint8 value of an int8 zero"""


def to_tflite(network: keras.Model, calibration: NDArray[np.uint8]) -> bytes:
    """Full int8: weights per channel, activations per tensor, int8 in and out.

    The activations' ranges are taken from `calibration`, grey pixels (n, 32, 24).
    """

    def representative() -> Iterator[list[NDArray[np.float32]]]:
        for image in calibration:
            yield [image[None, ..., None].astype(np.float32) / 255]

    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    model: bytes = converter.convert()
    return model


def to_onnx(tflite: bytes) -> onnx.ModelProto:
    """The same integers as a graph of QuantizeLinear, DequantizeLinear and Conv (QDQ).

    Stored as uint8, 128 higher and with zero points 128 higher: on x86 processors without VNNI,
    ONNX Runtime's int8 kernels add products in 16 bits and overflow; its uint8 kernels do not.

    Input `image`: float (batch, 1, 32, 24), grey, 0 to 1.
    Output `probabilities`: float (batch, 11).
    """
    return _OnnxWriter(schema.ModelT.InitFromPackedBuf(tflite, 0)).write()


class _OnnxWriter:
    def __init__(self, model: schema.ModelT) -> None:
        self.graph = model.subgraphs[0]
        self.buffers = model.buffers
        self.operators = {index: code.builtinCode for index, code in enumerate(model.operatorCodes)}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def write(self) -> onnx.ModelProto:
        here = self._quantise_activation("image", self.graph.inputs[0])
        for operator in self.graph.operators:
            match self.operators[operator.opcodeIndex]:
                case schema.BuiltinOperator.CONV_2D:
                    here = self._convolution(here, operator)
                case schema.BuiltinOperator.RESHAPE:
                    here = self._node("Flatten", [here], axis=1)
                case schema.BuiltinOperator.SOFTMAX:
                    self.nodes.append(helper.make_node("Softmax", [here], ["probabilities"], axis=1))
                case other:
                    raise ValueError(f"no ONNX for TFLite operator {other}")
        graph = helper.make_graph(
            self.nodes,
            "digits",
            [_float_value("image", ["batch", 1, INPUT_HEIGHT, INPUT_WIDTH])],
            [_float_value("probabilities", ["batch", len(LABELS)])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _convolution(self, here: str, operator: schema.OperatorT) -> str:
        """Conv between dequantised tensors; the runtime fuses it into integer arithmetic.

        ReLU needs no node: the output's range begins at zero, so quantising cuts the rest off.
        """
        source, weights, bias = operator.inputs
        options = operator.builtinOptions
        kernel = self.graph.tensors[weights].shape[1:3]
        size = self.graph.tensors[source].shape[1:3]
        strides = [options.strideH, options.strideW]
        pads = [0, 0, 0, 0]
        if options.padding == schema.Padding.SAME:
            pads = _same_padding(size, kernel, strides)
        inputs = [
            here,
            self._dequantised_constant(weights, (0, 3, 1, 2)),  # OHWI to OIHW
            self._dequantised_constant(bias, (0,)),
        ]
        output = self._node("Conv", inputs, kernel_shape=list(kernel), strides=strides, pads=pads)
        return self._quantise_activation(output, operator.outputs[0])

    def _quantise_activation(self, name: str, index: int) -> str:
        """Quantises and dequantises, with the TFLite tensor's scale and zero point."""
        quantisation = self.graph.tensors[index].quantization
        scale = self._constant(np.float32(quantisation.scale[0]))
        zero_point = self._constant(np.uint8(quantisation.zeroPoint[0] + _OFFSET))
        quantised = self._node("QuantizeLinear", [name, scale, zero_point])
        return self._node("DequantizeLinear", [quantised, scale, zero_point])

    def _dequantised_constant(self, index: int, axes: tuple[int, ...]) -> str:
        """Weights (int8) or bias (int32), one scale for each output channel."""
        tensor = self.graph.tensors[index]
        data = np.asarray(self.buffers[tensor.buffer].data, np.uint8)
        values: NDArray[Any]
        if tensor.type == schema.TensorType.INT8:
            values, zero_point = (data.view(np.int8) + np.int16(_OFFSET)).astype(np.uint8), _OFFSET
        else:
            values, zero_point = data.view(np.int32), 0
        values = values.reshape(tensor.shape).transpose(axes)
        scales = np.asarray(tensor.quantization.scale, np.float32)
        inputs = [values, scales, np.full(len(scales), zero_point, values.dtype)]
        names = [self._constant(array) for array in inputs]
        return self._node("DequantizeLinear", names, axis=0)

    def _constant(self, values: NDArray[Any] | np.generic) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name


def _same_padding(size: list[int], kernel: list[int], strides: list[int]) -> list[int]:
    """TFLite's SAME as ONNX pads (top, left, bottom, right); the odd pixel goes to the end."""
    totals = [
        max(0, (-(-length // stride) - 1) * stride + taps - length)
        for length, taps, stride in zip(size, kernel, strides, strict=True)
    ]
    before = [total // 2 for total in totals]
    return before + [total - half for total, half in zip(totals, before, strict=True)]


def _float_value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def main() -> None:
    """Calibrates with training data and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fonts", type=Path, required=True, help="folder with the font files")
    parser.add_argument("--network", type=Path, required=True, help="the .keras file to read")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two model files")
    arguments = parser.parse_args()

    sources = Sources.training(arguments.fonts)
    calibration = make_dataset(CALIBRATION_SEED, CALIBRATION_SAMPLES, sources, None, None).images
    # The input's range is all of 0 to 1, which makes a quantised pixel its value minus 128.
    calibration[0, 0, :2] = 0, 255
    tflite = to_tflite(keras.models.load_model(arguments.network), calibration)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "digits.tflite").write_bytes(tflite)
    onnx.save(to_onnx(tflite), arguments.out / "digits.onnx")


if __name__ == "__main__":
    main()
