"""The figures of the last hour: one point every ten seconds, in memory."""

import re
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.samples import Timing
from edge_agent.system.text import read_attribute

EVERY = 10.0
POINTS = 360
STAGES = ("queue", "preprocess", "inference", "postprocess")
MEGABYTE = 1e6

Series = deque[float | None]


class History:
    """Takes a point of everything at each `tick`.

    Thread-safe: `observe` is called by pipelines, `as_dict` by the web server.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[str, list[float]] = {}
        self._device: dict[str, Series] = {}
        self._pipelines: dict[str, dict[str, Series]] = {}
        self._before: dict[str, tuple[int, int]] = {}
        self._at = time.monotonic()
        self._cpu = _Cpu()

    def observe(self, pipeline: str, timing: Timing) -> None:
        """Adds the durations of one input to the next point."""
        with self._lock:
            sums = self._sums.setdefault(pipeline, [0.0] * (len(STAGES) + 1))
            for place, stage in enumerate(STAGES):
                sums[place] += getattr(timing, stage)
            sums[-1] += 1

    def tick(self, status: Mapping[str, Any]) -> None:
        """Takes a point.

        Args:
            status: the state of everything, as the page shows it.
        """
        now = time.monotonic()
        seconds, self._at = max(now - self._at, 0.001), now
        temperature = status["thermal"]["temperature_c"]
        device = {"cpu": self._cpu.share(seconds), "memory_mb": _resident(), "temperature_c": temperature}
        device["outbox"] = float(status["outbox"]["on_disk"])
        with self._lock:
            sums, self._sums = self._sums, {}
            _add(self._device, device)
            counters = {name: one for name, one in status["counters"].items() if name in status["pipelines"]}
            for gone in self._pipelines.keys() - counters.keys():
                del self._pipelines[gone]
            for name, counts in counters.items():
                _add(self._pipelines.setdefault(name, {}), self._point(name, counts, seconds) | _means(sums.get(name)))

    def as_dict(self) -> dict[str, Any]:
        """The points of each figure, oldest first, the last one taken within the last `every` seconds."""
        with self._lock:
            pipelines = {name: {key: [*row] for key, row in one.items()} for name, one in self._pipelines.items()}
            device = {key: [*row] for key, row in self._device.items()}
        return {"every": EVERY, "device": device, "pipelines": pipelines}

    def _point(self, name: str, counts: Mapping[str, Any], seconds: float) -> dict[str, float | None]:
        total = counts["inferred"], sum(counts["dropped"].values())
        inferred, dropped = self._before.get(name, total)
        self._before[name] = total
        return {"rate": round((total[0] - inferred) / seconds, 2), "dropped": round((total[1] - dropped) / seconds, 2)}


def _add(rows: dict[str, Series], point: Mapping[str, float | None]) -> None:
    for key, value in point.items():
        rows.setdefault(key, deque(maxlen=POINTS)).append(value)


def _means(sums: list[float] | None) -> dict[str, float | None]:
    """Mean milliseconds of each stage; None where there was no input."""
    if sums is None:
        return dict.fromkeys(STAGES)
    return {stage: round(total / sums[-1], 2) for stage, total in zip(STAGES, sums, strict=False)}


def _resident() -> float | None:
    """Megabytes of memory that this process has in use."""
    found = re.search(r"VmRSS:\s{1,20}(\d{1,15}) kB", read_attribute(Path("/proc/self/status")))
    return None if found is None else round(int(found[1]) * 1024 / MEGABYTE, 1)


class _Cpu:
    """The share of one core that this process takes."""

    def __init__(self) -> None:
        self._before = time.process_time()

    def share(self, seconds: float) -> float:
        """Percent of a core since the last call."""
        before, self._before = self._before, time.process_time()
        return round((self._before - before) / seconds * 100, 1)
