"""What `keep` costs where nothing is kept: `python -m benchmarks.keep_cost`.

One thread takes frames through a pipeline, in alternating turns with and without a keeper whose rules never apply, and
counts the CPU time from a result to the end of its input: between two inferences, when the cache is full of the model.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.inputs import TFLITE
from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.keeping.keep import Keeper
from edge_agent.models import model as models
from edge_agent.models.resolve import resolve_model
from edge_agent.models.stages import WorkItem
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.pipeline.ordering import Ticket, TicketLock
from edge_agent.pipeline.pipeline import Pipeline
from edge_agent.publish.publisher import Device
from edge_agent.samples import Prediction, Sample
from edge_agent.sources import Context, open_source
from edge_agent.sources.observer import ResultObserver
from edge_agent.system.clock import Clock
from tests.sink import NullSink

RULES = {"when": {"confidence": [0.99999, 1.0], "margin": 1e-9, "random": 1e-12, "failed": True}}
# Inputs of a turn: as many as are looked at together, several times.
TURN = 32
# How far apart the inputs are stated to be: the model here may be slower than the one that is meant.
MODEL_MS = 2.0


class Sink(NullSink):
    """Notes when a result has been published; inputs of nobody need no answer."""

    at = 0

    def publish(self, item: WorkItem, predictions: Sequence[Prediction]) -> int | None:
        """See `ResultSink`."""
        del predictions
        item.sample.settlement.done()
        self.at = time.thread_time_ns()
        return 1


def main() -> None:
    """Prints microseconds a result."""
    parser = argparse.ArgumentParser(prog="benchmarks.keep_cost", description=__doc__)
    parser.add_argument("--turns", type=int, default=60, help=f"turns of {TURN} inputs that each gets (60)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        off, on = measure(Path(name), args.turns)
    cost = on - off
    print(f"{cost:.1f} µs a result ({off:.1f} without, {on:.1f} with keep)")
    print(f"{1 - cost / 1000 / MODEL_MS:.4f} of the throughput of a model that takes {MODEL_MS:g} ms")


def measure(folder: Path, turns: int) -> tuple[float, float]:
    """Medians over turns of the mean microseconds after each result: without, and with `keep`."""
    options = settings.Model(path=TFLITE.path, threads=1)
    model = models.load_qualified("classifier", resolve_model(options, folder))
    source = {"type": "images", "path": str(folder)}
    pipeline = settings.Pipeline.model_validate({"source": source, "model": "classifier", "keep": RULES})
    mqtt, sink, counters = settings.Mqtt(), Sink(), Counters()
    context = Context(folder, "edge/bench/stage", Endpoint.from_settings(mqtt, folder), mqtt, counters=counters)
    road = Pipeline("stage", pipeline, open_source(pipeline.source, context), model, counters, sink)
    device = Device("bench", "edge/bench", "b00t", Clock())
    keeper = Keeper("stage", pipeline, settings.Keep.model_validate(RULES), device, folder / "store")
    keeper.start()
    lock, numbers = TicketLock(), itertools.count()
    frame = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)

    def turn(observers: list[ResultObserver]) -> float:
        road.observers[:] = observers
        spent = 0
        for _ in range(TURN):
            number = next(numbers)
            sample = Sample(frame, time.time(), number * MODEL_MS / 1000, {"url": "none"})
            sample.settlement.capture(counters)
            with Ticket(lock, number) as ticket:
                road.process([sample], ticket)
            del sample, ticket
            spent += time.thread_time_ns() - sink.at
        return spent / TURN / 1000

    found: tuple[list[float], list[float]] = ([], [])
    for number in range(turns + 1):
        for which in (0, 1) if number % 2 else (1, 0):
            took = turn([keeper] if which else [])
            if number:  # the first one warms up
                found[which].append(took)
    keeper.close(5)
    return statistics.median(found[0]), statistics.median(found[1])


if __name__ == "__main__":
    main()
