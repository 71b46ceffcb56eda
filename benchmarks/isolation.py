"""What watching over a model costs: the engine itself, in a thread of its own with a deadline, in a process of its own.

`python -m benchmarks.isolation [--rounds N]` prints the table alone.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks import report
from benchmarks.bench import Outcome, column, summary, take_turns
from benchmarks.inputs import DATA
from edge_agent.engines import Engine, load_engine
from edge_agent.engines.crash_record import CrashRecord
from edge_agent.engines.subprocess import SubprocessEngine
from edge_agent.engines.supervised import Supervised
from edge_agent.modelfile import inspect
from edge_agent.models.shipped import shipped

GOAL = 8
TIMEOUT = 5.0
MODELS = {
    "digits, 32 x 24": shipped("digits/digits.tflite"),
    "MobileNet v2, 224 x 224": DATA / "classify_tflite/mobilenet_v2_1.0_224_quant.tflite",
    "YOLOv8n, 640 x 640": DATA / "detect_tflite/yolov8n_integer_quant.tflite",
}
SECONDS = 0.5


def isolation(rounds: int, threads: int) -> Outcome:
    """Time of one inference, as it is and watched over.

    Args:
        rounds: turns of each.
        threads: of the runtime.
    """
    outcome = Outcome()
    for name, path in MODELS.items():
        file = inspect.read(path).identity
        load = partial(load_engine, file, "cpu", threads)
        engines: dict[str, Engine] = {
            "as it is": load(),
            "in a thread": Supervised(load, CrashRecord("benchmark"), TIMEOUT),
            "in a process": SubprocessEngine(file, "cpu", threads, TIMEOUT),
        }
        turns = take_turns(rounds, {how: _steps(engine) for how, engine in engines.items()})
        outcome.measured[name] = turns
        plain = column(turns["as it is"], "ms")
        outcome.figures.append(summary(GOAL, f"{name}: inference, {threads} threads", plain, unit="ms"))
        for how in list(engines)[1:]:
            watched = column(turns[how], "ms")
            ratios = [ours / own for ours, own in zip(watched, plain, strict=True)]
            outcome.figures.append(summary(GOAL, f"{name}: {how} / as it is", ratios))
            outcome.figures.append(
                summary(GOAL, f"{name}: {how}, more", [a - b for a, b in zip(watched, plain, strict=True)], unit="ms")
            )
        for engine in engines.values():
            engine.close()
    return outcome


def _steps(engine: Engine) -> Callable[[], dict[str, float]]:
    given = [np.zeros([max(1, size) for size in spec.shape], spec.dtype) for spec in engine.inputs]

    def step() -> dict[str, float]:
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            engine.run(given)
            count += 1
        return {"ms": (time.perf_counter() - began) / count * 1000}

    return step


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.isolation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns that each gets (7)")
    rounds = parser.parse_args().rounds
    print(report.table([isolation(rounds, max(1, len(os.sched_getaffinity(0)) // 2))]))


if __name__ == "__main__":
    main()
