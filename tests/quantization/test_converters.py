"""Float files as int8, by the tools of the extra `quantize`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edge_agent.cli import main
from edge_agent.engines import load_engine
from edge_agent.errors import MissingExtraError, ModelError
from edge_agent.modelfile import inspect
from edge_agent.modelfile.facts import ModelFile
from edge_agent.quantization import tflite
from edge_agent.quantization.converters import Uint8, converter_for
from edge_agent.quantization.graph import tail

FLOAT = "tinymlperf/pretrainedResnet.tflite"
# From 2018: operator codes in the old field, no signature, labels in an archive at its end.
OLD = "classify_tflite/mobilenet_v1_0.25_224_1_metadata_1.tflite"


def noise(file: ModelFile, count: int) -> Iterator[NDArray[np.float32]]:
    shape = [max(1, size) for size in file.inputs[0].shape]
    generator = np.random.default_rng(1)
    for _ in range(count):
        yield generator.random(shape, np.float32)


def answers(file: ModelFile) -> NDArray[Any]:
    engine = load_engine(file.identity, "cpu", 1)
    return np.array([engine.run([tensor])[0] for tensor in noise(file, 4)])


def small_onnx(folder: Path, opset: int) -> ModelFile:
    """Two convolutions; the weights are inputs too, as old exporters wrote them."""
    generator = np.random.default_rng(2)
    weights = [generator.normal(size=(8, channels, 3, 3)).astype(np.float32) for channels in (3, 8)]
    tensors = [onnx.numpy_helper.from_array(value, f"w{number}") for number, value in enumerate(weights)]
    value = onnx.helper.make_tensor_value_info
    float_ = onnx.TensorProto.FLOAT
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1] * 4),
        onnx.helper.make_node("Relu", ["a"], ["b"]),
        onnx.helper.make_node("Conv", ["b", "w1"], ["y"], pads=[1] * 4),
    ]
    inputs = [value("x", float_, [1, 3, 16, 16]), *(value(one.name, float_, one.dims) for one in tensors)]
    graph = onnx.helper.make_graph(nodes, "g", inputs, [value("y", float_, [1, 8, 16, 16])], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=7)
    onnx.helper.set_model_props(model, {"names": "{0: 'a'}"})
    onnx.save(model, str(folder / "float.onnx"))
    return inspect.read(folder / "float.onnx")


def converted(file: ModelFile, folder: Path, in_float_layers: int = -1) -> ModelFile:
    converter = converter_for(file, folder)
    converter.calibrate(noise(file, 10))
    content = converter.convert(tail(converter.operators, converter.outputs, in_float_layers))
    path = folder / f"int8.{file.format}"
    path.write_bytes(content)
    return inspect.read(path)


def test_a_float_tflite_file_becomes_int8_with_the_same_inputs_and_outputs(data_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    original = inspect.read(data_dir / FLOAT)
    made = converted(original, tmp_path)
    assert made.size < original.size / 3
    assert [(one.shape, one.dtype) for one in made.inputs] == [(one.shape, one.dtype) for one in original.inputs]
    assert [one.dtype for one in made.outputs] == ["float32"]
    assert np.abs(answers(made) - answers(original)).max() < 0.2
    with pytest.raises(ModelError, match="nothing to convert"):
        converter_for(made, tmp_path)


def test_an_old_tflite_file_keeps_its_labels_and_facts(data_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    original = inspect.read(data_dir / OLD)
    made = converted(original, tmp_path)
    assert made.size < original.size
    assert (made.normalization, made.labels) == (original.normalization, original.labels)
    assert np.abs(answers(made) - answers(original)).max() < 0.2


@pytest.mark.parametrize("opset", [9, 13])
def test_an_onnx_file_of_any_age_becomes_int8(opset: int, tmp_path: Path) -> None:
    original = small_onnx(tmp_path, opset)
    made = converted(original, tmp_path)
    assert made.operators["QuantizeLinear"] >= 2
    assert [(one.name, one.shape, one.dtype) for one in made.inputs] == [("x", (1, 3, 16, 16), "float32")]
    assert made.metadata["names"] == "{0: 'a'}"
    before, after = answers(original), answers(made)
    assert np.abs(after - before).max() < 0.1 * np.ptp(before)
    with pytest.raises(ModelError, match="nothing to convert"):
        converter_for(made, tmp_path)


def test_what_is_to_stay_in_float_does(tmp_path: Path) -> None:
    original = small_onnx(tmp_path, 13)
    whole, part = (converted(original, tmp_path, layers).operators["DequantizeLinear"] for layers in (-1, 1))
    assert part < whole


def test_a_uint8_file_needs_no_samples(data_dir: Path, tmp_path: Path) -> None:
    file = inspect.read(data_dir / "classify_tflite/mobilenet_v1_0.25_224_quant.tflite")
    converter = converter_for(file, tmp_path)
    assert isinstance(converter, Uint8)
    assert not converter.operators


def test_inputs_are_held_a_few_at_a_time(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_quantizer")
    converter = tflite.TFLite((data_dir / FLOAT).read_bytes())
    handed: list[int] = []
    made = 0

    class Tool:
        def calibrate(self, data: dict[str, list[object]], **_: object) -> dict[str, object]:
            (part,) = data.values()
            handed.append(len(part))
            assert made == sum(handed)
            return {}

    def tensors() -> Iterator[NDArray[Any]]:
        nonlocal made
        for _ in range(20):
            made += 1
            yield np.zeros(1)

    monkeypatch.setattr(converter, "_quantizer", lambda _: Tool())
    converter.calibrate(tensors())
    assert handed == [8, 8, 4]


@pytest.mark.parametrize(("model", "module"), [(FLOAT, "ai_edge_quantizer.quantizer"), ("float.onnx", "onnx")])
def test_a_missing_tool_is_named_with_what_installs_it(
    model: str, module: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = small_onnx(tmp_path, 13) if model.endswith("onnx") else inspect.read(data_dir / model)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"quantizing \.\w+ models needs a package"):
        converter_for(file, tmp_path)


def test_what_the_tool_refuses_ends_in_a_sentence(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ai_edge_quantizer")
    model = str(data_dir / "met_in_the_wild" / "yolov5face_tfl.tflite")
    arguments = ["--decoder", "yolov5_face", "--normalize", "unit", "--samples", str(data_dir / "imagenet_100")]
    assert main(["models", "quantize", model, *arguments, "-o", str(tmp_path / "x")]) in (1, 2)
    printed = capsys.readouterr().err
    assert "can't be calibrated by the tool" in printed or "can be compared" in printed
