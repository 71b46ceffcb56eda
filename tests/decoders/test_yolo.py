"""Tensors are made here from the published formulas, turned round: boxes to what the model would say of them."""

from collections.abc import Sequence

import numpy as np
import pytest

from edge_agent.decoders import Limits, families
from edge_agent.decoders.boxes import cell_count
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import Tensor
from edge_agent.preprocess.placement import place
from tests.decoders.scenes import ALL, Floats, Thing, as_it_is, assert_same, decoder, facts, floats, quantised

SIZE = (96, 160)  # height, width
CELLS = cell_count(SIZE, (8, 16, 32))
LABELS = ("cat", "dog", "bird")
THINGS = (Thing((10, 12, 50, 60), 1, 0.9), Thing((80, 20, 150, 90), 2, 0.75), Thing((60, 5, 75, 15), 0, 0.5))
FRACTION = floats([SIZE[1], SIZE[0]] * 2)


def background(cells: int) -> Floats:
    """Boxes of the cells where nothing is: they reach across the input."""
    random = np.random.default_rng(cells)
    centres = random.uniform(0, 1, (cells, 2)) * (SIZE[1], SIZE[0])
    return np.concatenate([centres, random.uniform(5, 60, (cells, 2))], axis=1).astype(np.float32)


def with_objectness(things: Sequence[Thing], *, fractions: bool, cells: int = 3 * CELLS, extras: int = 0) -> Floats:
    """(cells, 5 + classes): YOLOv5 and YOLOv7. The score of an object is 0.9 x that of its class."""
    rows = np.zeros((cells, 5 + len(LABELS) + extras), np.float32)
    rows[:, :4] = background(cells)
    rows[:, 5:8] = 0.6  # sure of the class, but not that there is anything
    for number, thing in enumerate(things):
        rows[17 * number + 3, :8] = [*thing.xywh, 0.9, 0.01, 0.02, 0.03]
        rows[17 * number + 3, 5 + thing.class_id] = thing.score / 0.9
    if fractions:
        rows[:, :4] /= FRACTION
    return rows


def without_objectness(things: Sequence[Thing], *, fractions: bool, extras: int = 0) -> Floats:
    """(4 + classes, cells): YOLOv8 and later."""
    rows = np.zeros((CELLS, 4 + len(LABELS) + extras), np.float32)
    rows[:, :4] = background(CELLS)
    rows[:, 4:7] = 0.1
    for number, thing in enumerate(things):
        rows[11 * number + 5, :4] = thing.xywh
        rows[11 * number + 5, 4 + thing.class_id] = thing.score
    if fractions:
        rows[:, :4] /= FRACTION
    return rows.T


def detections(things: Sequence[Thing], *, fractions: bool, count: int = 100) -> Floats:
    """(detections, 6): the rest are zeros."""
    rows = np.zeros((count, 6), np.float32)
    for number, thing in enumerate(things):
        box = floats(thing.box) / FRACTION if fractions else floats(thing.box)
        rows[number] = [*box, thing.score, thing.class_id]
    return rows


@pytest.mark.parametrize("fractions", [False, True])
def test_yolov5_gives_back_the_boxes_that_were_put_in(fractions: bool) -> None:
    output = with_objectness(THINGS, fractions=fractions)
    decode = decoder(facts((1, *output.shape), size=SIZE), "yolov5", LABELS)
    assert_same(decode([output[None]], [as_it_is(SIZE)], ALL), THINGS, score=1e-5, iou=0.999)


@pytest.mark.parametrize("fractions", [False, True])
@pytest.mark.parametrize("cells_first", [False, True])
def test_yolov8_gives_back_the_boxes_that_were_put_in(fractions: bool, cells_first: bool) -> None:
    output = without_objectness(THINGS, fractions=fractions)
    output = output.T if cells_first else output
    decode = decoder(facts((1, *output.shape), size=SIZE), "yolov8", LABELS)
    assert_same(decode([output[None]], [as_it_is(SIZE)], ALL), THINGS, score=1e-5, iou=0.999)


@pytest.mark.parametrize("fractions", [False, True])
def test_an_end_to_end_export_is_told_as_it_is(fractions: bool) -> None:
    twice = (*THINGS, Thing((11, 12, 50, 60), 1, 0.8))
    output = detections(twice, fractions=fractions)
    decode = decoder(facts((1, *output.shape), size=SIZE), "yolo_end_to_end", LABELS)
    assert_same(decode([output[None]], [as_it_is(SIZE)], ALL), twice, score=1e-5, iou=0.999)


def test_unused_rows_of_an_end_to_end_export_are_no_detections_at_any_confidence() -> None:
    output = detections(THINGS, fractions=False)
    decode = decoder(facts((1, *output.shape), size=SIZE), "yolo_end_to_end", LABELS)
    assert len(decode([output[None]], [as_it_is(SIZE)], Limits(100, 0))) == 3
    assert decode([np.zeros_like(output)[None]], [as_it_is(SIZE)], Limits(100, 0)) == []


def test_yolov7_states_the_class_before_the_score_and_has_no_axis_of_the_batch() -> None:
    file = facts((-1, 7), size=SIZE, graph=["NonMaxSuppression"], file_format="onnx")
    (recognition,) = families.fitting(file)
    assert (recognition.family, recognition.named) == ("yolo_end_to_end", True)
    decode = decoder(file, "yolo_end_to_end", LABELS)
    output = floats([[0, *thing.box, thing.class_id, thing.score] for thing in THINGS])
    assert_same(decode([output], [as_it_is(SIZE)], ALL), THINGS, score=1e-5, iou=0.999)
    assert decode([output[:0]], [as_it_is(SIZE)], ALL) == []
    with pytest.raises(ModelError, match="can't be used with several regions"):
        decode([output], [as_it_is(SIZE)] * 2, ALL)


