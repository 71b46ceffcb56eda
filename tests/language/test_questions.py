import json
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.errors import InputError
from edge_agent.language.questions import PredictionQuestions, PromptTemplate, ReadingQuestions, Trend
from edge_agent.samples import Prediction, Sample, Series
from edge_agent.settings.text import Text
from edge_agent.sources.observer import Observation
from edge_agent.sources.pipeline import PipelineSource, questions
from edge_agent.sources.queue import SampleQueue
from tests.settlements import ended

MACAW = Prediction("macaw", 89, 0.991)
PARENT = {"pipeline": "porch", "seq": 7}


def prompt_of(sample: Sample) -> str:
    assert isinstance(sample.data, bytes)
    return str(json.loads(sample.data)["prompt"])


class Asked:
    """A source of questions about another pipeline, and what it asks."""

    def __init__(self, **options: Any) -> None:
        stated = {key: options.pop(key) for key in ("labels", "min_confidence") if key in options}
        source = settings.PipelineSource(type="pipeline", name="porch", **stated)
        self._source = PipelineSource(
            source,
            [],
            partial(questions, PredictionQuestions(PromptTemplate(Text(**options), "porch-pi"))),
            live=True,
            needs_image=False,
        )
        self.counters = Counters()
        self._queue = SampleQueue(self._source.capacity, self.counters, keep_newest=self._source.live)
        self._source.start(self._queue, lambda _: None)

    def follow(self, *predictions: Prediction, at: float = 0.0) -> None:
        sample = Sample(b"", captured_at=1e9 + at, captured=at, origin={})
        self._source.on_result(Observation("porch", 7, sample, predictions, None, may_block=True))

    def questions(self) -> list[str]:
        self._source.stop()
        return [prompt_of(sample) for [sample] in iter(lambda: ended(self._queue.get()), [])]


@pytest.mark.parametrize(
    ("predictions", "template", "question"),
    [
        ([MACAW], "Seen: {predictions}.", "Seen: macaw 99 %."),
        ([MACAW, MACAW], "{labels} on {pipeline} of {device_id}", "macaw on porch of porch-pi"),
        ([Prediction("temperature", None, None, value=21.456)], "{predictions}", "temperature 21.46"),
        ([Prediction("temperature", None, None, value=21456)], "{predictions}", "temperature 21460"),
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


def readings(*rows: Sequence[float], names: tuple[str, ...] = ("temperature", "humidity"), at: float = 0.0) -> Sample:
    values = np.array(rows, np.float32)
    return Sample(Series(values, names), captured_at=1e9 + at, captured=at, origin={"port": "ttyUSB0"})


def test_a_question_is_about_all_readings_since_the_one_before() -> None:
    ask = ReadingQuestions(PromptTemplate(Text(prompt="{pipeline}: {readings}", min_interval="10s"), "pi"), "shed")
    assert ask(readings((19.8, 40), (20.4, 40))) == []
    assert ask(readings((21.1, 41), at=9.9)) == []
    [first] = ask(readings((21.5, 40), at=10.0))
    assert prompt_of(first) == "shed: temperature 21.5 rising from 19.8, humidity 40 steady"
    assert first.origin["port"] == "ttyUSB0"
    assert first.origin["readings"][0] == {"label": "temperature", "first": 19.8, "last": 21.5, "count": 4}
    assert ask(readings((21.0, 50), at=15.0)) == []
    [second] = ask(readings((20.0, 60), at=20.0))
    assert prompt_of(second) == "shed: temperature 20 falling from 21, humidity 60 rising from 50"


def test_readings_without_names_are_told_without() -> None:
    ask = ReadingQuestions(PromptTemplate(Text(prompt="{readings}", min_interval=0), "pi"), "shed")
    [question] = ask(readings((1, 2), (2, 2), names=()))
    assert prompt_of(question) == "2 rising from 1, 2 steady"


def test_what_is_no_reading_comes_back_to_be_told() -> None:
    ask = ReadingQuestions(PromptTemplate(Text(prompt="{readings}"), "pi"), "shed")
    sample = Sample(InputError("no numbers in it"), captured_at=0.0, captured=0.0, origin={})
    assert ask(sample) == [sample]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([5.0], "5 steady"),
        ([5.0, 5.0001], "5 steady"),
        ([5.0, 6.0], "6 rising from 5"),
        ([1013, 1012, 1010, 1011, 1009], "1009 falling from 1013"),
        ([0, 9, 1, 8, 2, 7, 3, 6, 4], "4 steady"),
        ([10, *range(10), 11], "11 rising from 10"),
        ([5, *range(10), 4], "4 steady"),
        ([-0.5, -2.25], "-2.25 falling from -0.5"),
    ],
)
def test_a_trend_is_one_only_where_the_readings_follow_it(values: list[float], words: str) -> None:
    trend = Trend()
    trend.add(np.array(values[:1], np.float32))
    trend.add(np.array(values[1:], np.float32))
    assert trend.in_words() == words


def test_small_changes_of_large_readings_are_seen() -> None:
    trend = Trend()
    trend.add(1e5 + np.linspace(0, 300, 100_000, dtype=np.float32))
    assert trend.in_words() == "100300 rising from 100000"
    assert math.isclose(trend.as_dict("pressure")["last"], 100300)
