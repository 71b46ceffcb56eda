from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from edge_agent.publish.policy import PublishPolicy, topic_of
from edge_agent.samples import Prediction
from edge_agent.settings import Publish


def seen(label: str | None, confidence: float = 0.9, **facts: Any) -> Prediction:
    return replace(Prediction(label, 0, confidence), **facts)


def published(
    results: Sequence[Sequence[Prediction]],
    *,
    task: str = "classification",
    min_confidence: float = 0.0,
    every: float = 1.0,
    **options: Any,
) -> list[int]:
    """The numbers of the results that are published, one result a second."""
    gate = PublishPolicy(Publish.model_validate(options), min_confidence, task)
    return [number for number, result in enumerate(results) if gate.allows(result, number * every)]


def labels(text: str, confidence: float = 0.9) -> list[list[Prediction]]:
    return [[] if letter == "-" else [seen(letter, confidence)] for letter in text]


def test_by_default_everything_is_published() -> None:
    assert published(labels("aab")) == [0, 1, 2]


def test_samples_that_come_out_of_order_are_published_all_the_same() -> None:
    gate = PublishPolicy(Publish(), 0.0, "classification")
    assert all(gate.allows([seen("a")], taken) for taken in (5.0, 7.0, 6.0, 5.5))


def test_on_change_publishes_the_first_result_and_every_other_label() -> None:
    assert published(labels("aaabba"), on_change=True) == [0, 3, 5]


def test_no_prediction_is_a_statement_too() -> None:
    assert published(labels("-aa--a"), on_change=True) == [0, 1, 3, 5]


def test_other_places_and_confidences_are_no_change() -> None:
    results = [[seen("a", 0.9), seen("b", 0.05)], [seen("a", 0.6), seen("c", 0.3)]]
    assert published(results, on_change=True) == [0]


def test_a_new_label_must_lead_the_old_one_by_the_hysteresis() -> None:
    results = [
        [seen("a", 0.6), seen("b", 0.4)],
        [seen("b", 0.52), seen("a", 0.48)],
        [seen("b", 0.6), seen("a", 0.4)],
        [seen("a", 0.52), seen("b", 0.48)],
    ]
    assert published(results, on_change=True) == [0, 1, 3]
    assert published(results, on_change=True, hysteresis=0.1) == [0, 2]


def test_a_label_that_is_not_listed_has_no_more_than_the_others_leave_over() -> None:
    top_1 = [[seen("a", 0.6)], [seen("b", 0.53)], [seen("b", 0.7)]]
    assert published(top_1, on_change=True, hysteresis=0.1) == [0, 2]


def test_a_label_must_be_above_the_least_confidence_by_the_hysteresis_to_appear() -> None:
    results = [[], [seen("a", 0.55)], [seen("a", 0.65)], [seen("a", 0.55)], []]
    assert published(results, on_change=True, hysteresis=0.1, min_confidence=0.5) == [0, 2, 4]


def test_labels_that_drift_slowly_are_noticed_all_the_same() -> None:
    results = [[seen("a", 0.5 + n / 100), seen("b", 0.5 - n / 100)] for n in range(10, -11, -1)]
    ordered = [sorted(result, key=lambda p: -(p.confidence or 0)) for result in results]
    assert published(ordered, on_change=True, hysteresis=0.1) == [0, 15]


def test_every_region_counts() -> None:
    def both(left: str, right: str) -> list[Prediction]:
        return [seen(left, region="left"), seen(right, region="right")]

    results = [both("1", "2"), both("1", "2"), both("1", "3"), both("0", "3"), both("0", "3")]
    assert published(results, on_change=True) == [0, 2, 3]


def test_classes_without_labels_are_told_apart_by_their_number() -> None:
    results = [[Prediction(None, number, 0.9)] for number in (3, 3, 4)]
    assert published(results, on_change=True) == [0, 2]