@pytest.mark.parametrize(("dtype", "scale", "zero_point"), [("uint8", 0.00448, 3), ("int8", 0.0045, -125)])
def test_quantised_outputs_give_the_same_to_within_a_step(dtype: str, scale: float, zero_point: int) -> None:
    for family, values in (
        ("yolov5", with_objectness(THINGS, fractions=True)),
        ("yolov8", without_objectness(THINGS, fractions=True)),
    ):
        file = facts(Tensor("", (1, *values.shape), dtype, scale, zero_point), size=SIZE)
        found = decoder(file, family, LABELS)(
            [quantised(values, dtype, scale, zero_point)[None]], [as_it_is(SIZE)], ALL
        )
        assert_same(found, THINGS, score=2 * scale, iou=0.9)


def test_boxes_come_out_in_pixels_of_a_letterboxed_picture() -> None:
    output = without_objectness([Thing((27, 0, 80, 96), 1, 0.9)], fractions=True)
    placement = place(None, (0, 0), (1080, 1920), (1080, 1920), (SIZE[1], SIZE[0]), "letterbox")
    (found,) = decoder(facts((1, *output.shape), size=SIZE), "yolov8", LABELS)([output[None]], [placement], ALL)
    # The first 54 of the 160 columns show the picture, each 20 pixels of it.
    assert found.box == pytest.approx((27 * 20, 0, 1080, 1920), abs=0.01)


def test_an_answer_of_another_shape_than_declared_is_refused() -> None:
    output = without_objectness(THINGS, fractions=False)
    decode = decoder(facts((1, *output.shape), size=SIZE), "yolov8", LABELS)
    with pytest.raises(ModelError, match=r"expected an output of shape \[7, 315\], found \[7, 300\]"):
        decode([output[None, :, :300]], [as_it_is(SIZE)], ALL)


ULTRALYTICS = {"stride": "32", "names": "{0: 'cat', 1: 'dog', 2: 'bird'}"}


@pytest.mark.parametrize(
    ("shape", "family", "classes"),
    [
        ((1, 84, 8400), "yolov8", 80),
        ((1, 25200, 85), "yolov5", 80),
        ((1, 300, 6), "yolo_end_to_end", None),
        ((1, 25203, 85), None, None),
        ((1, 84, 8401), None, None),
        ((1, 4, 8400), None, None),
        ((1, 8400), None, None),
    ],
)
def test_the_family_is_told_by_the_number_of_cells(
    shape: tuple[int, ...], family: str | None, classes: int | None
) -> None:
    found = families.fitting(facts(shape, size=(640, 640)))
    assert [(one.family, one.classes) for one in found] == ([(family, classes)] if family else [])


def test_the_number_of_cells_follows_the_input_and_the_strides() -> None:
    assert [one.family for one in families.fitting(facts((1, 84, 6300), size=(480, 640)))] == ["yolov8"]
    assert [one.family for one in families.fitting(facts((1, 102000, 85), size=(1280, 1280)))] == ["yolov5"]
    assert [one.family for one in families.fitting(facts((1, 84, 34000), size=(640, 640)))] == ["yolov8"]


def test_an_ultralytics_export_names_its_task() -> None:
    file = facts((1, 56, 8400), size=(640, 640), metadata=ULTRALYTICS | {"task": "detect"})
    assert [(one.family, one.named) for one in families.fitting(file)] == [("yolov8", True)]
    for task in ("classify", "depth"):
        assert families.fitting(facts((1, 84, 8400), size=(640, 640), metadata=ULTRALYTICS | {"task": task})) == []


def test_what_may_be_a_pose_or_classes_is_asked_for() -> None:
    file = facts((1, 56, 8400), size=(640, 640))
    assert {(one.family, one.classes) for one in families.fitting(file)} == {("yolov8", 52), ("yolo_pose", 1)}


def test_yolo_models_take_letterboxed_rgb_from_0_to_1() -> None:
    (found,) = families.fitting(facts((1, 84, 8400), size=(640, 640)))
    assert (found.resize, found.color, found.normalization) == ("letterbox", "rgb", ((0,), (255,)))


def test_the_evidence_says_whether_quantised_boxes_are_fractions() -> None:
    output = Tensor("", (1, 25200, 85), "uint8", 0.0044834911823272705, 3)
    (found,) = families.fitting(facts(output, size=(640, 640)))
    assert "boxes: fractions of the input, its quantised values reach up to 1.13" in found.evidence


@pytest.mark.parametrize("fractions", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_yolov10_without_its_last_step_has_corners_which_all_cells_show(dtype: str, fractions: bool) -> None:
    values = without_objectness(THINGS, fractions=False)
    centres, sizes = values[:2].copy(), values[2:4].copy()
    values[:4] = np.concatenate([centres - sizes / 2, centres + sizes / 2])
    if fractions or dtype == "int8":
        values[:4] /= FRACTION[:, None]
    scale = 0.0 if dtype == "float32" else 0.012
    tensor = Tensor("", (1, *values.shape), dtype, scale or None, -80 if scale else 0)
    stored = quantised(values, dtype, scale, -80) if scale else values
    found = decoder(facts(tensor, size=SIZE), "yolov8", LABELS)([stored[None]], [as_it_is(SIZE)], ALL)
    assert_same(found, THINGS, score=1e-5 + 2 * scale, iou=0.8 if scale else 0.999)
