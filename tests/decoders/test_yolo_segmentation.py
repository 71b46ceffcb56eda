from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.decoders import families
from edge_agent.decoders.boxes import cell_count
from edge_agent.modelfile.facts import Tensor
from edge_agent.preprocess.placement import place
from edge_agent.samples import Prediction
from tests.decoders.scenes import ALL, Floats, Thing, as_it_is, assert_same, decoder, facts, quantised

SIZE = (96, 160)
CELLS = cell_count(SIZE, (8, 16, 32))
LABELS = ("cat", "dog")
THINGS = (Thing((8, 12, 72, 60), 1, 0.9), Thing((80, 20, 152, 92), 0, 0.75))
COEFFICIENTS = 5


def prototypes() -> Floats:
    """(coefficients, height, width): the third is above 0 in an ellipse, the fifth in a ring right of it."""
    values = np.full((COEFFICIENTS, 24, 40), -1, np.float32)
    cv2.ellipse(values[2], (10, 9), (7, 5), 0, 0, 360, 1, -1)
    cv2.ellipse(values[4], (29, 14), (8, 8), 0, 0, 360, 1, -1)
    cv2.circle(values[4], (29, 14), 3, -1, -1)  # a hole
    return values


def coefficients(number: int) -> Floats:
    values = np.zeros(COEFFICIENTS, np.float32)
    values[2 if number == 0 else 4] = 1.5
    return values


def rows(kind: str) -> NDArray[Any]:
    """The first output, in the layout of a kind."""
    anchors = np.random.default_rng(3).uniform(0, 1, (CELLS, 2)) * (SIZE[1], SIZE[0])
    if kind == "end to end":
        values = np.zeros((50, 6 + COEFFICIENTS), np.float32)
        for number, thing in enumerate(THINGS):
            values[number] = [*thing.box, thing.score, thing.class_id, *coefficients(number)]
        return values
    extra = 5 if kind == "with objectness" else 4
    values = np.zeros((CELLS, extra + 2 + COEFFICIENTS), np.float32)
    values[:, :2] = anchors
    for number, thing in enumerate(THINGS):
        values[number + 5, :4] = thing.xywh
        values[number + 5, 4] = 1
        values[number + 5, extra : extra + 2] = 0
        values[number + 5, extra + thing.class_id] = thing.score
        values[number + 5, extra + 2 :] = coefficients(number)
    return np.concatenate([values, values * 0, values * 0]) if kind == "with objectness" else values.T


def expected(number: int) -> NDArray[np.bool_]:
    """The mask, made the long way: all of the input, then cut to the box."""
    whole = cv2.resize(prototypes()[2 if number == 0 else 4], (SIZE[1], SIZE[0]), interpolation=cv2.INTER_LINEAR) > 0
    x1, y1, x2, y2 = (int(edge) for edge in THINGS[number].box)
    cut = np.zeros_like(whole)
    cut[y1:y2, x1:x2] = whole[y1:y2, x1:x2]
    return np.asarray(cut, np.bool_)


def filled(prediction: Prediction, width: int, height: int) -> NDArray[np.bool_]:
    """The polygons of a prediction as pixels, by the even-odd rule."""
    assert prediction.polygons is not None
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [np.array(part).astype(np.int32) for part in prediction.polygons], 1)
    return np.asarray(canvas, np.bool_)


def same(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


KINDS = ["without objectness", "with objectness", "end to end"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_masks_come_back_as_they_were_put_in(kind: str, channels_last: bool) -> None:
    masks = prototypes().transpose(1, 2, 0) if channels_last else prototypes()
    outputs = [rows(kind)[None], masks[None]]
    decode = decoder(facts(*(one.shape for one in outputs), size=SIZE), "yolo_segmentation", LABELS)
    found = decode(outputs, [as_it_is(SIZE)], ALL)
    assert decode.task == "segmentation"
    assert_same(found, THINGS, score=1e-5, iou=0.999)
    for number, one in enumerate(found):
        assert one.area == expected(number).sum()
        assert same(filled(one, 160, 96), expected(number)) > 0.95


def test_a_hole_is_no_part_of_a_mask() -> None:
    outputs = [rows("without objectness")[None], prototypes()[None]]
    decode = decoder(facts(*(one.shape for one in outputs), size=SIZE), "yolo_segmentation", LABELS)
    ring = filled(decode(outputs, [as_it_is(SIZE)], ALL)[1], 160, 96)
    assert not ring[56, 116]
    assert ring[56, 92]


def test_outputs_may_come_in_the_other_order() -> None:
    outputs = [prototypes()[None], rows("without objectness")[None]]
    decode = decoder(facts(*(one.shape for one in outputs), size=SIZE), "yolo_segmentation", LABELS)
    assert_same(decode(outputs, [as_it_is(SIZE)], ALL), THINGS, score=1e-5, iou=0.999)


def test_masks_and_areas_come_out_in_pixels_of_a_letterboxed_picture() -> None:
    outputs = [rows("without objectness")[None], prototypes()[None]]
    decode = decoder(facts(*(one.shape for one in outputs), size=SIZE), "yolo_segmentation", LABELS)
    # The upper 160 x 80 of the input.
    placement = place("yard", (30, 40), (640, 320), (700, 400), (SIZE[1], SIZE[0]), "letterbox")
    found = decode(outputs, [placement], ALL)
    large = cv2.resize(expected(0)[:80].astype(np.uint8), (640, 320), interpolation=cv2.INTER_NEAREST).astype(bool)
    assert same(filled(found[0], 700, 400)[40:360, 30:670], large) > 0.95
    assert found[0].area == pytest.approx(large.sum(), rel=0.01)


def test_quantised_prototypes_are_weighed_by_their_real_values() -> None:
    values, scale, zero_point = prototypes(), 0.01, 20
    file = facts(
        (1, *rows("without objectness").shape), Tensor("", (1, *values.shape), "int8", scale, zero_point), size=SIZE
    )
    outputs = [rows("without objectness")[None], quantised(values, "int8", scale, zero_point)[None]]
    found = decoder(file, "yolo_segmentation", LABELS)(outputs, [as_it_is(SIZE)], ALL)
    assert [one.area for one in found] == [expected(0).sum(), expected(1).sum()]


def test_a_box_outside_of_the_input_has_a_mask_of_what_is_inside() -> None:
    values = np.zeros((50, 6 + COEFFICIENTS), np.float32)
    values[0] = [-40, -30, 200, 130, 0.9, 0, *coefficients(0)]
    outputs = [values[None], prototypes()[None]]
    decode = decoder(facts(*(one.shape for one in outputs), size=SIZE), "yolo_segmentation", LABELS)
    (found,) = decode(outputs, [as_it_is(SIZE)], ALL)
    assert found.area == expected(0).sum()
    assert found.box == pytest.approx((0, 0, 160, 96))


@pytest.mark.parametrize(
    ("shapes", "classes"),
    [
        ([(1, 116, 8400), (1, 32, 160, 160)], 80),
        ([(1, 160, 160, 32), (1, 116, 8400)], 80),
        ([(1, 25200, 117), (1, 32, 160, 160)], 80),
    ],
)
def test_prototypes_of_a_quarter_of_the_input_tell_the_family(shapes: list[tuple[int, ...]], classes: int) -> None:
    (found,) = families.fitting(facts(*shapes, size=(640, 640)))
    assert (found.family, found.task, found.classes) == ("yolo_segmentation", "segmentation", classes)


def test_without_prototypes_there_are_no_masks() -> None:
    assert families.fitting(facts((1, 116, 8400), (1, 32, 80, 80), size=(640, 640))) == []
