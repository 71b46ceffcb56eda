"""How far two models agree: what is the same, what is tied, what is not."""

from edge_agent.quantization.agreement import LEAST, TIE, Agreement, agreement
from edge_agent.samples import Prediction

BOX = (10.0, 10.0, 50.0, 50.0)


def scores(*confidences: float) -> list[Prediction]:
    found = [Prediction(str(number), number, confidence) for number, confidence in enumerate(confidences)]
    return sorted(found, key=lambda one: -(one.confidence or 0))


def thing(confidence: float, box: tuple[float, float, float, float] = BOX, class_id: int = 0) -> Prediction:
    return Prediction(str(class_id), class_id, confidence, box=box)


def of_objects(old: list[Prediction], new: list[Prediction]) -> Agreement:
    return agreement("detection", [old], [new])


def test_a_label_as_good_as_tied_counts_as_such() -> None:
    old = scores(0.40, 0.36, 0.20)
    new = [scores(0.5, 0.3, 0.2), scores(0.3, 0.5, 0.2), scores(0.2, 0.3, 0.5), [Prediction("x", 99, 0.9)]]
    found = agreement("classification", [old] * 4, new)
    assert (found.unit, found.compared, found.same, found.tied) == ("samples", 4, 1, 1)
    assert found.share == 0.5


def test_an_object_is_the_same_with_its_label_in_its_place() -> None:
    assert of_objects([thing(0.9)], [thing(0.8)]).same == 1
    assert of_objects([thing(0.9)], [thing(0.9, class_id=1)]).share == 0
    assert of_objects([thing(0.9)], [thing(0.9, box=(30, 30, 70, 70))]).share == 0


def test_what_is_missing_and_what_is_added_both_count() -> None:
    assert (of_objects([thing(0.9)], []).compared, of_objects([thing(0.9)], []).share) == (1, 0)
    assert (of_objects([], [thing(0.9)]).compared, of_objects([], [thing(0.9)]).share) == (1, 0)


def test_an_object_near_the_limit_of_confidence_is_tied() -> None:
    for old, new in (
        ([thing(0.9)], [thing(LEAST - TIE)]),
        ([thing(LEAST + TIE / 2)], []),
        ([], [thing(LEAST + TIE / 2)]),
    ):
        found = of_objects(old, new)
        assert (found.compared, found.same, found.tied) == (1, 0, 1)
    assert of_objects([thing(LEAST - TIE / 2)], []).compared == 0


def test_each_object_has_a_counterpart_of_its_own() -> None:
    assert of_objects([thing(0.9), thing(0.8)], [thing(0.9)]).same == 1


def test_nothing_compared_is_no_agreement() -> None:
    assert of_objects([], []).share == 0
