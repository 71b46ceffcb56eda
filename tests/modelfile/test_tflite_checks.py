from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import ModelError
from edge_agent.models.io_spec import Stated, derive
from tests.models.model_bytes import Scalar, builtin, floats, int32s, int64s, operator, tflite

FLOAT32, FLOAT16, INT8 = 0, 1, 9
CONV, DEPTHWISE, FULLY_CONNECTED, VAR_HANDLE, SOFTMAX = 3, 4, 9, 142, 25


def convolution(code: int, picture: int, weights: int, scales: int, shape: tuple[int, ...], channels: int = 8) -> bytes:
    """A model of one convolution over a picture of 8 x 8."""
    quantization = {2: floats(*[0.1] * scales), 3: int64s(*[0] * scales)}
    tensors = [
        {0: int32s(1, 8, 8, channels), 1: Scalar("Int8", picture), 3: "image"},
        {0: int32s(*shape), 1: Scalar("Int8", weights), 3: "weights", 4: quantization if scales else {}},
        {0: int32s(1, 8), 1: Scalar("Int8", picture), 3: "scores"},
    ]
    return tflite(tensors=tensors, outputs=(2,), codes=[builtin(code)], operators=[operator(0, (0, 1), (2,))])


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (convolution(DEPTHWISE, FLOAT32, INT8, 1, (1, 3, 3, 8)), "DEPTHWISE_CONV_2D"),
        (convolution(CONV, FLOAT32, INT8, 1, (16, 3, 3, 4)), "a grouped CONV_2D"),
        (convolution(CONV, FLOAT32, INT8, 1, (8, 3, 3, 1)), "a grouped CONV_2D"),
    ],
)
def test_what_the_runtime_computes_wrongly_is_refused_with_what_to_do(reading: Any, content: bytes, kind: str) -> None:
    file = reading(content)
    assert kind in file.miscomputed
    with pytest.raises(ModelError, match="export the model as full integer"):
        derive(file, Stated(decoder="embedding"))


@pytest.mark.parametrize(
    "content",
    [
        convolution(DEPTHWISE, FLOAT32, INT8, 8, (1, 3, 3, 8)),  # a scale for each channel
        convolution(CONV, FLOAT32, INT8, 16, (16, 3, 3, 4)),
        convolution(CONV, FLOAT32, INT8, 1, (16, 3, 3, 8)),  # one scale, without groups
        convolution(DEPTHWISE, INT8, INT8, 1, (1, 3, 3, 8)),  # whole numbers throughout
        convolution(DEPTHWISE, FLOAT32, FLOAT16, 0, (1, 3, 3, 8)),
        convolution(DEPTHWISE, FLOAT32, INT8, 1, (1, 3, 3, 1), channels=1),  # one channel has one scale
        convolution(FULLY_CONNECTED, FLOAT32, INT8, 1, (8, 8)),
    ],
)
def test_what_the_runtime_computes_rightly_is_not(reading: Any, content: bytes) -> None:
    assert reading(content).miscomputed == ""


def test_a_convolution_without_weights_in_its_list_is_left_to_the_runtime(reading: Any) -> None:
    assert reading(tflite()).miscomputed == ""


def test_state_inside_a_file_is_seen_in_its_resources_and_variables(reading: Any) -> None:
    variable = {0: int32s(1, 3), 1: Scalar("Int8", 0), 3: "state", 5: Scalar("Bool", 1)}
    tensors = [{0: int32s(1, 3), 1: Scalar("Int8", 0), 3: name} for name in "abcd"]
    assert reading(tflite(codes=[builtin(CONV), builtin(SOFTMAX), builtin(VAR_HANDLE)])).keeps_state
    assert reading(tflite(tensors=[*tensors, variable])).keeps_state
    assert not reading(tflite(tensors=tensors)).keeps_state


def test_the_public_files_that_show_it(data_dir: Path, reading: Any) -> None:
    folder = data_dir / "met_in_the_wild"
    assert "DEPTHWISE_CONV_2D" in reading((folder / "yolo11n_person_int8.tflite").read_bytes()).miscomputed
    file = reading((folder / "mww_okay_nabu_v2.tflite").read_bytes())
    assert (file.keeps_state, file.miscomputed) == (True, "")
