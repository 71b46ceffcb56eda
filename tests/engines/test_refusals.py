"""What a runtime refuses, and why: the facts and what to do, without its C++."""

from pathlib import Path

import numpy as np
import pytest

from edge_agent.engines import load_engine
from edge_agent.engines.refusals import of_onnx_runtime, of_tflite
from edge_agent.errors import ModelError
from edge_agent.modelfile import inspect
from edge_agent.testing.engine_contract import identity
from tests.models.model_bytes import Scalar, builtin, flatbuffer, message, node, onnx, tflite, value_info

ACME = message((8, message((1, "ai.acme"), (2, 1))))
WEIGHT = value_info("weight", 1, 4, 3)


def refusal(content: bytes, path: Path) -> str:
    """Why a model is refused: when it is loaded, or when it is run once."""
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_engine(identity(path), "cpu", 1).run([np.zeros((1, 4), np.float32)])
    said = str(caught.value)
    assert "onnxruntime/" not in said
    assert "\n" not in said
    assert not said.endswith("…")
    return said


def blur(domain: str) -> bytes:
    return node("Blur", ("scores",), ("probabilities",), domain)


ONNX = {
    "IR version": (onnx() + message((1, 99)), ("IR version 99", "up to ", "install a newer onnxruntime")),
    "opset": (
        onnx() + message((8, message((1, ""), (2, 99)))),
        ("opset 99 of ai.onnx", "up to ", "export it with opset"),
    ),
    "opset of another domain": (
        onnx() + message((8, message((1, "ai.onnx.ml"), (2, 99)))),
        ("opset 99 of ai.onnx.ml", "up to "),
    ),
    "foreign operator": (onnx(blur("ai.acme")) + ACME, ("the operator Blur of ai.acme", "export it without")),
    "newer operator": (onnx(blur("com.microsoft")), ("the operator Blur of com.microsoft", "newer onnxruntime")),
    "operator of no opset": (onnx(blur("")), ("opset 13 has no operator Blur",)),
    "batch": (
        onnx(inputs=(value_info("image", 1, 8, 4), WEIGHT)),
        ("batches of 8 only", "1 was given", "export it with a batch size of 1"),
    ),
}


@pytest.mark.parametrize("kind", ONNX)
def test_onnx_runtime_s_refusal_says_what_was_found_and_what_to_do(kind: str, tmp_path: Path) -> None:
    content, facts = ONNX[kind]
    said = refusal(content, tmp_path / "model.onnx")
    for fact in facts:
        assert fact in said


def test_an_input_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx())
    engine = load_engine(identity(path), "cpu", 1)
    with pytest.raises(ModelError, match="its input image has 2 axes, and 3 were given"):
        engine.run([np.zeros((1, 2, 4), np.float32)])
    with pytest.raises(ModelError, match="its input image is of another size: axis 1 has 5 in place of 4"):
        engine.run([np.zeros((1, 5), np.float32)])


def test_an_element_type_that_can_not_be_computed_is_said(tmp_path: Path) -> None:
    cast = message((1, "scores"), (2, "b"), (4, "Cast"), (5, message((1, "to"), (20, 2), (3, 16))))
    back = message((1, "c"), (2, "probabilities"), (4, "Cast"), (5, message((1, "to"), (20, 2), (3, 1))))
    said = refusal(onnx(cast, node("Relu", ("b",), ("c",)), back), tmp_path / "model.onnx")
    assert "can't compute Relu (opset 13)" in said
    assert "export it as float32" in said


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    entry = message((1, "location"), (2, "model.onnx_data"))
    weight = message((1, 4), (1, 3), (2, 1), (8, "weight"), (13, entry), (14, 1))
    path.write_bytes(onnx() + message((7, message((5, weight)))))
    with pytest.raises(ModelError, match=r"model\.onnx_data, which is not there: copy it into the folder"):
        inspect.read(path)


def custom(name: str) -> dict[int, object]:
    return {0: Scalar("Int8", 32), 1: name, 2: Scalar("Int32", 1), 3: Scalar("Int32", 32)}


TFLITE = {
    "custom operator": (tflite(codes=[custom("MyOp"), builtin(25), builtin(6)]), "the custom operator MyOp"),
    "operator of TensorFlow": (
        tflite(codes=[custom("FlexErf"), builtin(25), builtin(6)]),
        "of TensorFlow itself (Erf)",
    ),
    "newer operator": (
        tflite(codes=[{0: Scalar("Int8", 3), 2: Scalar("Int32", 99), 3: Scalar("Int32", 3)}, builtin(25), builtin(6)]),
        "version 99 of the operator CONV_2D",
    ),
    "unknown operator": (
        tflite(
            codes=[{0: Scalar("Int8", 127), 2: Scalar("Int32", 1), 3: Scalar("Int32", 250)}, builtin(25), builtin(6)]
        ),
        "does not know (number 250)",
    ),
    "newer format": (flatbuffer({0: Scalar("Uint32", 9)}, b"TFL3"), "version 9 of the file format"),
}


@pytest.mark.parametrize("kind", TFLITE)
def test_litert_s_refusal_says_what_was_found_and_what_to_do(kind: str, tmp_path: Path) -> None:
    content, fact = TFLITE[kind]
    said = refusal(content, tmp_path / "model.tflite")
    assert fact in said
    assert "convert" in said


def test_places_in_cpp_are_left_out_and_the_rest_stays() -> None:
    message = (
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Reshape node. "
        "Name:'r' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:47 "
        "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, "
        "bool) input_shape_size == size was false. The input tensor cannot be reshaped"
    )
    assert of_onnx_runtime(message) == (
        "Non-zero status code returned while running Reshape node. Name:'r' Status Message: "
        "input_shape_size == size was false. The input tensor cannot be reshaped"
    )


@pytest.mark.parametrize("text", ["", "something else", "Opset ", "index: ", "(" * 1000])
def test_a_message_that_is_not_known_stays(text: str) -> None:
    assert of_onnx_runtime(text) == text
    assert of_tflite(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/a.cc:1", ""),
        ("/a.cc:1 f( and no end", "f( and no end"),
        (
            "tflite/kernels/conv.cc:346 size == 2 was not true. Node number 0 (CONV_2D)",
            "size == 2 was not true. Node number 0 (CONV_2D)",
        ),
    ],
)
def test_a_place_without_a_whole_signature_is_left_out_alone(text: str, left: str) -> None:
    assert of_onnx_runtime(text) == left
