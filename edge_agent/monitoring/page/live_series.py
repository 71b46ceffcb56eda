"""The last minute of readings or sound: gathered only while a browser asks for it."""

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_agent.counters import Dropped
from edge_agent.errors import EdgeAgentError, InputError
from edge_agent.monitoring.agent_status import AgentStatus
from edge_agent.monitoring.page.answers import Answer, Request, as_json, not_found
from edge_agent.monitoring.page.curves import MOST_CHANNELS
from edge_agent.samples import Sample, Series
from edge_agent.sources.observer import Observation, ResultObserver
from edge_agent.timeseries.cutting import read_series
from edge_agent.timeseries.numbers import SeriesPreprocess

# Seconds that are shown, and of one point; most results of a minute.
SHOWN, POINT = 60.0, 0.2
MOST_RESULTS = 1200
# Seconds without a request after which nothing is gathered any more.
PATIENCE = 5.0


class LiveSeries:
    """Observes the pipelines whose readings are being looked at.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: AgentStatus) -> None:
        self._agent = agent
        self._lock = threading.Lock()

    def latest(self, request: Request) -> Answer:
        """The last minute of a pipeline's readings, and what the model has said of them; times count back from now."""
        name = request.name
        if name not in self._agent.config().settings.pipelines:
            return not_found("pipeline")
        observers = self._agent.observers_of(name)
        with self._lock:
            gatherer = next((one for one in observers if isinstance(one, Gatherer)), None)
            if gatherer is None:
                gatherer = Gatherer(observers.remove)
                observers.append(gatherer)
        return as_json(gatherer.read())


class Gatherer:
    """Gathers the readings of one pipeline.

    Args:
        leave: removes it from the observers.
    """

    def __init__(self, leave: Callable[[ResultObserver], None]) -> None:
        self._leave = leave
        self._lock = threading.Lock()
        self._asked = time.monotonic()
        self._points: OrderedDict[int, tuple[list[float], list[float]]] = OrderedDict()
        self._results: deque[tuple[float, float, str, float | None]] = deque(maxlen=MOST_RESULTS)
        self._channels: list[str] = []
        self._until = -math.inf
        self._stream: str | None = None
        self._threshold: float | None = None

    def needs_image(self, sample: Sample) -> bool:  # noqa: ARG002 - readings are no picture
        """See `ResultObserver`."""
        return False

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        """What could not be used is not shown."""

    def on_end(self) -> None:
        """There will be no more."""

    def on_result(self, observation: Observation) -> None:
        """Takes the readings that have not been in an earlier window; leaves if nobody has asked for a while."""
        if time.monotonic() - self._asked > PATIENCE:
            try:
                self._leave(self)
            except ValueError:  # another thread was faster
                return
            return
        sample, work = observation.sample, observation.work
        length = 0.0
        with self._lock:
            self._stream = self._stream or sample.stream  # of several, the first one is shown
            series = _series_of(observation) if sample.stream in (self._stream, None) else None
            if series is not None:
                length = len(series.values) / series.rate if series.rate else 0.0
                self._take(series, sample.captured)
            best = observation.predictions[0] if observation.predictions else None
            if best is not None:
                score = best.value if best.value is not None else best.confidence
                self._results.append((sample.captured - length, sample.captured, best.name, score))
            self._threshold = None if work is None else work.threshold

    def _take(self, series: Series, end: float) -> None:
        values = np.nan_to_num(series.values[:, :MOST_CHANNELS])
        times = end - np.arange(len(values) - 1, -1, -1) / (series.rate or math.inf)
        new = times > self._until
        self._channels = list(series.channels[:MOST_CHANNELS]) or [f"{at + 1}" for at in range(values.shape[1])]
        self._until = end
        places = np.floor(times[new] / POINT).astype(np.int64)
        for place in np.unique(places).tolist():
            part = values[new][places == place]
            low, high = part.min(axis=0).tolist(), part.max(axis=0).tolist()
            if (known := self._points.get(place)) is not None and len(known[0]) == len(low):
                low, high = list(map(min, known[0], low)), list(map(max, known[1], high))
            self._points[place] = low, high
        oldest = math.floor((end - SHOWN) / POINT)
        while self._points and next(iter(self._points)) < oldest:
            self._points.popitem(last=False)

    def read(self) -> dict[str, Any]:
        """The last minute, in points of `every` seconds; `from` and `to` of results in seconds before now."""
        now = self._asked = time.monotonic()
        with self._lock:
            last = math.floor(now / POINT)
            places = range(last - round(SHOWN / POINT) + 1, last + 1)
            points = [self._points.get(place) for place in places]
            count = len(self._channels)
            usable = [one if one is not None and len(one[0]) == count else None for one in points]
            results = [one for one in self._results if one[1] > now - SHOWN]
        return {
            "every": POINT,
            "channels": self._channels,
            "low": [[one and _short(one[0][at]) for one in usable] for at in range(count)],
            "high": [[one and _short(one[1][at]) for one in usable] for at in range(count)],
            "threshold": self._threshold,
            "results": [
                {"from": round(now - begin, 2), "to": round(now - end, 2), "label": label, "score": score}
                for begin, end, label, score in results
            ],
        }


def _series_of(observation: Observation) -> Series | None:
    """The readings that a result is about; None where there are none, or none that can be drawn."""
    data = observation.sample.data
    if isinstance(data, Series):
        return data
    numbers = None if observation.work is None else observation.work.preprocess
    if not (isinstance(data, bytes) and isinstance(numbers, SeriesPreprocess)):
        return None
    try:
        return read_series(data, numbers)
    except InputError:
        return None


def _short(value: float) -> float:
    return float(f"{value:.5g}")
