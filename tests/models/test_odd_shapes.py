"""Models whose tensors lack an axis, or have more of them than one picture or one row of readings needs."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent import settings
from edge_agent.decoders.families import OF_PICTURES
from edge_agent.decoders.nearest import unknown_outputs
from edge_agent.engines import TensorSpec
from edge_agent.errors import InputError, ModelError
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.models.io_spec import Stated, UnclearError, derive
from edge_agent.models.model import load_unqualified
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.preprocess.files import read_file
from edge_agent.preprocess.opencv import cv2
from edge_agent.settings.series import Input
from tests.decoders.scenes import ALL, as_it_is, decoder, facts, floats

SIDE = 64


def test_a_digit_of_28_x_28_without_an_axis_of_channels_is_an_image_once_that_is_stated(
    data_dir: Path, tmp_path: Path
) -> None:
    path = data_dir / "met_in_the_wild" / "mnist_alan.tflite"
    source = resolve_model(settings.Model(path=path), path.parent)
    with pytest.raises(UnclearError) as caught:
        derive(source.file, source.stated)
    assert "state input: {kind: image}, or {kind: series}" in caught.value.missing["input"]
    images = gzip.decompress((data_dir / "datasets" / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    digits = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)[:5]
    options = settings.Model(path=path, input=Input(kind="image"), labels=Path("none"))
    model = load_unqualified("digits", resolve_model(options, path.parent), 2)
    said = []
    for number, digit in enumerate(digits):
        cv2.imwrite(str(tmp_path / f"{number}.png"), digit)
        said.append(Predictor(model, 1, None).ask(read_file(tmp_path / f"{number}.png")).predictions[0].class_id)
    assert said == [7, 2, 1, 0, 4]
    assert model.infer(digits[:2])[0].shape == (2, 10)


def test_an_image_without_an_axis_of_the_batch_is_refused_in_one_sentence() -> None:
    planes = replace(facts((1, 3)), inputs=(Tensor("image", (3, SIDE, SIDE), "float32"),))
    with pytest.raises(ModelError, match="expected one input of four axes"):
        derive(planes, Stated(input=Input(kind="image"), without_labels=True))


def test_many_readings_of_other_numbers_of_channels_are_no_image() -> None:
    readings = replace(facts((1, 3), operators=["SOFTMAX"]), inputs=(Tensor("x", (1, 128, 3), "float32"),))
    assert derive(readings, Stated(without_labels=True)).family == "classification"


@pytest.mark.parametrize("family", ["regression", "embedding"])
def test_a_vector_without_an_axis_of_the_batch_is_that_of_the_one_input(family: str) -> None:
    file = facts((4,))
    found = decoder(file, family)([floats([1, 2, 3, 4])], [as_it_is()], ALL)
    if family == "regression":
        assert [one.value for one in found] == [1, 2, 3, 4]
    else:
        assert [one.vector for one in found] == [(1, 2, 3, 4)]
    with pytest.raises(ModelError, match="can't be used with several regions"):
        decoder(file, family)([floats([1, 2, 3, 4])], [as_it_is(), as_it_is()], ALL)


MASK = facts((1, 1, SIDE, SIDE), operators=["Sigmoid"])


def test_a_mask_of_one_class_is_where_it_is_probable() -> None:
    probable = np.full((1, 1, SIDE, SIDE), 0.3, np.float32)
    probable[0, 0, 10:20, 30:50] = 0.8
    found = decoder(MASK, "segmentation", ["water"])([probable], [as_it_is()], ALL)
    assert [(one.label, one.area) for one in found] == [("background", SIDE * SIDE - 200), ("water", 200)]
    with pytest.raises(InputError, match="no map of probabilities"):
        decoder(MASK, "segmentation", ["water"])([probable * 9], [as_it_is()], ALL)


def test_fractions_are_no_numbers_of_classes() -> None:
    depth = facts((1, 1, SIDE, SIDE), operators=["Relu"])
    with pytest.raises(InputError, match="decoder: raw gives the map itself"):
        decoder(depth, "segmentation")([np.full((1, 1, SIDE, SIDE), 0.7, np.float32)], [as_it_is()], ALL)


@pytest.mark.parametrize(
    "file",
    [MASK, facts((1, SIDE, SIDE), operators=["Relu"]), facts((1, SIDE, SIDE, 3), operators=["TANH"])],
)
def test_depth_masks_and_images_are_told_from_families_that_do_not_fit(file: ModelFile) -> None:
    said = unknown_outputs(file, OF_PICTURES)
    assert "it is a map as large as its input" in said
    assert "decoder: segmentation" in said
    assert "decoder: raw" in said
    assert "nearest" not in said


def summing(path: Path) -> Path:
    """A model with a state: its answer is the sum of all readings so far."""
    shape: list[Any] = [1, 1, 2]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "h"], ["hn"]), helper.make_node("Flatten", ["hn"], ["y"])],
        "sums",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "h")],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("hn", TensorProto.FLOAT, shape),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_what_is_advised_for_a_model_with_a_state_is_what_it_needs(tmp_path: Path) -> None:
    path = summing(tmp_path / "sums.onnx")
    source = resolve_model(settings.Model(path=path), tmp_path)
    with pytest.raises(ModelError, match=r"state input: \{kind: series, state: \{h: hn\}\}"):
        derive(source.file, source.stated)
    stated = {"path": path, "decoder": "regression", "input": {"kind": "series", "state": {"h": "hn"}}}
    options = settings.Model.model_validate(stated)
    sums = Predictor(load_unqualified("sums", resolve_model(options, tmp_path)), None, None)
    (tmp_path / "reading.csv").write_text("1,2")
    said = [[one.value for one in sums.ask(read_file(tmp_path / "reading.csv")).predictions] for _ in range(3)]
    assert said == [[1, 2], [2, 4], [3, 6]]


def test_one_number_made_of_one_number_is_no_reconstruction() -> None:
    sine = replace(facts((1, 1), operators=["FULLY_CONNECTED"]), inputs=(Tensor("x", (-1, 1), "float32"),))
    assert derive(sine, Stated()).family == "regression"
    same = replace(facts((-1, 1), operators=["FULLY_CONNECTED"]), inputs=(Tensor("x", (-1, 1), "float32"),))
    assert derive(same, Stated()).family == "regression"


def test_scores_whose_number_is_open_until_they_are_computed_are_counted_by_the_labels() -> None:
    file = facts((), operators=["SOFTMAX"])
    pictures = settings.Preprocess(normalize="unit")
    with pytest.raises(UnclearError) as caught:
        derive(file, Stated(preprocess=pictures, without_labels=True))
    assert list(caught.value.missing) == ["labels"]
    spec = derive(file, Stated(preprocess=pictures, labels=("yes", "no"), labels_from="words.txt"))
    (best,) = spec.build([TensorSpec("out", (), "float32")])([floats([[0.2, 0.8]])], [as_it_is()], ALL)
    assert (best.label, best.class_id) == ("no", 1)


def test_constants_go_in_beside_readings_without_an_axis_of_the_batch(tmp_path: Path) -> None:
    """As in TensorFlow's speech commands, whose inputs are [16000, 1] and the rate."""
    inputs = [
        helper.make_tensor_value_info("samples", TensorProto.FLOAT, [8, 1]),
        helper.make_tensor_value_info("rate", TensorProto.FLOAT, [1]),
    ]
    nodes = [
        helper.make_node("Mul", ["samples", "rate"], ["scaled"]),
        helper.make_node("ReduceSum", ["scaled"], ["sum"], keepdims=0),
        helper.make_node("Unsqueeze", ["sum", "axes"], ["value"]),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [0, 1])
    output = helper.make_tensor_value_info("value", TensorProto.FLOAT, [1, 1])
    graph = helper.make_graph(nodes, "sum", inputs, [output], [axes])
    path = tmp_path / "sum.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    with pytest.raises(ModelError, match=r"constants: {rate: VALUE}"):
        derive(resolve_model(settings.Model(path=path), tmp_path).file, Stated())
    stated = Input(kind="series", constants={"rate": 100.0})
    source = resolve_model(settings.Model(path=path, input=stated, decoder="regression"), tmp_path)
    (readings := tmp_path / "readings.csv").write_text("\n".join(map(str, range(8))))
    answer = Predictor(load_unqualified("sum", source, 1), 1, None).ask(read_file(readings))
    assert answer.predictions[0].value == 2800
