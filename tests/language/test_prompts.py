import json
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.intake import Intake
from edge_agent.samples import Prediction, Sample
from edge_agent.sources.prompts import Prompts
from edge_agent.text_settings import Text

MACAW = Prediction("macaw", 89, 0.991)
PARENT = {"pipeline": "porch", "seq": 7}


class Asked:
    """A source of questions, and what it asks."""

    def __init__(self, **options: Any) -> None:
        source = {key: options.pop(key) for key in ("labels", "min_confidence") if key in options}
        self._source = Prompts(
            settings.PipelineSource(type="pipeline", name="porch", **source),
            Text(**options),
            "porch-pi",
            [],
        )
        self.counters = Counters()
        self._intake = Intake(self._source.capacity, self.counters, keep_newest=self._source.live)
        self._source.start(self._intake, lambda _: None)

    def follow(self, *predictions: Prediction, at: float = 0.0) -> None:
        sample = Sample(b"", captured_at=1e9 + at, captured=at, origin={})
        self._source.follow(None, sample, predictions, PARENT, may_wait=False)

    def questions(self) -> list[str]:
        self._source.stop()
        samples = [sample for [sample] in iter(self._intake.get, [])]
        return [json.loads(sample.data)["prompt"] for sample in samples if isinstance(sample.data, bytes)]


@pytest.mark.parametrize(
    ("predictions", "template", "question"),
    [
        ([MACAW], "Seen: {predictions}.", "Seen: macaw 99 %."),
        ([MACAW, MACAW], "{labels} on {pipeline} of {device_id}", "macaw on porch of porch-pi"),
        ([Prediction("temperature", None, None, value=21.456)], "{predictions}", "temperature 21.46"),
        ([Prediction(None, 3, 0.5)], "{predictions} {nothing} {", "3 50 % {nothing} {"),
    ],
)
def test_a_question_is_made_of_predictions(predictions: list[Prediction], template: str, question: str) -> None:
    asked = Asked(prompt=template)
    asked.follow(*predictions)
    assert asked.questions() == [question]


def test_questions_keep_their_distance() -> None:
    asked = Asked(prompt="{time}", min_interval="10s")
    for moment in (0.0, 9.0, 10.0):
        asked.follow(MACAW, at=moment)
    asked.questions()
    assert asked.counters.as_dict()["captured"] == 2


def test_a_newer_question_takes_the_place_of_one_that_waits() -> None:
    asked = Asked(prompt="{labels}", min_interval=0)
    asked.follow(MACAW)
    asked.follow(Prediction("dog", 1, 0.9))
    assert asked.questions() == ["dog"]
    assert asked.counters.as_dict()["dropped"]["superseded"] == 1


def test_where_nothing_is_found_nothing_is_asked() -> None:
    asked = Asked(prompt="{labels}", labels=["dog"], min_confidence=0.5)
    asked.follow()
    asked.follow(MACAW, Prediction("dog", 1, 0.3))
    assert asked.questions() == []
