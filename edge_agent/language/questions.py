"""Prompts that a pipeline makes itself: a template, filled in with predictions or readings."""

import json
import math
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from edge_agent.samples import Prediction, Sample, Series
from edge_agent.settings.text import Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Predictions, or channels, that a prompt contains at most.
MAX_ITEMS = 20
# Readings rise or fall if the absolute value of their correlation with time is at least this; else they are steady.
MIN_CORRELATION = 0.5


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
        local = time.strftime("%H:%M", time.localtime(captured_at))
        known = {"device_id": self.device_id, "time": local, **words}
        prompt = re.sub(r"\{(\w+)\}", lambda name: known.get(name[1], name[0]), self.text.prompt or "")
        return Sample(
            json.dumps({"prompt": prompt}).encode(),
            captured_at=captured_at,
            captured=time.monotonic(),  # the deadline counts from here
            origin=origin,
        )


class PredictionQuestions:
    """Makes prompts about the predictions of another pipeline: none if there are none, or within `min_interval`.

    Args:
        template: of the prompts.
    """

    def __init__(self, template: PromptTemplate) -> None:
        self._template = template
        self._asked: float | None = None

    def __call__(self, sample: Sample, predictions: Sequence[Prediction], parent: Mapping[str, Any]) -> list[Sample]:
        """The prompt, or nothing.

        Args:
            sample: the sample of the other pipeline.
            predictions: its result.
            parent: that pipeline's name, and the `seq` of its result.
        """
        too_soon = self._asked is not None and sample.captured - self._asked < self._template.text.min_interval
        if not predictions or too_soon:
            return []
        self._asked = sample.captured
        named = predictions[:MAX_ITEMS]
        words = {
            "predictions": ", ".join(map(in_words, named)),
            "labels": ", ".join(dict.fromkeys(one.name for one in named)),
            "pipeline": parent["pipeline"],
        }
        origin = {"parent": {**parent, "predictions": [one.as_dict() for one in named]}}
        return [replace(self._template.fill(sample.captured_at, words, origin), senders=sample.senders)]


class ReadingQuestions:
    """Makes one prompt per `min_interval` from a stream of readings, about the readings since the last prompt.

    Args:
        template: of the prompts.
        pipeline: name of the pipeline.
    """

    def __init__(self, template: PromptTemplate, pipeline: str) -> None:
        self._template = template
        self._pipeline = pipeline
        self._began: float | None = None
        self._trends: dict[tuple[int, str], Trend] = {}
        # A live source that hangs is read by a second thread while the first one is still there.
        self._lock = threading.Lock()

    def __call__(self, sample: Sample) -> list[Sample]:
        """The prompt, or nothing. A sample that is not readings is returned unchanged.

        Readings are done with the prompt that they are in, or at once if another one follows.
        """
        if not isinstance(sample.data, Series):
            return [sample]
        with self._lock:
            self._add(sample.data)
            self._began = sample.captured if self._began is None else self._began
            if sample.captured - self._began < self._template.text.min_interval:
                sample.settlement.done()
                return []
            trends = dict(list(self._trends.items())[:MAX_ITEMS])
            self._began, self._trends = sample.captured, {}
        words = {
            "readings": ", ".join(f"{name} {trend.in_words()}".lstrip() for (_, name), trend in trends.items()),
            "pipeline": self._pipeline,
        }
        facts = [trend.as_dict(name) for (_, name), trend in trends.items()]
        prompt = self._template.fill(sample.captured_at, words, {**sample.origin, "readings": facts})
        return [replace(prompt, settlement=sample.settlement, senders=sample.senders)]

    def _add(self, series: Series) -> None:
        columns = range(series.values.shape[1])
        for key in zip(columns, series.channels or ("",) * len(columns), strict=True):
            self._trends.setdefault(key, Trend()).add(series.values[:, key[0]])


class Trend:
    """Whether the readings of a channel rise or fall, in constant memory."""

    def __init__(self) -> None:
        self._count = 0
        self._first = self._last = 0.0
        # Sums over the differences from the first reading: of d, of d squared, and of d times its index.
        self._sum = self._squares = self._moments = 0.0

    def add(self, values: "NDArray[np.float32]") -> None:
        """Adds readings, shape (n,), in the order of time."""
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
        correlation, rise = self._correlation(), self._last - self._first
        if first == last or abs(correlation) < MIN_CORRELATION or correlation * rise < 0:
            return f"{last} steady"
        return f"{last} {'rising' if rise > 0 else 'falling'} from {first}"

    def as_dict(self, name: str) -> dict[str, Any]:
        """The trend as results carry it."""
        facts = {"first": float(f"{self._first:.7g}"), "last": float(f"{self._last:.7g}"), "count": self._count}
        return ({"label": name} if name else {}) | facts

    def _correlation(self) -> float:
        """Pearson correlation with time, -1 to 1: https://en.wikipedia.org/wiki/Pearson_correlation_coefficient."""
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
    """Four significant digits, without an exponent: small models read 1.2e+04 as 1.2."""
    return f"{Decimal(f'{value:.4g}'):f}"
