from typing import Any

import pytest

from edge_agent.errors import ModelError
from edge_agent.models.bundle import Golden
from edge_agent.models.golden import Check, check, failed, least_confidence, record
from edge_agent.samples import Prediction

BUS = (100.0, 200.0, 500.0, 400.0)
PERSON = (10.0, 50.0, 60.0, 250.0)


def line(label: str = "cat", **facts: Any) -> Golden:
    return Golden.model_validate({"input": "a.jpg", "label": label, **facts})


def said(label: str, confidence: float, box: tuple[float, float, float, float] | None = None) -> Prediction:
    return Prediction(label, 0, confidence, box=box)


def only(checks: list[Check]) -> Check:
    (one,) = checks
    return one


@pytest.mark.parametrize(
    ("facts", "confidence", "right"),
    [
        ({}, 0.3, True),
        ({"min_confidence": 0.9}, 0.9, True),
        ({"min_confidence": 0.9}, 0.89, False),
        ({"confidence": 0.8}, 0.75, True),
        ({"confidence": 0.8}, 0.7499, False),
        ({"confidence": 0.8}, 0.85, True),
        ({"confidence": 0.8}, 0.8501, False),
        ({"confidence": 0.8, "tolerance": 0.2}, 0.61, True),
        ({"confidence": 0.8, "tolerance": 0.2, "min_confidence": 0.7}, 0.61, False),
    ],
)
def test_a_confidence_is_right_within_its_bounds(facts: dict[str, Any], confidence: float, right: bool) -> None:
    assert only(check([line(**facts)], [said("cat", confidence)])).right is right


def test_expected_and_found_are_told_in_words() -> None:
    one = only(check([line(confidence=0.8)], [said("cat", 0.6), said("dog", 0.3)]))
    assert one == Check("a.jpg", "cat 0.750 to 0.850", "cat 0.600", right=False)
    one = only(check([line(min_confidence=0.9)], [said("cat", 0.95), said("dog", 0.05)]))
    assert one == Check("a.jpg", "cat at least 0.900", "cat 0.950", right=True)


def test_the_most_confident_label_counts() -> None:
    one = only(check([line()], [said("dog", 0.6), said("cat", 0.4)]))
    assert (one.found, one.right) == ("cat 0.400, and dog 0.600 before it", False)
    assert only(check([line()], [said("dog", 0.48), said("cat", 0.45)])).right, "a tie, within the tolerance"
    assert not only(check([line(tolerance=0.01)], [said("dog", 0.48), said("cat", 0.45)])).right


def test_another_answer_or_none_is_wrong() -> None:
    assert only(check([line()], [said("dog", 0.9)])) == Check("a.jpg", "cat", "dog 0.900", right=False)
    assert only(check([line()], [])).found == "nothing"


def test_a_box_must_be_where_it_is_expected() -> None:
    expected = line("bus", confidence=0.9, box=BUS)
    assert only(check([expected], [said("bus", 0.9, (102.0, 201.0, 500.0, 400.0))])).right
    elsewhere = only(check([expected], [said("bus", 0.9, (102.0, 260.0, 500.0, 400.0))]))
    assert not elsewhere.right
    assert elsewhere.expected == "bus 0.850 to 0.950 at [100, 200, 500, 400]"
    assert elsewhere.found == "bus 0.900 at [102, 260, 500, 400]"
    assert only(check([line("bus", box=BUS, min_overlap=0.6)], [said("bus", 0.9, (102.0, 260.0, 500.0, 400.0))])).right
    assert not only(check([expected], [said("bus", 0.9)])).right


def test_each_object_needs_a_detection_of_its_own() -> None:
    lines = [line("person", box=PERSON), line("person", box=BUS)]
    both = [said("person", 0.9, BUS), said("person", 0.8, PERSON)]
    assert [one.right for one in check(lines, both)] == [True, True]
    assert [one.right for one in check(lines, both[:1])] == [False, True]
    same_twice = [line("person", box=PERSON), line("person", box=PERSON)]
    assert [one.right for one in check(same_twice, both[1:])] == [True, False]


def test_a_detection_that_no_line_states_is_wrong_if_it_is_more_confident_than_one_that_is() -> None:
    lines = [line("bus", box=BUS), line("person", box=PERSON)]
    found = [said("bus", 0.9, BUS), said("person", 0.6, PERSON)]
    rival = said("person", 0.7, (300.0, 0.0, 350.0, 100.0))
    assert [one.right for one in check(lines, [*found, rival])] == [True, False]
    faint = said("person", 0.64, (300.0, 0.0, 350.0, 100.0))
    assert [one.right for one in check(lines, [*found, faint])] == [True, True]


def test_a_picture_without_an_answer_fails_its_lines() -> None:
    assert failed(line(), ValueError("cut off")) == Check("a.jpg", "cat", "cut off", right=False)


def test_the_least_confidence_of_which_lines_speak() -> None:
    assert least_confidence([line(confidence=0.6), line(min_confidence=0.3)]) == 0.3
    assert least_confidence([line(confidence=0.02)]) == 0.0


def test_what_is_recorded_comes_out_right() -> None:
    predictions = [said("cat", 0.612345), said("dog", 0.3)]
    (recorded,) = record("a.jpg", "classification", predictions)
    assert recorded == line(confidence=0.6123, tolerance=0.05)
    assert only(check([recorded], predictions)).right
    boxes = [said("bus", 0.9, (99.96, 200.0, 500.0, 400.0)), said("person", 0.8, PERSON), said("person", 0.4, BUS)]
    lines = record("a.jpg", "detection", boxes)
    assert [(one.label, one.confidence, one.box) for one in lines] == [("bus", 0.9, BUS), ("person", 0.8, PERSON)]
    assert all(one.right for one in check(lines, boxes))


@pytest.mark.parametrize(
    ("task", "predictions", "sentence"),
    [
        ("detection", [], "a.jpg: can't be a golden sample: the model finds nothing there with 50%"),
        ("detection", [said("bus", 0.4, BUS)], "the model finds nothing there"),
        ("embedding", [Prediction(None, None, None, vector=(1.0,))], "recorded of labels and boxes, not of embedding"),
    ],
)
def test_what_proves_nothing_is_not_recorded(task: str, predictions: list[Prediction], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        record("a.jpg", task, predictions)
