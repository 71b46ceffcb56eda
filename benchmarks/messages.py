"""Goal 8: small messages of a sensor, 32 readings each, through an int8 autoencoder."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.bench import Bench, Measured, Outcome, against_before, column, compare, take_turns
from benchmarks.inputs import Model
from benchmarks.load import Load
from benchmarks.processes import Broker, Daemon, Program
from benchmarks.versions import PROJECT

BUNDLE = PROJECT / "models" / "vibration"
THRESHOLD = 0.0124
READINGS, MESSAGES = 32, 50
OUTSTANDING = (1, 8, 64)
WANTED = {("per_second", 8): ">= 5.0", ("per_second", 64): ">= 1.0", ("cpu_ms", 1): "<= 2.0"}
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
        programs: dict[str, SensorScript | Daemon] = {
            "script": stack.enter_context(SensorScript(bench.folder, bench.broker))
        }
        for version in bench.versions:
            model = Model("vibration", BUNDLE, "threads: 1")
            programs[version.name] = stack.enter_context(Daemon(bench.folder, bench.broker, model, version=version))
        for outstanding in OUTSTANDING:
            contenders: dict[str, Callable[[], Measured]] = {}
            for name, program in programs.items():
                load = stack.enter_context(Load(bench.broker.port, program.topic_in, program.topic_out, payloads))
                watched = {"cpu_ms": program.pid, "broker_cpu_ms": bench.broker.pid}
                contenders[name] = partial(load.round, outstanding, bench.count * TIMES, watched)
            turns = take_turns(bench.rounds, contenders)
            outcome.measured[f"messages, {outstanding} unanswered"] = turns
            for what, key in (("messages a second", "per_second"), ("CPU time a message", "cpu_ms")):
                ours, theirs = (column(turns[name], key) for name in ("daemon", "script"))
                text = f"{what}, {outstanding} unanswered"
                wanted = WANTED.get((key, outstanding), "")
                outcome.figures.append(compare(8, f"{text}, daemon / script", ours, theirs, wanted))
                outcome.figures += against_before(8, text, key, turns)
    return outcome
