"""How a model is run on the CPU, chosen by measuring: how many engines, and how many threads each."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent import settings
from edge_agent.engines import Engine
from edge_agent.engines.tuning import Tuning
from edge_agent.errors import ModelError
from edge_agent.system.text import read_attribute

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# Each round runs both for this long; further rounds only within PATIENCE. All in seconds.
ROUNDS, SECONDS, PATIENCE = 3, 0.05, 1.0
# More engines or threads, or another file, must bring at least this much.
WORTH = 1.15
# A single inference may take that much longer: the accuracy of the measurement.
SLOWER = 1.1
# More engines bring nothing on the machines that this is for, and each takes memory.
MOST_ENGINES = 16


def threads_of(model: settings.Model) -> int:
    """CPU threads of a model that is not measured: as stated, or half of the cores; the others prepare pictures."""
    return model.threads or max(1, len(os.sched_getaffinity(0)) // 2)


def usual(model: settings.Model) -> Tuning:
    """Without a measurement: what is stated, else one engine."""
    return Tuning(1 if model.engines == "auto" else model.engines, threads_of(model))


def choose(
    model: settings.Model,
    cores: int,
    most_engines: int,
    load: Callable[[Tuning], Engine],
    tensor: "NDArray[Any]",
    step: Callable[[str], None],
) -> Tuning:
    """Measures what the settings leave open.

    The choice makes the most inferences a second of those whose single inference takes no longer than with the usual
    number of threads; that one is kept unless another is clearly better.

    Args:
        model: the settings.
        cores: how many the model may keep busy.
        most_engines: for which there is memory.
        load: makes an engine that several threads may call, as many at the same time as the `Tuning` says.
        tensor: an input, (batch, …).
        step: called with what is being done.

    Raises:
        ModelError: the usual engine can't be loaded or run.
    """
    base = usual(model)
    others = [one for one in _settings(model, cores, most_engines) if one != base]
    if not others:
        return base
    first = load(base)
    best, most = replace(base, gain=1.0), WORTH
    try:
        for one in others:
            step(f"it is measured with {one.describe()}")
            try:
                other = load(one)
            except ModelError as error:
                log.debug("not with %s: %s", one.describe(), error)
                continue
            try:
                gain, slower = _compare(first, base, other, one, tensor)
            finally:
                other.close()
            log.debug("%s: %.2f times the throughput, %.2f times the latency", one.describe(), gain, slower)
            if gain > most and slower <= SLOWER:
                best, most = Tuning(one.engines, one.threads, round(gain, 2)), gain
    finally:
        first.close()
    return best


def gain_of(first: Engine, other: Engine, threads: int, tensor: "NDArray[Any]") -> float:
    """How many times as many inferences a second one of two engines makes, in alternating turns."""
    alike = Tuning(1, threads)
    return _compare(first, alike, other, alike, tensor)[0]


def _settings(model: settings.Model, cores: int, most_engines: int) -> list[Tuning]:
    """What keeps all cores busy; what is stated is left as it is."""
    powers = (1 << exponent for exponent in range(cores.bit_length()))
    threads = [model.threads] if model.threads else [count for count in powers if count <= cores]
    if model.engines != "auto":
        return [Tuning(model.engines, count) for count in threads if model.threads or count * model.engines <= cores]
    most = min(cores, most_engines, MOST_ENGINES)
    return [Tuning(max(1, min(cores // count, most)), count) for count in threads]


def _compare(first: Engine, base: Tuning, other: Engine, tried: Tuning, tensor: "NDArray[Any]") -> tuple[float, float]:
    """Throughput and latency of the other engine, each as a multiple of the first one's; medians of the rounds."""
    import statistics  # not needed once a model has passed

    gains, latencies = list[float](), list[float]()
    for engine, tuning in ((first, base), (other, tried)):
        _rate(engine, tuning, tensor)  # not counted: caches, and the first touch of memory
    until = time.monotonic() + PATIENCE
    for number in range(ROUNDS):
        if number and time.monotonic() > until:
            break
        gains.append(1 / _rate(first, base, tensor) * _rate(other, tried, tensor))
        if tried.threads != base.threads:
            latencies.append(_latency(other, tensor) / _latency(first, tensor))
    return statistics.median(gains), statistics.median(latencies) if latencies else 1.0


def _rate(engine: Engine, tuning: Tuning, tensor: "NDArray[Any]") -> float:
    """Inferences a second with as many callers as there are engines.

    What the callers waited for a core is left out: a model is often tried while the machine starts.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(tuning.engines) as callers:
        calls = [callers.submit(_count, engine, tensor) for _ in range(tuning.engines)]
        return sum(count / seconds for count, seconds in (call.result() for call in calls))


def _count(engine: Engine, tensor: "NDArray[Any]") -> tuple[int, float]:
    """Number of inferences in about `SECONDS`, and the seconds that they took, without waiting for a core."""
    count, began, waited = 0, time.perf_counter(), _waited()
    while not count or time.perf_counter() - began < SECONDS:
        engine.run([tensor])
        count += 1
    seconds = time.perf_counter() - began
    return count, max(seconds - (_waited() - waited), seconds / MOST_ENGINES)


def _waited() -> float:
    """Seconds that this thread has been ready to run and got no core; 0 where the kernel does not report it.

    https://docs.kernel.org/scheduler/sched-stats.html
    """
    try:
        return int(read_attribute(Path("/proc/thread-self/schedstat")).split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _latency(engine: Engine, tensor: "NDArray[Any]") -> float:
    """Seconds of the fastest of some inferences, one after the other."""
    return min(_timed(engine, tensor))


def _timed(engine: Engine, tensor: "NDArray[Any]") -> Iterator[float]:
    until = time.perf_counter() + SECONDS
    while True:
        began = time.perf_counter()
        engine.run([tensor])
        yield (ended := time.perf_counter()) - began
        if ended > until:
            return
