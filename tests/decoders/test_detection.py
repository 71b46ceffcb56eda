from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.decoders import Limits
from edge_agent.decoders.detection import MAX_CANDIDATES, Candidates, Detector
from edge_agent.errors import InputError, ModelError
from edge_agent.preprocess.placement import Placement, place
from tests.decoders.scenes import ALL, Floats, as_it_is


class Told:
    """Reads rows of x1, y1, x2, y2, score, class."""

    def __call__(self, item: Sequence[NDArray[Any]], _: float) -> Candidates:
        rows = item[0]
        return Candidates(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.intp), rows[:, 6:])


def rows(*values: Sequence[float]) -> list[Floats]:
    """One output, a batch of one."""
    return [np.array([values], np.float32).reshape(1, -1, 6)]


DETECTOR = Detector(Told(), ("cat", "dog"))
CAT = (10, 10, 30, 30, 0.9, 0)
SAME_CAT = (11, 10, 31, 30, 0.8, 0)
DOG = (11, 11, 30, 31, 0.7, 1)


def test_of_boxes_that_overlap_the_best_of_a_class_stays() -> None:
    found = DETECTOR(rows(DOG, SAME_CAT, CAT), [as_it_is()], ALL)
    assert [one.as_dict() for one in found] == [
        {"label": "cat", "class_id": 0, "confidence": 0.9, "box": [10, 10, 30, 30]},
        {"label": "dog", "class_id": 1, "confidence": 0.7, "box": [11, 11, 30, 31]},
    ]


def test_classes_suppress_each_other_where_that_is_asked_for() -> None:
    found = DETECTOR(rows(DOG, SAME_CAT, CAT), [as_it_is()], replace(ALL, class_agnostic=True))
    assert [one.label for one in found] == ["cat"]


def test_more_overlap_can_be_allowed() -> None:
    found = DETECTOR(rows(DOG, SAME_CAT, CAT), [as_it_is()], replace(ALL, max_overlap=0.99))
    assert [one.label for one in found] == ["cat", "cat", "dog"]


def test_a_model_that_suppresses_overlaps_itself_is_taken_at_its_word() -> None:
    found = Detector(Told(), ("cat", "dog"), overlapping=False)(rows(DOG, SAME_CAT, CAT), [as_it_is()], ALL)
    assert [one.confidence for one in found] == pytest.approx([0.9, 0.8, 0.7])


def test_a_confidence_is_never_above_1() -> None:
    (found,) = DETECTOR(rows((*CAT[:4], 1.003, 0)), [as_it_is()], ALL)
    assert found.confidence == 1


def test_boxes_are_clipped_to_the_picture_and_those_outside_of_it_do_not_count() -> None:
    outside = (70, 10, 90, 30, 0.95, 0)
    found = DETECTOR(rows(outside, (-5, -5, 80, 20, 0.9, 0)), [as_it_is()], replace(ALL, top_k=1))
    assert [one.box for one in found] == [(0, 0, 64, 20)]


def test_what_lies_in_the_padding_is_not_in_the_picture() -> None:
    placement = place(None, (0, 0), (640, 320), (640, 320), (64, 64), "letterbox")
    found = DETECTOR(rows((10, 33, 20, 48, 0.9, 0), (10, 22, 20, 34, 0.8, 0)), [placement], ALL)
    assert [one.box for one in found] == [(100, 220, 200, 320)]


def test_without_labels_classes_have_numbers() -> None:
    (found,) = Detector(Told(), None)(rows((*CAT[:5], 7)), [as_it_is()], ALL)
    assert (found.label, found.class_id) == ("7", 7)


@pytest.mark.parametrize("class_id", [2, -1])
def test_a_class_that_has_no_label_shows_that_the_labels_are_wrong(class_id: int) -> None:
    with pytest.raises(ModelError, match=rf"the model says class {class_id}, and there are 2 labels \(0 to 1\)"):
        DETECTOR(rows((*CAT[:5], class_id)), [as_it_is()], ALL)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_box_of_no_numbers_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="not numbers"):
        DETECTOR(rows((10, value, 30, 30, 0.9, 0)), [as_it_is()], ALL)


def test_a_box_beyond_all_measure_is_clipped_like_another() -> None:
    (found,) = DETECTOR(rows((-3e38, -3e38, 3e38, 3e38, 0.9, 0)), [as_it_is()], ALL)
    assert found.box == (0, 0, 64, 64)


def test_the_number_of_candidates_is_bounded() -> None:
    random = np.random.default_rng(1)
    corners = random.uniform(0, 60, (20_000, 2)).astype(np.float32)
    scores, classes = random.uniform(0, 1, (20_000, 1)), np.zeros((20_000, 1))
    values = np.concatenate([corners, corners + 0.01, scores, classes], axis=1).astype(np.float32)
    found = DETECTOR([values[None]], [as_it_is()], Limits(100_000, 0))
    assert 0 < len(found) <= MAX_CANDIDATES


def test_an_output_that_is_no_batch_of_the_pictures_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected outputs for 2 pictures, found one of shape \[1, 1, 6\]"):
        DETECTOR(rows(CAT), [as_it_is(), as_it_is()], ALL)


def test_details_are_asked_for_only_of_what_is_told() -> None:
    def named(found: Candidates, item: Sequence[NDArray[Any]], placement: Placement) -> Iterator[dict[str, Any]]:
        yield from ({"area": round(100 * score)} for score in found.scores.tolist())

    found = replace(DETECTOR, task="segmentation", details=named)(rows(DOG, SAME_CAT, CAT), [as_it_is()], ALL)
    assert [one.area for one in found] == [90, 70]
