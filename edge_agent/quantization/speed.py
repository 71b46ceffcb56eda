"""How long inferences of two models take on this machine."""

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edge_agent.models.model import Model

# Each round times both, one after the other, with up to RUNS inferences in up to SECONDS.
ROUNDS, RUNS, SECONDS = 9, 15, 0.5
# One slow round is an accident.
MOST_LOST = 1


@dataclass(frozen=True, slots=True)
class Speed:
    """Milliseconds of an inference, and whether the new model is the faster one beyond the noise of this machine."""

    original_ms: float
    ms: float
    faster: bool


def compare_speed(original: "Model", new: "Model") -> Speed:
    """Measures both in alternating turns, so that what else the machine does meets both alike."""
    rounds: list[tuple[float, float]] = []
    for model in (original, new):
        _median(model)
    for number in range(ROUNDS):
        order = (original, new) if number % 2 else (new, original)
        times = {id(model): _median(model) for model in order}
        rounds.append((times[id(original)], times[id(new)]))
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    lost = sum(new >= old for old, new in rounds)
    return Speed(round(medians[0], 3), round(medians[1], 3), medians[1] < medians[0] and lost <= MOST_LOST)


def _median(model: "Model") -> float:
    """Of the inferences of one round, in milliseconds."""
    inputs = [np.zeros([max(1, size) for size in spec.shape], spec.dtype) for spec in model.engine.inputs]
    times: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(times) < RUNS and (not times or time.perf_counter() < until):
        began = time.perf_counter()
        model.engine.run(inputs)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)
