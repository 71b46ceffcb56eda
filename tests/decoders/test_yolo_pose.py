import numpy as np
import pytest

from edge_agent.decoders import families
from edge_agent.decoders.boxes import cell_count
from edge_agent.errors import InputError
from edge_agent.preprocess.placement import place
from tests.decoders.scenes import ALL, Floats, Thing, as_it_is, assert_same, decoder, facts, floats

SIZE = (96, 160)
CELLS = cell_count(SIZE, (8, 16, 32))
PERSONS = (Thing((10, 12, 50, 60), 0, 0.9), Thing((80, 20, 150, 90), 0, 0.75))
FRACTION = floats([SIZE[1], SIZE[0]])
POSE = {"stride": "32", "names": "{0: 'person'}", "task": "pose"}


def keypoints(number: int, count: int = 17, numbers: int = 3) -> Floats:
    """Of a person: x, y in the input, and the confidence."""
    random = np.random.default_rng(number)
    values = random.uniform(5, 90, (count, 3)).astype(np.float32)
    values[:, 2] = random.uniform(0, 1, count)
    return values[:, :numbers]


def cells(count: int = 17, numbers: int = 3, *, fractions: bool) -> Floats:
    """(5 + keypoints, cells)."""
    rows = np.zeros((CELLS, 5 + count * numbers), np.float32)
    rows[:, :2] = np.random.default_rng(0).uniform(0, 1, (CELLS, 2)) * FRACTION
    for number, person in enumerate(PERSONS):
        points = keypoints(number, count, numbers)
        rows[7 * number + 9] = [*person.xywh, person.score, *points.ravel()]
    if fractions:
        rows[:, :4] /= np.tile(FRACTION, 2)
        for place_of in range(2):
            rows[:, 5 + place_of :: numbers] /= FRACTION[place_of]
    return rows.T


@pytest.mark.parametrize("fractions", [False, True])
def test_boxes_and_keypoints_come_back_as_they_were_put_in(fractions: bool) -> None:
    output = cells(fractions=fractions)
    decode = decoder(facts((1, *output.shape), size=SIZE, metadata=POSE), "yolo_pose", ["person"])
    found = decode([output[None]], [as_it_is(SIZE)], ALL)
    assert decode.task == "pose"
    assert_same(found, PERSONS, score=1e-5, iou=0.999)
    for number, person in enumerate(found):
        assert person.keypoints is not None
        assert np.allclose(person.keypoints, keypoints(number), atol=1e-3)


def test_keypoints_come_out_in_pixels_of_a_letterboxed_picture() -> None:
    output = cells(fractions=True)
    placement = place(None, (0, 0), (320, 96), (320, 96), (SIZE[1], SIZE[0]), "letterbox")
    found = decoder(facts((1, *output.shape), size=SIZE), "yolo_pose", None)([output[None]], [placement], ALL)
    assert found[0].keypoints is not None
    # Of the input's 96 rows the upper 48 show the picture, halved.
    expected = np.clip(keypoints(0)[:, :2] * 2, 0, (320, 96))
    assert np.allclose(floats(found[0].keypoints)[:, :2], expected, atol=1e-2)


def test_keypoints_may_have_no_confidence() -> None:
    output = cells(4, 2, fractions=False)
    file = facts((1, *output.shape), size=SIZE, metadata=POSE | {"kpt_shape": "[4, 2]"})
    found = decoder(file, "yolo_pose", ["person"])([output[None]], [as_it_is(SIZE)], ALL)
    assert found[0].keypoints is not None
    assert np.allclose(found[0].keypoints, keypoints(0, 4, 2), atol=1e-3)


def test_an_end_to_end_export_has_keypoints_behind_the_class() -> None:
    rows = np.zeros((30, 57), np.float32)
    for number, person in enumerate(PERSONS):
        rows[number] = [*person.box, person.score, 0, *keypoints(number).ravel()]
    file = facts((1, 30, 57), size=SIZE, metadata=POSE | {"kpt_shape": "[17, 3]", "end2end": "True"})
    (recognition,) = families.fitting(file)
    assert recognition.family == "yolo_pose"
    found = decoder(file, "yolo_pose", ["person"])([rows[None]], [as_it_is(SIZE)], ALL)
    assert_same(found, PERSONS, score=1e-5, iou=0.999)
    assert found[1].keypoints is not None
    assert np.allclose(found[1].keypoints, keypoints(1), atol=1e-3)


def test_keypoints_of_no_numbers_are_refused() -> None:
    output = cells(fractions=False)
    output[20] = np.nan
    with pytest.raises(InputError, match="not numbers"):
        decoder(facts((1, *output.shape), size=SIZE), "yolo_pose")([output[None]], [as_it_is(SIZE)], ALL)


def test_the_file_tells_the_number_of_keypoints() -> None:
    file = facts((1, 4 + 2 + 12, 8400), size=(640, 640), metadata=POSE | {"kpt_shape": "[6, 2]"})
    (found,) = families.fitting(file)
    assert (found.family, found.task, found.classes, found.named) == ("yolo_pose", "pose", 2, True)


@pytest.mark.parametrize("shape", ["[17, 4]", "[0, 3]", "[100000, 3]", "[17]", "[[17, 3], [17, 3]]"])
def test_a_number_of_keypoints_that_cannot_be_is_no_pose(shape: str) -> None:
    file = facts((1, 56, 8400), size=(640, 640), metadata=POSE | {"kpt_shape": shape})
    assert [one.classes for one in families.fitting(file)] in ([], [1])
