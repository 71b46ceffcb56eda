from dataclasses import replace

import numpy as np
import pytest

from edge_agent.decoders import families
from edge_agent.engines import TensorSpec
from edge_agent.errors import InputError
from tests.decoders import chips
from tests.decoders.chips import LABELS, SIZE, THINGS
from tests.decoders.scenes import ALL, Floats, as_it_is, assert_same, specs


def test_boxes_by_class_are_read_up_to_their_numbers() -> None:
    file = chips.hailo_file()
    (found,) = families.fitting(file)
    assert (found.family, found.classes, found.named) == ("hailo_nms", 3, True)
    decode = families.build(found, specs(file), LABELS)
    assert_same(decode([chips.by_class(THINGS)], [as_it_is(SIZE)], ALL), THINGS, score=1e-6, iou=0.999)


def test_boxes_by_score_are_read_where_the_runtime_gives_bytes() -> None:
    (found,) = families.fitting(chips.hailo_file())
    decode = families.build(found, [TensorSpec("nms", (1, 200), "uint8")], LABELS)
    assert_same(decode([chips.by_score(THINGS)], [as_it_is(SIZE)], ALL), THINGS, score=1e-6, iou=0.999)


@pytest.mark.parametrize("count", [-1, chips.MOST + 1, np.nan])
def test_an_impossible_number_of_boxes_is_an_error_of_the_input(count: float) -> None:
    (found,) = families.fitting(chips.hailo_file())
    decode = families.build(found, specs(chips.hailo_file()), LABELS)
    buffer = chips.by_class(THINGS)
    buffer[0, 0] = count
    with pytest.raises(InputError):
        decode([buffer], [as_it_is(SIZE)], ALL)
    by_score = families.build(found, [TensorSpec("nms", (1, 200), "uint8")], LABELS)
    with pytest.raises(InputError):
        by_score([np.full((1, 200), 255, np.uint8)], [as_it_is(SIZE)], ALL)


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize(("channels_first", "sums"), [(True, True), (True, False), (False, False)])
def test_maps_of_yolo_are_decoded_in_either_layout(*, channels_first: bool, sums: bool, logits: bool) -> None:
    outputs = chips.maps(THINGS, channels_first=channels_first, sums=sums, logits=logits)
    file = chips.maps_file(outputs)
    (found,) = families.fitting(file)
    assert (found.family, found.classes) == ("yolo_dfl", 3)
    decode = families.build(found, specs(file), LABELS)
    assert_same(decode(outputs, [as_it_is(SIZE)], ALL), THINGS, score=1e-4, iou=0.999)


def test_maps_in_another_order_are_found_by_their_sides() -> None:
    outputs = chips.maps(THINGS, channels_first=False, sums=False)
    order = [3, 0, 5, 2, 4, 1]
    shuffled: list[Floats] = [outputs[at] for at in order]
    file = chips.maps_file(shuffled)
    (found,) = families.fitting(file)
    decode = families.build(found, specs(file), LABELS)
    assert_same(decode(shuffled, [as_it_is(SIZE)], ALL), THINGS, score=1e-4, iou=0.999)


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize(
    ("metadata", "order"),
    [({"name": "ssd"}, "yx"), ({"name": "yolo11n_imx"}, "xy"), ({"name": "ssd", "cpu.bbox_order": "xy"}, "xy")],
)
def test_detections_of_the_sensor_are_read_in_the_order_of_their_intrinsics(
    metadata: dict[str, str], order: str, *, pixels: bool
) -> None:
    file = chips.sensor_file(**metadata)
    (found,) = families.fitting(file)
    assert found.family == "imx500"
    decode = families.build(found, specs(file), LABELS)
    outputs = chips.sensor(THINGS, order, pixels=pixels)
    assert_same(decode(outputs, [as_it_is(SIZE)], ALL), THINGS, score=1e-6, iou=0.999)
    assert decode(chips.sensor(()), [as_it_is(SIZE)], ALL) == []


def test_the_same_outputs_of_another_file_are_not_those_of_a_chip() -> None:
    assert families.FAMILIES["hailo_nms"].recognise(replace(chips.hailo_file(), format="onnx")) is None
    assert families.FAMILIES["imx500"].recognise(replace(chips.sensor_file(), format="tflite")) is None
