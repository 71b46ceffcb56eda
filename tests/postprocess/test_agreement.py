"""How much two models agree on what they say of the same picture."""

import pytest

from edge_agent.postprocess.agreement import agreement, by_class
from edge_agent.samples import Prediction

Box = tuple[float, float, float, float]


def said(label: str, confidence: float = 0.9, *, region: str | None = None, box: Box | None = None) -> Prediction:
    return Prediction(label, 0, confidence, region=region, box=box)


CAT, DOG = said("cat"), said("dog")
LEFT, RIGHT = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([], [], 1.0),
        ([CAT], [], 0.0),
        ([CAT, DOG], [CAT], 1.0),
        ([CAT, DOG], [DOG, CAT], 0.0),
        ([said("1", region="a"), said("2", region="b")], [said("1", region="a"), said("3", region="b")], 0.5),
    ],
)
def test_of_classifications_the_winner_of_each_region_counts(
    one: list[Prediction], other: list[Prediction], expected: float
) -> None:
    assert agreement("classification", one, other) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([], [], 1.0),
        ([said("cat", box=LEFT)], [said("cat", box=(0, 0, 10, 9))], 1.0),
        ([said("cat", box=LEFT)], [said("dog", box=LEFT)], 0.0),
        ([said("cat", box=LEFT)], [said("cat", box=RIGHT)], 0.0),
        ([said("cat", box=LEFT), said("cat", box=RIGHT)], [said("cat", box=RIGHT)], 2 / 3),
        ([said("cat", box=LEFT)], [], 0.0),
    ],
)
def test_of_detections_the_things_that_both_find_count(
    one: list[Prediction], other: list[Prediction], expected: float
) -> None:
    assert agreement("detection", one, other) == pytest.approx(expected)


def test_values_agree_within_a_tenth_and_vectors_are_not_compared() -> None:
    values = [Prediction("t", 0, None, value=value) for value in (10.0, 10.5, 20.0)]
    assert agreement("regression", values[:1], values[1:2]) == 1.0
    assert agreement("regression", values[:1], values[2:]) == 0.0
    vectors = [Prediction(None, None, None, vector=vector) for vector in ((1.0, 0.0), (0.0, 1.0))]
    assert agreement("embedding", vectors[:1], vectors[1:]) == 1.0


@pytest.mark.parametrize(
    ("labels", "others", "expected"),
    [
        (("tench", "goldfish"), ("tench, Tinca tinca", "goldfish, Carassius auratus"), True),
        (("tench", "goldfish"), (), True),
        (("tench", "goldfish"), ("tench", "goldfish"), False),
        (("tench", "goldfish"), ("goldfish", "tench"), False),
        (("tench", "goldfish"), ("background", "tench", "goldfish"), False),
    ],
)
def test_models_with_as_many_but_other_labels_are_compared_by_class(
    labels: tuple[str, ...], others: tuple[str, ...], expected: bool
) -> None:
    assert by_class(labels, others) is expected


def test_the_spelling_of_labels_is_no_disagreement_by_class() -> None:
    for task, box in ("classification", None), ("detection", LEFT), ("multilabel", None):
        one, other = [said("tench", box=box)], [said("tench, Tinca tinca", box=box)]
        assert agreement(task, one, other) == 0.0
        assert agreement(task, one, other, classes=True) == 1.0
        assert agreement(task, one, [Prediction("tench", 1, 0.9, box=box)], classes=True) == 0.0
