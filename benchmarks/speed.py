"""Goals 1 to 3: results a second, latency, and CPU time a frame, with JPEGs over MQTT."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from benchmarks.bench import Bench, Measured, Outcome, against_before, column, compare, take_turns
from benchmarks.inputs import MODELS, TFLITE, Model
from benchmarks.load import Load
from benchmarks.processes import Daemon, Floor, Script

OUTSTANDING = 8
TUNED = "tune: auto"
STAGES = ("decode", "preprocess", "invoke")


def throughput(bench: Bench) -> Outcome:
    """Goals 1 and 3, for each runtime."""
    outcome = Outcome()
    for model in MODELS:
        _throughput(bench, model, outcome)
    return outcome


def _throughput(bench: Bench, model: Model, outcome: Outcome) -> None:
    with ExitStack() as stack:
        floor = stack.enter_context(Floor(bench.folder, model))
        script = stack.enter_context(Script(bench.folder, bench.broker, model))
        modes = ("loop", "loop with reader", *STAGES)
        contenders: dict[str, Callable[[], Measured]] = {
            mode: partial(floor.measure, mode, bench.count) for mode in modes
        }
        contenders["script"] = _under_load(bench, script, stack, OUTSTANDING)
        for version in bench.versions:
            daemon = stack.enter_context(Daemon(bench.folder, bench.broker, model, version=version))
            contenders[version.name] = _under_load(bench, daemon, stack, OUTSTANDING)
        if model is TFLITE:
            tuned = replace(model, name="tuned", settings=f"{model.settings}, {TUNED}")
            other = stack.enter_context(Daemon(bench.folder, bench.broker, tuned))
            contenders[TUNED] = _under_load(bench, other, stack, OUTSTANDING)
        turns = take_turns(bench.rounds, contenders)
    outcome.measured[f"throughput, {model.name}"] = turns
    rate = {name: column(turns[name], "per_second") for name in turns}
    cpu = {name: column(turns[name], "cpu_ms") for name in turns}
    slowest = [min(rates) for rates in zip(*(rate[stage] for stage in STAGES), strict=True)]
    limit = [min(stage, bench.cores * 1000 / spent) for stage, spent in zip(slowest, cpu["loop"], strict=True)]
    compared = (
        (1, "results a second, daemon / script", rate["daemon"], rate["script"], ">= 2.0"),
        (1, "results a second, daemon / limit", rate["daemon"], limit, ">= 0.95"),
        (1, "results a second, limit / script", limit, rate["script"], ""),
        (3, "CPU time a frame, daemon / floor", cpu["daemon"], cpu["loop"], "<= 1.08"),
        (3, "CPU time a frame, floor with a reader thread / floor", cpu["loop with reader"], cpu["loop"], ""),
    )
    for goal, what, ours, theirs, wanted in compared:
        outcome.figures.append(compare(goal, f"{model.name}: {what}", ours, theirs, wanted))
    outcome.figures += against_before(1, f"{model.name}: results a second", "per_second", turns)
    outcome.figures += against_before(3, f"{model.name}: CPU time a frame", "cpu_ms", turns)
    if TUNED in turns:
        for what, measure in (("results a second", rate), ("CPU time a frame", cpu)):
            whole_name = f"{model.name}: {what}, daemon with {TUNED} / script"
            outcome.figures.append(compare(1, whole_name, measure[TUNED], measure["script"]))


def latency(bench: Bench) -> Outcome:
    """Goal 2: one outstanding."""
    outcome, model = Outcome(), TFLITE
    with ExitStack() as stack:
        floor = stack.enter_context(Floor(bench.folder, model))
        script = stack.enter_context(Script(bench.folder, bench.broker, model))
        best = stack.enter_context(
            Script(bench.folder, bench.broker, model, "--qos", "1", "--nodelay", topic="nodelay")
        )
        daemons = {
            version.name: stack.enter_context(Daemon(bench.folder, bench.broker, model, version=version))
            for version in bench.versions
        }
        echo = stack.enter_context(Load(bench.broker.port, "echo", "echo", bench.jpegs))
        turns = take_turns(
            bench.rounds,
            {
                "floor": lambda: floor.measure("loop", bench.count),
                "echo": lambda: echo.round(1, bench.count),
                "script": _under_load(bench, script, stack, 1),
                "script with TCP_NODELAY": _under_load(bench, best, stack, 1),
                **{name: _under_load(bench, daemon, stack, 1) for name, daemon in daemons.items()},
            },
        )
    outcome.measured["latency"] = turns
    p50 = {name: column(turns[name], "p50_ms") for name in turns if name != "floor"}
    least = [1000 / rate + echo for rate, echo in zip(column(turns["floor"], "per_second"), p50["echo"], strict=True)]
    outcome.figures += [
        compare(2, "p50, daemon / script", p50["daemon"], p50["script"], "<= 0.35"),
        compare(2, "p50, daemon / script with TCP_NODELAY", p50["daemon"], p50["script with TCP_NODELAY"]),
        compare(2, "p50, daemon / (decode + resize + invoke + echo)", p50["daemon"], least, "<= 1.25"),
        compare(2, "daemon, p99 / p50", column(turns["daemon"], "p99_ms"), p50["daemon"], "<= 2.0"),
        *against_before(2, "p50", "p50_ms", turns),
    ]
    return outcome


def _under_load(bench: Bench, program: Script | Daemon, stack: ExitStack, outstanding: int) -> Callable[[], Measured]:
    load = stack.enter_context(Load(bench.broker.port, program.topic_in, program.topic_out, bench.jpegs))
    watched = {"cpu_ms": program.pid, "broker_cpu_ms": bench.broker.pid}
    return lambda: load.round(outstanding, bench.count, watched)
