"""What a pipeline asks its language model of its own accord: a template, filled in with what was found or measured."""

import json
import math
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from edge_agent.samples import Prediction, Sample, Series
from edge_agent.settings.text import Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Predictions, or channels, that a question tells of.
MAX_TOLD = 20
# How much of a rise or a fall readings must show to be called one: their correlation with time, 0 to 1.
CLEAR = 0.5


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The template of a pipeline's prompts.

    Attributes:
        text: settings of the pipeline; `text.prompt` is the template.
        device_id: fills in `{device_id}`.
    """

    text: Text
    device_id: str

    def fill(self, captured_at: float, words: Mapping[str, str], origin: Mapping[str, Any]) -> Sample:
        """Makes a request for the language model.

        Args:
            captured_at: capture time of what the prompt is about, in seconds since the epoch.
            words: what replaces `{name}` in the template, by name.
            origin: facts about what the prompt is about.
        """
        local = datetime.fromtimestamp(captured_at).astimezone()
        known = {"device_id": self.device_id, "time": local.strftime("%H:%M"), **words}
        prompt = re.sub(r"\{(\w+)\}", lambda name: known.get(name[1], name[0]), self.text.prompt or "")
        return Sample(
            json.dumps({"prompt": prompt}).encode(),
            captured_at=captured_at,
            captured=time.monotonic(),  # a deadline counts from the question
            origin=origin,
        )


class PredictionQuestions:
    """Makes questions about what another pipeline finds; none where nothing is found, or too soon after another.

    Args:
        template: of the prompts.
    """

    def __init__(self, template: PromptTemplate) -> None:
        self._template = template
        self._asked: float | None = None

    def __call__(self, sample: Sample, predictions: Sequence[Prediction], parent: Mapping[str, Any]) -> list[Sample]:
        """The question, if it is time for one.

        Args:
            sample: what the other pipeline's result is about.
            predictions: in it.
            parent: that pipeline's name, and the `seq` of its result.
        """
        too_soon = self._asked is not None and sample.captured - self._asked < self._template.text.min_interval
        if not predictions or too_soon:
            return []
        self._asked = sample.captured
        told = predictions[:MAX_TOLD]
        words = {
            "predictions": ", ".join(map(in_words, told)),
            "labels": ", ".join(dict.fromkeys(one.name for one in told)),
            "pipeline": parent["pipeline"],
        }
        origin = {"parent": {**parent, "predictions": [one.as_dict() for one in told]}}
        return [self._template.fill(sample.captured_at, words, origin)]


class ReadingQuestions:
    """Makes of a stream of readings one question in every `min_interval`, about the readings since the one before.

    Args:
        template: of the prompts.
        pipeline: its name.
    """

    def __init__(self, template: PromptTemplate, pipeline: str) -> None:
        self._template = template
        self._pipeline = pipeline
        self._began: float | None = None
        self._trends: dict[tuple[int, str], Trend] = {}
        # Of a live source that hangs, a second thread may read while the first is left behind.
        self._lock = threading.Lock()

    def __call__(self, sample: Sample) -> list[Sample]:
        """The question, if it is time for one; what is no reading comes back as it is."""
        if not isinstance(sample.data, Series):
            return [sample]
        with self._lock:
            self._add(sample.data)
            self._began = sample.captured if self._began is None else self._began
            if sample.captured - self._began < self._template.text.min_interval:
                return []
            told = dict(list(self._trends.items())[:MAX_TOLD])
            self._began, self._trends = sample.captured, {}
        words = {
            "readings": ", ".join(f"{name} {trend.in_words()}".lstrip() for (_, name), trend in told.items()),
            "pipeline": self._pipeline,
        }
        facts = [trend.as_dict(name) for (_, name), trend in told.items()]
        return [self._template.fill(sample.captured_at, words, {**sample.origin, "readings": facts})]

    def _add(self, series: Series) -> None:
        columns = range(series.values.shape[1])
        for key in zip(columns, series.channels or ("",) * len(columns), strict=True):
            self._trends.setdefault(key, Trend()).add(series.values[:, key[0]])


class Trend:
    """How the readings of a channel go, kept in a few numbers however many they are."""

    def __init__(self) -> None:
        self._count = 0
        self._first = self._last = 0.0
        # Of the readings' differences from the first: their sum, that of their squares, and that of them times time.
        self._sum = self._squares = self._moments = 0.0

    def add(self, values: "NDArray[np.float32]") -> None:
        """Takes readings, (n,); those before them were earlier."""
        for value in values.tolist():
            self._first = value if self._count == 0 else self._first
            away = value - self._first
            self._sum += away
            self._squares += away * away
            self._moments += away * self._count
            self._count += 1
            self._last = value

    def in_words(self) -> str:
        """`21.5 rising from 19.8`, `19.8 falling from 21.5`, or `20.4 steady`, with the last reading first."""
        first, last = number_in_words(self._first), number_in_words(self._last)
        if first == last or abs(self._correlation()) < CLEAR or self._correlation() * (self._last - self._first) < 0:
            return f"{last} steady"
        return f"{last} {'rising' if self._last > self._first else 'falling'} from {first}"

    def as_dict(self, name: str) -> dict[str, Any]:
        """As published."""
        facts = {"first": float(f"{self._first:.7g}"), "last": float(f"{self._last:.7g}"), "count": self._count}
        return ({"label": name} if name else {}) | facts

    def _correlation(self) -> float:
        """With time; 0 where all readings are the same. https://en.wikipedia.org/wiki/Pearson_correlation_coefficient."""
        n = self._count
        spread = (n * self._squares - self._sum**2) * (n**2 * (n**2 - 1) / 12)
        return (n * self._moments - n * (n - 1) / 2 * self._sum) / math.sqrt(spread) if spread > 0 else 0.0


def in_words(prediction: Prediction) -> str:
    """`macaw 99 %`, or `temperature 21.5`, or the label alone."""
    if prediction.value is not None:
        number = number_in_words(prediction.value)
        return number if prediction.label is None else f"{prediction.label} {number}"
    if prediction.confidence is None:
        return prediction.name
    return f"{prediction.name} {prediction.confidence:.0%}".replace("%", " %")


def number_in_words(value: float) -> str:
    """With four digits that count, and no exponent: a small model takes 1.2e+04 for 1.2."""
    return f"{Decimal(f'{value:.4g}'):f}"
