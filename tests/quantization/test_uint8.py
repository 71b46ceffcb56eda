"""Uint8 models as int8: what is computed, what is kept, what is left alone."""

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.engines import load_engine
from edge_agent.errors import ModelError
from edge_agent.modelfile import inspect
from edge_agent.quantization.uint8 import to_int8
from tests.images import decode_image

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

PHOTOS = "classify_tflite/mobilenet_v1_0.25_224_quant.tflite"
DETECTOR = "detect_tflite/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"


def converted(model: Path, folder: Path) -> Path:
    file = folder / "int8.tflite"
    file.write_bytes(to_int8(model.read_bytes()))
    return file


def answers(model: Path, pictures: list[Path]) -> list[NDArray[Any]]:
    """The first output for each picture, as it is stored."""
    engine = load_engine(inspect.read(model).identity, "cpu", 1)
    _, height, width, _ = engine.inputs[0].shape
    decoded = [decode_image(path.read_bytes()) for path in pictures]
    tensors = [np.ascontiguousarray(cv2.resize(image, (width, height))[np.newaxis, ..., ::-1]) for image in decoded]
    return [engine.run([tensor])[0] for tensor in tensors]


def weights(model: Path) -> list[NDArray[np.float64]]:
    """Of each convolution, in real values."""
    parsed = schema.ModelT.InitFromPackedBuf(model.read_bytes(), 0)
    found = []
    for operator in parsed.subgraphs[0].operators:
        if len(operator.inputs) == 3 and operator.builtinOptionsType != schema.BuiltinOptions.ReshapeOptions:
            tensor = parsed.subgraphs[0].tensors[operator.inputs[1]]
            kind = np.int8 if tensor.type == schema.TensorType.INT8 else np.uint8
            stored = np.frombuffer(bytes(parsed.buffers[tensor.buffer].data), kind).reshape(tensor.shape)
            shape = [1] * stored.ndim
            shape[tensor.quantization.quantizedDimension] = -1
            scale = np.asarray(tensor.quantization.scale, np.float64).reshape(shape)
            zero_point = np.asarray(tensor.quantization.zeroPoint).reshape(shape)
            found.append((stored.astype(np.float64) - zero_point) * scale)
    return found


def test_a_classifier_says_the_same_as_int8_and_keeps_what_it_carries(data_dir: Path, tmp_path: Path) -> None:
    original = data_dir / PHOTOS
    file = converted(original, tmp_path)
    old, new = inspect.read(original), inspect.read(file)
    assert (new.inputs, new.outputs, new.labels) == (old.inputs, old.outputs, old.labels)
    assert new.operators["QUANTIZE"] == 2
    assert new.operators["CONV_2D"] == old.operators["CONV_2D"]
    assert file.stat().st_size < 1.2 * original.stat().st_size
    pictures = sorted((data_dir / "images").glob("*.bmp"))
    for before, after in zip(answers(original, pictures), answers(file, pictures), strict=True):
        assert np.abs(before.astype(int) - after).max() < 0.15 * 256


def test_weights_stay_as_they_were_but_for_channels_that_span_more_than_int8(data_dir: Path, tmp_path: Path) -> None:
    original = data_dir / PHOTOS
    pairs = list(zip(weights(original), weights(converted(original, tmp_path)), strict=True))
    assert len(pairs) == 28
    exact = [np.isclose(old, new, rtol=1e-5, atol=1e-7) for old, new in pairs]
    assert np.mean([same.mean() for same in exact]) > 0.9
    for old, new in pairs:
        step = (old.max() - old.min()) / 255
        assert np.abs(old - new).max() <= 1.01 * step


def test_operators_without_an_int8_form_go_on_in_uint8(data_dir: Path, tmp_path: Path) -> None:
    original = data_dir / DETECTOR
    file = converted(original, tmp_path)
    operators = inspect.read(file).operators
    assert operators["TFLite_Detection_PostProcess"] == 1
    assert operators["QUANTIZE"] > 2
    pictures = [data_dir / "images" / name for name in ("dog.jpg", "bus.jpg")]
    for before, after in zip(answers(original, pictures), answers(file, pictures), strict=True):
        assert np.abs(before[0, 0] - after[0, 0]).max() < 0.1


def test_the_same_model_becomes_the_same_file(data_dir: Path) -> None:
    model = (data_dir / PHOTOS).read_bytes()
    assert len({hashlib.sha256(to_int8(model)).hexdigest() for _ in range(2)}) == 1


@pytest.mark.parametrize(
    "model", ["classify_tflite/mobilenet_v1_0.25_224_1_metadata_1.tflite", "tinymlperf/vww_96_int8.tflite"]
)
def test_a_model_that_is_not_uint8_is_refused(model: str, data_dir: Path) -> None:
    with pytest.raises(ModelError, match="no convolution with uint8 weights"):
        to_int8((data_dir / model).read_bytes())
