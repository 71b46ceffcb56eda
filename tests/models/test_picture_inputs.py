"""Models of pictures with inputs of other types, and with further inputs that are constants."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent import settings
from edge_agent.errors import ModelError
from edge_agent.models.model import load_unqualified
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.preprocess.files import read_file
from edge_agent.preprocess.opencv import cv2
from edge_agent.samples import Prediction

TYPES = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "uint8": TensorProto.UINT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
}


def saved(path: Path, dtype: str, *, trains: bool = False) -> Path:
    """The mean of each colour; all zero while it trains."""
    real = TensorProto.FLOAT16 if dtype == "float16" else TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=real),
        helper.make_node("GlobalAveragePool", ["real"], ["means"]),
        helper.make_node("Flatten", ["means"], ["scores"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TYPES[dtype], ["n", 3, 8, 8])]
    if trains:
        nodes[2:] = [
            helper.make_node("Cast", ["train"], ["factor"], to=real),
            helper.make_node("Sub", ["one", "factor"], ["kept"]),
            helper.make_node("Mul", ["means", "kept"], ["kept_means"]),
            helper.make_node("Flatten", ["kept_means"], ["scores"]),
        ]
        inputs.append(helper.make_tensor_value_info("train", TensorProto.BOOL, []))
    one = helper.make_tensor("one", real, [], [1.0])
    outputs = [helper.make_tensor_value_info("scores", real, ["n", 3])]
    graph = helper.make_graph(nodes, "means", inputs, outputs, [one])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def means(path: Path, **stated: Any) -> list[Prediction]:
    """What it says of a picture of one colour: red 200, green 100, blue 50."""
    cv2.imwrite(str(path.parent / "plain.png"), np.full((8, 8, 3), (50, 100, 200), np.uint8))
    options = settings.Model.model_validate({"path": path, "decoder": "regression"} | stated)
    model = load_unqualified("it", resolve_model(options, path.parent))
    return Predictor(model, None, None).ask(read_file(path.parent / "plain.png")).predictions


@pytest.mark.parametrize("dtype", TYPES)
def test_pixels_become_numbers_of_the_type_that_the_input_has(tmp_path: Path, dtype: str) -> None:
    found = means(saved(tmp_path / "means.onnx", dtype), preprocess={"normalize": "raw"})
    assert [one.value for one in found] == [200, 100, 50]


def test_a_constant_may_be_true_or_false(tmp_path: Path) -> None:
    path = saved(tmp_path / "means.onnx", "float32", trains=True)
    for train, values in (("false", [200, 100, 50]), ("true", [0, 0, 0])):
        constants = {"kind": "image", "constants": {"train": train}}
        found = means(path, preprocess={"normalize": "raw"}, input=constants)
        assert [one.value for one in found] == values


def test_a_further_input_is_answered_with_how_to_state_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "means.onnx", "float32", trains=True)
    with pytest.raises(ModelError, match=r"state input: \{kind: image, constants: \{train: VALUE\}\}"):
        means(path)
    with pytest.raises(ModelError, match="train has the shape"):
        means(path, preprocess={"normalize": "raw"}, input={"kind": "image", "constants": {"train": [1, 2]}})


def test_constants_go_in_for_each_region(tmp_path: Path) -> None:
    path = saved(tmp_path / "means.onnx", "float32", trains=True)
    stated = {"kind": "image", "constants": {"train": "false"}}
    options = settings.Model.model_validate(
        {"path": path, "decoder": "regression", "preprocess": {"normalize": "raw"}, "input": stated}
    )
    model = load_unqualified("it", resolve_model(options, tmp_path), 2)
    (out,) = model.infer(np.stack([np.zeros((3, 8, 8)), np.ones((3, 8, 8))]).astype(np.float32))
    assert out.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_images_take_no_keys_of_readings() -> None:
    with pytest.raises(ValueError, match="kind: image takes constants only"):
        settings.Model.model_validate({"path": "x", "input": {"kind": "image", "rate": 26}})
