"""Exports of Ultralytics as its options make them: open sizes, a fixed batch, each task."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent import settings
from edge_agent.modelfile.facts import Tensor
from edge_agent.models.io_spec import IOSpec, Stated, derive
from edge_agent.models.model import Model, load
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.preprocess.files import read_file
from edge_agent.preprocess.image import Preprocess
from edge_agent.preprocess.opencv import cv2
from tests.decoders.scenes import facts

SIDE, CELLS = 64, 84
NAMES = {0: "cat", 1: "dog"}


def metadata(task: str) -> dict[str, str]:
    return {"task": task, "stride": "32", "names": str(NAMES), "imgsz": f"[{SIDE}, {SIDE}]"}


def export(path: Path, task: str, columns: int, *, batch: int | str = 1, side: int | str = SIDE) -> Path:
    """A model that finds a box, centred at 32, 16, of 20 x 10 pixels, whose score is how bright the picture is."""
    table = np.zeros((1, columns, CELLS), np.float32)
    table[0, :4, 7], table[0, :4, 8:] = (32, 16, 20, 10), 40
    light = np.zeros((1, columns, CELLS), np.float32)
    light[0, 5, 7] = 1
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["means"]),
        helper.make_node("Mul", ["means", "light"], ["scores"]),
        helper.make_node("Add", ["scores", "table"], ["output0"]),
    ]
    constants: list[tuple[str, Any]] = [("light", light), ("table", table), ("column", np.array([-1, 1, 1], np.int64))]
    cells: int | str = "anchors" if isinstance(side, str) else CELLS
    graph = helper.make_graph(
        nodes,
        "torch-jit-export",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, columns, cells])],
        [numpy_helper.from_array(value, name) for name, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, metadata(task))
    onnx.save(model, path)
    return path


def seen(path: Path, model: Model | None = None) -> list[Any]:
    cv2.imwrite(str(path.parent / "bright.png"), np.full((SIDE, SIDE, 3), 204, np.uint8))
    model = model or load("it", settings.Model(path=path), path.parent)
    return list(Predictor(model, None, None).ask(read_file(path.parent / "bright.png")).predictions)


def test_open_sizes_are_those_in_the_metadata(tmp_path: Path) -> None:
    (found,) = seen(export(tmp_path / "dynamic.onnx", "detect", 6, batch="batch", side="height"))
    assert found.label == "dog"
    assert found.confidence == pytest.approx(0.8, abs=0.01)
    assert found.box == pytest.approx((22, 11, 42, 21), abs=0.1)


def test_a_batch_of_four_is_filled_up(tmp_path: Path) -> None:
    path = export(tmp_path / "four.onnx", "detect", 6, batch=4)
    source = resolve_model(settings.Model(path=path), tmp_path)
    assert any("batch: 4 pictures at once, always" in line for line in derive(source.file, source.stated).evidence)
    model = load("four", settings.Model(path=path), tmp_path, 6)
    (found,) = seen(path, model)
    assert found.confidence == pytest.approx(0.8, abs=0.01)
    six = np.linspace(0, 1, 6, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, SIDE, SIDE), np.float32)
    (outputs,) = model.infer(six)
    assert outputs[:, 5, 7].tolist() == pytest.approx(six[:, 0, 0, 0].tolist(), abs=1e-4)


def test_an_oriented_box_has_its_corners(tmp_path: Path) -> None:
    (found,) = seen(export(tmp_path / "obb.onnx", "obb", 7))
    assert found.label == "dog"
    assert found.box == pytest.approx((22, 11, 42, 21), abs=0.1)
    assert np.allclose(sorted(found.polygons[0]), [(22, 11), (22, 21), (42, 11), (42, 21)], atol=0.1)


def derived(task: str, *outputs: Tensor | tuple[int, ...], **stated: Any) -> IOSpec:
    """Of a file with open sizes."""
    file = facts(*outputs, metadata=metadata(task), labels=list(NAMES.values()), file_format="onnx", **stated)
    open_ = Tensor("images", (-1, 3, -1, -1), "float32")
    return derive(replace(file, inputs=(open_,)), Stated())


@pytest.mark.parametrize(
    ("task", "outputs", "family"),
    [
        ("detect", [(-1, 6, -1)], "yolov8"),
        ("pose", [(-1, 4 + 2 + 51, -1)], "yolo_pose"),
        ("segment", [(-1, 4 + 2 + 32, -1), (-1, 32, -1, -1)], "yolo_segmentation"),
        ("obb", [(-1, 7, -1)], "yolo_obb"),
        ("classify", [(-1, 2)], "classification"),
    ],
)
def test_each_task_is_known_with_open_sizes(task: str, outputs: list[tuple[int, ...]], family: str) -> None:
    spec = derived(task, *outputs, operators=["Softmax" if task == "classify" else "Concat"] * 2)
    assert spec.family == family
    assert isinstance(spec.preprocess, Preprocess)
    assert (spec.preprocess.width, spec.preprocess.std) == (SIDE, (255.0,))
    assert spec.preprocess.resize == ("center_crop" if task == "classify" else "letterbox")
