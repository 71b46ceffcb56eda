from typing import Any

import pytest

from edge_agent.errors import ModelError
from edge_agent.modelfile import protobuf
from edge_agent.modelfile.facts import Tensor
from tests.models.model_bytes import message, node, onnx, value_info


def test_a_plain_file_gives_its_tensors_and_operators(reading: Any) -> None:
    model = reading(onnx())

    assert model.format == "onnx"
    assert model.version == "opset 13, ir 7"
    assert model.description == "shapes (made with a test 1.0)"
    assert model.inputs == (Tensor("image", (-1, 4), "float32"),)
    assert model.outputs == (Tensor("probabilities", (-1, 3), "float32"),)
    assert model.operators == {"Gemm": 1, "Softmax": 1}
    assert model.output_operators == ("Softmax",)
    assert (model.custom_operators, model.labels, model.metadata) == ((), None, {})


def test_the_operator_behind_an_output_is_seen_through_reshape_and_dequantize(reading: Any) -> None:
    chain = (
        node("Sigmoid", ("scores",), ("a",)),
        node("QuantizeLinear", ("a", "scale"), ("b",)),
        node("DequantizeLinear", ("b", "scale"), ("c",)),
        node("Reshape", ("c", "shape"), ("probabilities",)),
    )

    assert reading(onnx(*chain)).output_operators == ("Sigmoid",)


def test_operators_that_run_in_a_circle_end_in_no_operator(reading: Any) -> None:
    circle = (node("Identity", ("probabilities",), ("a",)), node("Identity", ("a",), ("probabilities",)))

    assert reading(onnx(*circle)).output_operators == ("",)


def test_operators_of_foreign_domains_are_custom(reading: Any) -> None:
    nodes = (
        node("QLinearSoftmax", ("scores",), ("a",), "com.microsoft"),
        node("Scaler", ("a",), ("b",), "ai.onnx.ml"),
        node("Abs", ("b",), ("c",), "ai.onnx"),
        node("Tokenize", ("c",), ("probabilities",), "ai.onnx.contrib"),
    )
    model = reading(onnx(*nodes))

    assert model.custom_operators == ("ai.onnx.contrib.Tokenize",)
    assert model.operators == {
        "Gemm": 1,
        "QLinearSoftmax": 1,
        "Scaler": 1,
        "Abs": 1,
        "ai.onnx.contrib.Tokenize": 1,
    }


def test_operators_that_the_file_defines_are_not_custom(reading: Any) -> None:
    function = message((1, "Gelu2"), (4, "x"), (5, "y"), (10, "torch.ops"))
    model = reading(onnx(node("Gelu2", ("scores",), ("probabilities",), "torch.ops"), functions=(function,)))

    assert model.custom_operators == ()


@pytest.mark.parametrize(
    "names", ["{0: 'circle', 1: 'square', 2: 'star'}", '["circle", "square", "star"]'], ids=["dict", "list"]
)
def test_an_ultralytics_export_states_task_and_labels(names: str, reading: Any) -> None:
    facts = {"task": "classify", "description": "Shapes, told", "names": names}
    model = reading(onnx(metadata=facts))

    assert model.metadata == facts
    assert model.description == "Shapes, told"
    assert model.labels == ("circle", "square", "star")
    assert model.labels_from == "`names` in the file's metadata"


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (value_info("x", 3, 1, 3), Tensor("x", (1, 3), "int8")),
        (value_info("x", 8), Tensor("x", (), "str")),
        (value_info("x", 16, -7), Tensor("x", (-1,), "bfloat16")),
        (value_info("x", 77), Tensor("x", (), "type77")),
        (message((1, "x"), (2, message((4, b"")))), Tensor("x", (), "sequence")),
        (message((1, "x"), (2, message((1, message((1, 1), (2, message((1, b""))))))))
            , Tensor("x", (-1,), "float32")),
    ],
    ids=["int8", "text", "negative size", "unknown type", "sequence", "nameless size"],
)  # fmt: skip
def test_a_tensor(info: bytes, expected: Tensor, reading: Any) -> None:
    assert reading(onnx(outputs=(info,))).outputs == (expected,)


def test_protocol_buffers_without_a_graph_are_named(reading: Any) -> None:
    saved_model = message((1, 1), (2, message((1, "tags"))))

    with pytest.raises(ModelError, match=r"model.bin: expected a TFLite or ONNX model, found protocol buffers"):
        reading(saved_model)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (onnx()[:-1], "a message ends within its field 8"),
        (onnx()[:100], "a message ends within its field 7"),
        (b"\x08\x07" + b"\xff" * 20, "a number does not end"),
        (b"\x08\x07\x0b", "wire type 3"),
        (b"\x08\x07\x00\x00", "field 0"),
        (onnx(outputs=(value_info("x", 1, *[1] * 65),)), "65 dimensions"),
    ],
)
def test_a_damaged_file_is_refused_with_one_sentence(content: bytes, reason: str, reading: Any) -> None:
    with pytest.raises(ModelError, match=f"model.bin: the model file is damaged: .*{reason}") as error:
        reading(content)
    assert "\n" not in str(error.value)


def test_more_fields_than_a_model_has_are_refused(reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 1000)

    with pytest.raises(ModelError, match="more than 1000 fields"):
        reading(onnx(*[node("Abs", ("a",), ("a",))] * 500))


def test_more_text_than_a_model_has_is_refused(reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "MAX_TEXT_BYTES", 2**20)

    with pytest.raises(ModelError, match="more than 1 MiB of names and texts"):
        reading(onnx(node("Abs", ("a" * 2**21,), ("a",))))


def test_weights_are_not_read_field_by_field(reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 1000)
    loose_floats = message((8, "weight")) + b"\x25\0\0\0\0" * 5000
    graph = message((1, node("Abs", ("x",), ("y",))), (5, loose_floats), (12, value_info("y", 1, 2)))

    assert reading(message((1, 7), (7, graph))).operators == {"Abs": 1}
