"""What labels of the data may mean."""

import pytest

from edge_agent.errors import ModelError
from edge_agent.fitting.names import BACKGROUND, Naming, namings


def of(used: list[str], declared: list[str], known: list[str] | None, count: int | None) -> list[Naming]:
    return namings(used, declared, known, count)


def test_labels_are_classes_by_their_names() -> None:
    (one,) = of(["Hen", "tench"], [], ["tench, Tinca tinca", "hen"], 2)
    assert (one.classes, one.labels) == ({"Hen": 1, "tench": 0}, None)


def test_a_list_with_a_background_too_many_or_too_few_is_shifted() -> None:
    (more,) = of(["cat"], [], [BACKGROUND, "cat", "dog"], 2)
    assert (more.classes, more.labels) == ({"cat": 0}, ("cat", "dog"))
    (fewer,) = of(["cat"], [], ["cat", "dog"], 3)
    assert (fewer.classes, fewer.labels) == ({"cat": 1}, (BACKGROUND, "cat", "dog"))


def test_numbers_may_count_from_one_or_leave_out_a_background() -> None:
    found = of(["1", "2"], [], None, 3)
    assert [one.classes["1"] for one in found] == [1, 0]
    assert found[0].labels is None
    assert found[1].labels == ("1", "2", "3")
    assert [one.classes["0"] for one in of(["0", "1"], [], None, 3)] == [0, 1]


def test_names_that_the_model_does_not_have_are_tried_in_the_usual_orders() -> None:
    found = of(["b", "a", "C"], ["b", "a", "C"], None, 3)
    assert [one.labels for one in found] == [("b", "a", "C"), ("C", "a", "b"), ("a", "b", "C")]
    with_background = of(["b", "a"], ["b", "a"], None, 3)
    assert {one.labels for one in with_background} == {(BACKGROUND, "b", "a"), (BACKGROUND, "a", "b")}


def test_labels_that_mean_no_class_are_named() -> None:
    with pytest.raises(ModelError, match="1 labels of the data are none of the model's 2: bird"):
        of(["cat", "bird"], [], ["cat", "dog"], 2)
    with pytest.raises(ModelError, match="state --labels FILE"):
        of(["cat", "bird"], ["cat", "bird"], None, 1000)
