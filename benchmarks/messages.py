"""Goal 8: small messages of a sensor, 32 readings each, through an int8 autoencoder."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.bench import Bench, Measured, Outcome, column, compare, take_turns
from benchmarks.inputs import Model
from benchmarks.load import Load
from benchmarks.processes import PROJECT, Broker, Daemon, Program

BUNDLE = PROJECT / "models" / "vibration"
THRESHOLD = 0.0124
READINGS, MESSAGES = 32, 50
OUTSTANDING = (1, 8, 64)
WITH_A_GOAL = 8
# Inputs for each that are asked for: these take a fraction of a picture's time.
TIMES = 10


class SensorScript(Program):
    """See `benchmarks/sensor_script.py`; it listens on `{topic}/in` and answers on `{topic}/result`."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.topic_in, self.topic_out = "sensor/in", "sensor/result"
        script, model = Path(__file__).with_name("sensor_script.py"), BUNDLE / "vibration.tflite"
        arguments = ["--port", str(broker.port), "--topic", "sensor", "--threshold", str(THRESHOLD)]
        super().__init__([sys.executable, str(script), str(model), *arguments], folder / "sensor.log")
        self.line()


def messages(bench: Bench) -> Outcome:
    """Messages a second against the script, with 1, 8 (as for pictures) and 64 unanswered."""
    outcome = Outcome()
    readings = np.random.default_rng(1).normal(0, 0.4, (MESSAGES, READINGS)).astype("<f4")
    payloads = [row.tobytes() for row in readings]
    with ExitStack() as stack:
        script = stack.enter_context(SensorScript(bench.folder, bench.broker))
        daemon = stack.enter_context(Daemon(bench.folder, bench.broker, Model("vibration", BUNDLE, "threads: 1")))
        loads = {
            name: stack.enter_context(Load(bench.broker.port, program.topic_in, program.topic_out, payloads))
            for name, program in (("script", script), ("daemon", daemon))
        }
        pids = {"script": script.pid, "daemon": daemon.pid}
        for outstanding in OUTSTANDING:
            contenders: dict[str, Callable[[], Measured]] = {
                name: partial(
                    load.round,
                    outstanding,
                    bench.count * TIMES,
                    {"cpu_ms": pids[name], "broker_cpu_ms": bench.broker.pid},
                )
                for name, load in loads.items()
            }
            turns = take_turns(bench.rounds, contenders)
            outcome.measured[f"messages, {outstanding} unanswered"] = turns
            wanted = ">= 5.0" if outstanding == WITH_A_GOAL else ""
            for what, key, wish in (
                ("messages a second", "per_second", wanted),
                ("p50", "p50_ms", ""),
                ("CPU time a message", "cpu_ms", ""),
            ):
                ours, theirs = (column(turns[name], key) for name in ("daemon", "script"))
                text = f"{what}, {outstanding} unanswered, daemon / script"
                outcome.figures.append(compare(8, text, ours, theirs, wish))
    return outcome
