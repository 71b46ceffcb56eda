import time
from collections.abc import Sequence

import numpy as np

from edge_agent.postprocess.smoothing import LabelInterval, Smoother
from edge_agent.samples import Prediction, Sample, Series
from edge_agent.settings.series import Smoothing

NOTHING = np.zeros((1, 1), np.float32)


def sample(position: float, topic: str = "hall", *, gap: bool = False) -> Sample:
    return Sample(Series(NOTHING, gap=gap), time.time(), 1000 + position, {"topic": topic, "position_s": position})


def said(**confidences: float) -> list[Prediction]:
    return [Prediction(label, number, value) for number, (label, value) in enumerate(confidences.items())]


def run(smoother: Smoother, cries: Sequence[float], step: float = 0.5) -> tuple[list[str], list[LabelInterval]]:
    """The labels that win, and what begins and ends, as a cry comes and goes."""
    winners, intervals = [], []
    for number, cry in enumerate(cries):
        found, events = smoother.update(said(quiet=1 - cry, cry=cry), sample(number * step))
        winners.append(found[0].label or "")
        intervals += events
    return winners, intervals


def test_one_window_that_says_something_else_is_outvoted() -> None:
    winners, intervals = run(Smoother(Smoothing(over=5)), [0, 0, 0, 1, 0, 0, 0])
    assert set(winners) == {"quiet"}
    assert [(one.kind, one.label) for one in intervals] == [("start", "quiet")]


def test_confidences_are_averages() -> None:
    smoother = Smoother(Smoothing(over=4))
    for cry in (0.0, 0.4, 0.8):
        found, _ = smoother.update(said(cry=cry), sample(0.0))
    assert round(found[0].confidence or 0, 6) == 0.4


def test_by_majority_each_result_has_one_vote_however_sure_it_is() -> None:
    cries = [0.51, 0.51, 0.0, 0.51]
    winners, _ = run(Smoother(Smoothing(over=4)), cries)
    assert winners[-1] == "quiet"
    smoother = Smoother(Smoothing(over=4, by="majority", on=0.7))
    winners, intervals = run(smoother, cries)
    assert winners == ["cry"] * 4
    assert [(one.kind, one.time) for one in intervals if one.label == "cry"] == [
        ("start", 1000.0),
        ("end", 1001.0),
        ("start", 1001.5),
    ]
    found, _ = smoother.update([], sample(2.0))
    assert found == []


def test_what_holds_begins_and_ends_once_with_how_long_it_lasted() -> None:
    _, intervals = run(Smoother(Smoothing(over=1, on=0.6, off=0.3)), [0, 0.7, 0.5, 0.4, 0.9, 0.2, 0])
    cries = [one for one in intervals if one.label == "cry"]
    assert [(one.kind, one.seconds, one.time) for one in cries] == [("start", 0, 1000.5), ("end", 2.0, 1002.5)]
    assert cries[1].confidence == 0.9
    assert cries[1].as_dict() == {
        "event": "end",
        "seconds": 2.0,
        "label": "cry",
        "class_id": 1,
        "confidence": 0.9,
        "topic": "hall",
    }


def test_what_holds_too_shortly_is_not_told() -> None:
    options = Smoothing(over=1, min_duration=1.0)
    _, intervals = run(Smoother(options), [0, 1, 1, 0, 0, 1, 1, 1, 0])
    assert [(one.kind, one.seconds) for one in intervals if one.label == "cry"] == [("start", 0), ("end", 1.5)]


def test_a_gap_ends_what_holds_and_forgets_what_was_said() -> None:
    smoother = Smoother(Smoothing(over=10))
    run(smoother, [1, 1, 1])
    found, intervals = smoother.update(said(quiet=0.9, cry=0.1), sample(0.0, gap=True))
    assert [(one.kind, one.label) for one in intervals] == [("end", "cry"), ("start", "quiet")]
    assert found[0].confidence == 0.9


def test_each_topic_is_steadied_by_itself() -> None:
    smoother = Smoother(Smoothing(over=2))
    smoother.update(said(cry=1.0), sample(0.0, "hall"))
    found, _ = smoother.update(said(cry=0.0), sample(0.0, "yard"))
    assert found[0].confidence == 0
