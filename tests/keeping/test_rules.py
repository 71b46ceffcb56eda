"""Which samples are kept, and how many."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.keeping.rules import Budget, Reason, Rules, Seen
from edge_agent.preprocess.image import Preprocess
from edge_agent.samples import Prediction, Sample, Timing
from edge_agent.sources.observer import Observation, Work

CAT, DOG = Prediction("cat", 0, 0.55), Prediction("dog", 1, 0.45)
PREPROCESS = Preprocess(8, 8, "stretch", "rgb", "nhwc", "uint8", (0.0,), (1.0,))
BOX = (0.0, 0.0, 10.0, 10.0)


def observed(*predictions: Prediction, task: str = "classification", captured: float = 0.0, **work: Any) -> Observation:
    facts: Any = {"model": {}, "sha256": "", "preprocess": PREPROCESS, "facts": {}, "timing": Timing()}
    done = Work(task=task, decoded=predictions, **facts, **work)
    return Observation("porch", 1, Sample(b"", captured, captured, {}), predictions, None, may_block=False, work=done)


def reasons(observation: Observation, others: Sequence[Prediction] | None = None, **options: Any) -> list[Reason]:
    return Rules(settings.KeepRules.model_validate(options), draw=lambda: 0.3).reasons(result(observation), others)


def result(observation: Observation) -> Seen:
    return Seen(observation.sample, observation.seq, observation.predictions, observation.work, 0)


TRACKED = Prediction("cat", 0, 0.5, box=BOX, track_id=7)
SCORE = Prediction("normal", None, None, value=0.95)
ANSWER = {"text": "none", "finish_reason": "refused", "probability": {"least": 0.05, "mean": 0.6}}


@pytest.mark.parametrize(
    ("kept", "seen", "options"),
    [
        (["confidence"], observed(CAT, DOG), {"confidence": [0.5, 0.6]}),
        ([], observed(CAT, DOG), {"confidence": [0.4, 0.5]}),  # of a classification the best counts
        (["confidence"], observed(CAT, DOG, task="detection"), {"confidence": [0.4, 0.5]}),
        ([], observed(CAT), {"confidence": [0.0, 1.0], "labels": {"cat": [0.0, 0.1]}}),
        (["confidence"], observed(CAT), {"labels": {"cat": [0.5, 0.6]}}),
        ([], observed(DOG), {"labels": {"cat": [0.0, 1.0]}}),
        (["margin"], observed(CAT, DOG), {"margin": 0.11}),
        ([], observed(CAT, DOG), {"margin": 0.09}),
        ([], observed(CAT), {"margin": 1.0}),
        (["anomaly"], observed(SCORE, task="anomaly", threshold=1.0), {"anomaly": 0.1}),
        ([], observed(SCORE, task="anomaly", threshold=2.0), {"anomaly": 0.1}),
        ([], observed(SCORE, task="anomaly"), {"anomaly": 0.1}),
        (["probability"], observed(task="text", answer=ANSWER), {"least_probability": [0, 0.1]}),
        (["probability"], observed(task="text", answer=ANSWER), {"mean_probability": [0.5, 0.7]}),
        ([], observed(task="text", answer=ANSWER), {"least_probability": [0.1, 1], "mean_probability": [0, 0.5]}),
        (["finish_reason"], observed(task="text", answer=ANSWER), {"finish_reason": ["refused"]}),
        ([], observed(task="text", answer=ANSWER), {"finish_reason": ["length"], "confidence": [0, 1]}),
        (["event"], observed(CAT, events=[{"event": "leave"}]), {"event": ["leave"]}),
        ([], observed(CAT, events=[{"event": "enter"}]), {"event": ["leave"]}),
        (["random"], observed(), {"random": 0.31}),
        ([], observed(), {"random": 0.3}),
        (["margin", "random"], observed(CAT, DOG), {"margin": 0.5, "random": 1}),
        ([], observed(CAT, DOG), {}),
    ],
)
def test_a_rule_keeps(kept: list[str], seen: Observation, options: dict[str, Any]) -> None:
    assert reasons(seen, **options) == kept


def test_models_that_disagree_keep_the_sample() -> None:
    assert reasons(observed(CAT), [DOG], disagreement=0.5) == ["disagreement"]
    assert reasons(observed(CAT), [CAT], disagreement=0.5) == []
    assert reasons(observed(CAT), None, disagreement=0.5) == []


def test_a_label_that_flickers_keeps_the_sample_once_for_each_time() -> None:
    rules = Rules(settings.KeepRules(flicker=3))

    def seen(label: str, captured: float) -> bool:
        one = Prediction(label, 0, 0.5, box=BOX, track_id=7)
        return rules.reasons(result(observed(one, task="detection", captured=captured))) == ["flicker"]

    assert [seen(label, at) for at, label in enumerate("aababbab")] == [False] * 4 + [True, False, False, False]
    # Changes that lie further apart are none.
    assert not any(seen(label, 100 + 6.0 * at) for at, label in enumerate("abababab"))


def test_ten_million_offers_in_an_hour_are_bounded_and_no_rule_crowds_out_the_others() -> None:
    clock = iter(range(10_000_000))
    budget = Budget(per_hour=100, max_share=0.5, now=lambda: next(clock) * 3600 / 10_000_000)
    taken, refused = Counter[str](), Counter[str]()
    for number in range(200_000):  # of the first minutes
        reason, why = budget.take(["confidence"] if number % 10 else ["random"])
        taken[reason or ""] += 1
        refused[why] += 1
    assert taken == {"confidence": 50, "random": 50, "": 199_900}
    assert refused["rate"] + refused["share"] == 199_900


def test_room_comes_back_after_an_hour_on_a_clock_that_never_jumps() -> None:
    now = 0.0
    budget = Budget(per_hour=2, max_share=1, now=lambda: now)
    assert [budget.take(["random"])[0] for _ in range(3)] == ["random", "random", None]
    assert budget.take(["command"]) == ("command", "")
    now = 3600.0
    assert budget.take(["random"]) == ("random", "")
