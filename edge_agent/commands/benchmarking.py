"""What the kinds of `bench` share: each setting is measured in a process of its own, and the best one is chosen."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from edge_agent.system.worker_process import WorkerEndedError, WorkerProcess

# More threads are chosen only if they bring at least this much.
WORTH_A_THREAD = 1.15
CRASHED = "the runtime has crashed"

M = TypeVar("M")


def thread_counts() -> list[int]:
    """Numbers of threads that are worth measuring on this machine."""
    cores = len(os.sched_getaffinity(0))
    return sorted({count for count in (1, 2, 4, 8, cores) if count <= cores})


def in_process(module: str, **request: Any) -> dict[str, Any] | None:
    """Runs a measurement in a process of its own, so that its memory is its own and a crash ends nothing else.

    Args:
        module: its `main` takes the request and sends the measurement.
        request: what to measure.

    Returns:
        What `main` has sent; None if it crashed.
    """
    with WorkerProcess(module) as worker:
        try:
            worker.send(request)
            measured: dict[str, Any] = worker.receive(math.inf)  # no deadline: a user can press Ctrl-C
        except WorkerEndedError:
            return None
    return measured


def choose(usable: Sequence[M], per_second: Sequence[float]) -> M:
    """The fastest measurement, but with no more threads than pay.

    Args:
        usable: in the order of their threads.
        per_second: how fast each is.
    """
    best, speed = usable[0], per_second[0]
    for measurement, faster in zip(usable, per_second, strict=True):
        if faster > speed * WORTH_A_THREAD:
            best, speed = measurement, faster
    return best


def print_json(model: Path, sha256: str, measurements: Sequence[Any], best: dict[str, Any], **more: Any) -> None:
    """Prints the measurements of a model as one document, with the settings to choose."""
    document = {
        "model": str(model),
        "sha256": sha256,
        "cores": len(os.sched_getaffinity(0)),
        "measurements": [asdict(measurement) for measurement in measurements],
        "best": best,
        **more,
    }
    print(json.dumps(document, indent=2))
