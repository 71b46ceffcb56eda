import numpy as np
import pytest

from edge_agent.decoders import Limits, families
from edge_agent.errors import InputError, ModelError
from edge_agent.preprocess.placement import place
from tests.decoders.scenes import ALL, Floats, as_it_is, decoder, facts

SIZE = (192, 192)
FILE = facts((1, 1, 17, 3), size=SIZE)
ANYBODY = Limits(10, 0)


def keypoints(seed: int) -> Floats:
    """17 of y, x, confidence."""
    values = np.random.default_rng(seed).uniform(0.2, 0.8, (17, 3)).astype(np.float32)
    values[0, 2] = 0.05
    return values


def test_keypoints_come_out_x_first_in_pixels_of_a_letterboxed_picture() -> None:
    values = keypoints(1)
    values[:, 1] /= 2  # a picture half as wide as high lies in the left half
    placement = place(None, (0, 0), (480, 960), (480, 960), SIZE, "letterbox")
    (found,) = decoder(FILE, "movenet", ["person"])([values[None, None]], [placement], ANYBODY)
    assert found.keypoints is not None
    assert len(found.keypoints) == 17
    for (x, y, score), (told_y, told_x, told_score) in zip(found.keypoints, values.tolist(), strict=True):
        assert (x, y, score) == pytest.approx((told_x * 960, told_y * 960, told_score), abs=0.01)


def test_the_confidence_of_a_person_is_the_mean_of_those_keypoints_that_can_be_seen() -> None:
    values = keypoints(2)
    expected = float(values[1:, 2].mean())
    (found,) = decoder(FILE, "movenet", ["person"])([values[None, None]], [as_it_is(SIZE)], ANYBODY)
    assert found.confidence == pytest.approx(expected, abs=1e-5)
    assert (found.label, found.class_id, found.box) == ("person", 0, None)
    assert decoder(FILE, "movenet")([values[None, None]], [as_it_is(SIZE)], Limits(10, expected + 0.01)) == []


def test_where_no_keypoint_can_be_seen_there_is_nobody() -> None:
    values = np.zeros((1, 1, 17, 3), np.float32)
    assert decoder(FILE, "movenet")([values], [as_it_is(SIZE)], ALL) == []
    assert decoder(FILE, "movenet")([values], [as_it_is(SIZE)], ANYBODY)[0].confidence == 0


def test_multipose_tells_each_person_with_a_box() -> None:
    values = np.zeros((1, 6, 56), np.float32)
    for number, score in enumerate((0.5, 0.9)):
        values[0, number] = [*keypoints(number).ravel(), 0.1, 0.2, 0.5, 0.6, score]
    file = facts((1, 6, 56), size=SIZE)
    (recognition,) = families.fitting(file)
    assert (recognition.family, recognition.task) == ("movenet", "pose")
    found = decoder(file, "movenet", ["person"])([values], [as_it_is(SIZE)], ALL)
    assert [one.confidence for one in found] == pytest.approx([0.9, 0.5])
    assert found[0].box == pytest.approx((0.2 * 192, 0.1 * 192, 0.6 * 192, 0.5 * 192))
    assert found[0].keypoints is not None
    assert np.allclose(found[0].keypoints, keypoints(1)[:, [1, 0, 2]] * (192, 192, 1), atol=1e-3)


def test_an_answer_of_no_numbers_is_refused() -> None:
    values = keypoints(1)[None, None]
    values[0, 0, 3, 0] = np.nan
    with pytest.raises(InputError, match="not numbers"):
        decoder(FILE, "movenet")([values], [as_it_is(SIZE)], ANYBODY)
    with pytest.raises(ModelError, match="expected an output of shape"):
        decoder(FILE, "movenet")([values[:, :, :5]], [as_it_is(SIZE)], ANYBODY)


def test_the_shape_tells_the_family_and_what_it_takes() -> None:
    (found,) = families.fitting(FILE)
    assert (found.family, found.labels, found.resize, found.color) == ("movenet", ("person",), "letterbox", "rgb")
    assert found.normalization == ((0,), (1,))


def heat_maps() -> Floats:
    """(1, 48, 48, 17): keypoint n is in row n, column 2 n, and the first one nowhere."""
    values = np.full((1, 48, 48, 17), 0.02, np.float32)
    for number in range(1, 17):
        values[0, number, 2 * number, number] = 0.3 + 0.04 * number
    return values


def test_of_heat_maps_each_keypoint_is_in_the_middle_of_the_hottest_cell() -> None:
    file = facts((1, 48, 48, 17), size=SIZE, operators=("LOGISTIC",))
    (found,) = families.fitting(file)
    assert (found.family, found.resize, found.normalization) == ("movenet", "stretch", ((127.5,), (127.5,)))
    (seen,) = decoder(file, "movenet", ["person"])([heat_maps()], [as_it_is(SIZE)], ANYBODY)
    assert seen.keypoints is not None
    assert seen.keypoints[5] == pytest.approx((10 * 4 + 2, 5 * 4 + 2, 0.5))
    assert seen.confidence == pytest.approx(np.mean([0.3 + 0.04 * number for number in range(1, 17)]))


@pytest.mark.parametrize(("keypoints", "operator"), [(17, "CONV_2D"), (16, "LOGISTIC"), (2, "SOFTMAX")])
def test_other_maps_have_to_be_stated(keypoints: int, operator: str) -> None:
    file = facts((1, 48, 48, keypoints), size=SIZE, operators=(operator,))
    assert "movenet" not in [one.family for one in families.fitting(file)]
    assert families.stated(file, "movenet").task == "pose"