@pytest.mark.parametrize("task", ["detection", "segmentation", "pose"])
def test_objects_are_counted(task: str) -> None:
    cat, dog = seen("cat"), seen("dog")
    results = [[cat], [replace(cat, box=(1, 2, 3, 4))], [cat, cat], [cat, dog], [dog, cat], []]
    assert published(results, task=task, on_change=True) == [0, 2, 3, 5]


def test_an_object_that_is_hardly_seen_does_not_come_and_go() -> None:
    results = [[seen("cat", confidence)] for confidence in (0.9, 0.52, 0.55, 0.51)] + [[]]
    results += [[seen("cat", confidence)] for confidence in (0.52, 0.58, 0.61, 0.55)]
    assert published(results, task="detection", on_change=True, hysteresis=0.1, min_confidence=0.5) == [0, 4, 7]


def test_values_must_differ_by_more_than_the_hysteresis_from_the_published_one() -> None:
    results = [[Prediction(None, None, None, value=value)] for value in (10.0, 10.4, 10.8, 11.1, 10.2, 10.0)]
    assert published(results, task="regression", on_change=True) == [0, 1, 2, 3, 4, 5]
    assert published(results, task="regression", on_change=True, hysteresis=1.0) == [0, 3, 5]


def test_embeddings_are_always_something_new() -> None:
    results = [[Prediction(None, None, None, vector=(0.1, 0.2))]] * 3
    assert published(results, task="embedding", on_change=True) == [0, 1, 2]


def test_a_heartbeat_repeats_what_has_not_changed() -> None:
    assert published(labels("a" * 12), on_change=True, heartbeat=5) == [0, 5, 10]
    assert published(labels("aaabaaaaaaa"), on_change=True, heartbeat=5) == [0, 3, 4, 9]


def test_a_least_interval_leaves_out_what_comes_too_soon() -> None:
    assert published(labels("aaaaaaaa"), min_interval=3) == [0, 3, 6]
    assert published(labels("aaaaaaaa"), min_interval="2500ms") == [0, 3, 6]


def test_a_change_that_came_too_soon_is_published_later_if_it_lasts() -> None:
    assert published(labels("abbbbb"), on_change=True, min_interval=3) == [0, 3]
    assert published(labels("abaaaa"), on_change=True, min_interval=3) == [0]


def test_the_wall_clock_plays_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("time.time")
    assert published(labels("aaaa"), on_change=True, heartbeat=2) == [0, 2]


@pytest.mark.parametrize(
    ("template", "topic"),
    [
        ("home/{device_id}/{pipeline}", "home/pi/porch"),
        ("home/{label}", "home/tabby_cat"),
        ("{label}/{label}", "tabby_cat/tabby_cat"),
        ("fixed", "fixed"),
    ],
)
def test_a_topic_is_filled_in(template: str, topic: str) -> None:
    Publish(topic=template)
    assert topic_of(template, "pi", "porch", [seen("dog", 0.3), seen("tabby cat", 0.6)]) == topic


def test_labels_can_not_change_the_shape_of_a_topic() -> None:
    assert topic_of("a/{label}/b", "pi", "porch", [seen("x/+/#\n{label}")]) == "a/x_____{label}/b"
    assert topic_of("a/{label}", "pi", "porch", []) == "a/none"


@pytest.mark.parametrize(
    "template", ["a/#", "+", "", "$SYS/x", "a/{name}", "a/{label!r}", "a/{label.x}", "{", "a{{b}}"]
)
def test_a_bad_topic_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        Publish(topic=template)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"hysteresis": 0.1}, "hysteresis and heartbeat need on_change: true"),
        ({"heartbeat": 10}, "hysteresis and heartbeat need on_change: true"),
        ({"on_change": True, "heartbeat": 1, "min_interval": 5}, "heartbeat must not be shorter than min_interval"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Publish.model_validate(options)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_what_has_no_confidence_is_certain(task: str) -> None:
    results = [[Prediction(label, 1, None)] for label in ("road", "road", "grass")]
    assert published(results, task=task, on_change=True, hysteresis=0.1) == [0, 2]
