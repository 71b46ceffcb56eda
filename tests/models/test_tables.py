"""Models of tables: a column has an input of its own, the label and the probabilities come out as a map."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent import settings
from edge_agent.errors import InputError, ModelError
from edge_agent.models.io_spec import derive
from edge_agent.models.model import Model, load
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.preprocess.files import read_file

COLUMNS = {"age": TensorProto.INT64, "bmi": TensorProto.FLOAT, "smoker": TensorProto.INT64}


def saved(path: Path, columns: Mapping[str, int] = COLUMNS, classes: Any = ("sick", "fit")) -> Path:
    """A linear classifier as sklearn-onnx makes it of a DataFrame: sick is what smokes."""
    key = "classlabels_strings" if isinstance(classes[0], str) else "classlabels_int64s"
    kind = TensorProto.STRING if isinstance(classes[0], str) else TensorProto.INT64
    numbers = [name for name, dtype in columns.items() if dtype != TensorProto.STRING]
    nodes = [helper.make_node("Cast", [name], [f"{name}_real"], to=TensorProto.FLOAT) for name in numbers]
    linear: dict[str, Any] = {
        "coefficients": [0.0, 0.1, 9.0, 0.0, -0.1, -9.0],
        "intercepts": [-7.0, 7.0],
        "post_transform": "SOFTMAX",
    }
    labels: dict[str, Any] = {key: list(classes)}
    linear[key.replace("int64s", "ints")] = list(classes)
    nodes += [
        helper.make_node("Concat", [f"{name}_real" for name in numbers], ["row"], axis=1),
        helper.make_node(
            "LinearClassifier",
            ["row"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            multi_class=0,
            **linear,
        ),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", **labels),
    ]
    maps = helper.make_map_type_proto(kind, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info(name, dtype, [None, 1]) for name, dtype in columns.items()],
        [
            helper.make_tensor_value_info("label", kind, [None]),
            helper.make_value_info("probabilities", helper.make_sequence_type_proto(maps)),
        ],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("table")
    return load("table", settings.Model(path=saved(folder / "table.onnx")), folder)


def answer(model: Model, folder: Path, message: str) -> list[tuple[str | None, float]]:
    (folder / "row.json").write_text(message)
    found = Predictor(model, None, None).ask(read_file(folder / "row.json")).predictions
    return [(one.label, round(one.confidence or 0, 3)) for one in found]


def test_a_row_is_an_object_whose_keys_are_the_inputs_of_the_model(model: Model, tmp_path: Path) -> None:
    assert (model.task, model.labels) == ("classification", ("fit", "sick"))
    smokes = answer(model, tmp_path, '{"smoker": true, "name": "Jo", "bmi": 30.5, "age": 61}')
    assert smokes[0][0] == "sick"
    assert smokes[0][1] > 0.95
    assert answer(model, tmp_path, '{"bmi": 30.5, "age": 61, "smoker": 0}')[0][0] == "fit"
    assert answer(model, tmp_path, "smoker,age,bmi\n1,61,30.5") == smokes
    assert answer(model, tmp_path, "61,30.5,1") == smokes


def test_a_row_without_a_column_or_with_a_fraction_in_one_of_whole_numbers_is_refused(
    model: Model, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="expected a number called smoker"):
        answer(model, tmp_path, '{"age": 61, "bmi": 30.5}')
    with pytest.raises(InputError, match=r"the model takes int64, found 61\.5"):
        answer(model, tmp_path, '{"age": 61.5, "bmi": 30.5, "smoker": 0}')


def test_labels_that_are_numbers_are_the_labels(tmp_path: Path) -> None:
    path = saved(tmp_path / "numbers.onnx", classes=(7, -3))
    source = resolve_model(settings.Model(path=path), tmp_path)
    assert derive(source.file, source.stated).labels == ("-3", "7")
    model = load("numbers", settings.Model(path=path), tmp_path)
    assert answer(model, tmp_path, "61,30.5,1")[0][0] == "7"


def test_columns_of_text_are_refused_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "texts.onnx", {"sex": TensorProto.STRING, **COLUMNS})
    source = resolve_model(settings.Model(path=path), tmp_path)
    with pytest.raises(ModelError, match="its inputs are columns, of which sex hold text"):
        derive(source.file, source.stated)
