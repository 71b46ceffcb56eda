"""Goals 5 to 7: memory, start, and what an idle daemon costs."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from benchmarks.bench import Bench, Measured, Outcome, against_before, column, compare, summary, take_turns
from benchmarks.inputs import MODELS, TFLITE, Model
from benchmarks.load import Load
from benchmarks.processes import Daemon, Program, Script, cpu_seconds, pss_mib
from benchmarks.versions import PROJECT, Version

OUTSTANDING = 8
# More than the daemon takes at a time, so that input outruns inference.
OVERLOAD = 64
HEAVY = ("numpy", "cv2", "ai_edge_litert", "tflite_runtime", "onnxruntime")


def memory(bench: Bench) -> Outcome:
    """One pipeline against the script; a second pipeline on the same model."""
    outcome = Outcome()
    for model in MODELS:
        _memory(bench, model, outcome)
    return outcome


def _memory(bench: Bench, model: Model, outcome: Outcome) -> None:
    turns = take_turns(
        bench.rounds,
        {
            "script": lambda: _after_work(bench, Script(bench.folder, bench.broker, model)),
            **{version.name: partial(_one_pipeline, bench, model, version) for version in bench.versions},
            "two pipelines": lambda: _two_pipelines(bench, model),
        },
        calm=False,
    )
    outcome.measured[f"memory, {model.name}"] = turns
    pss = {name: column(turns[name], "pss_mib") for name in turns}
    compared = (
        ("daemon - script", pss["daemon"], pss["script"], "<= 12"),
        ("daemon with a second pipeline on the same model - daemon", pss["two pipelines"], pss["daemon"], "<= 5"),
    )
    for what, ours, theirs, wanted in compared:
        outcome.figures.append(compare(5, f"{model.name}: memory, {what}", ours, theirs, wanted, difference=True))
    outcome.figures.append(summary(5, f"{model.name}: memory of the daemon", pss["daemon"], unit="MiB"))
    outcome.figures += against_before(5, f"{model.name}: memory", "pss_mib", turns, difference=True)


def _one_pipeline(bench: Bench, model: Model, version: Version) -> Measured:
    return _after_work(bench, Daemon(bench.folder, bench.broker, model, version=version))


def _after_work(bench: Bench, program: Script | Daemon) -> Measured:
    with program, Load(bench.broker.port, program.topic_in, program.topic_out, bench.jpegs) as load:
        load.round(OUTSTANDING, bench.count)
        return {"pss_mib": pss_mib(program.pid)}


def _two_pipelines(bench: Bench, model: Model) -> Measured:
    pipelines = [
        f"{name}: {{source: {{type: mqtt, topic: two/{name}}}, model: mobilenet}}" for name in ("one", "other")
    ]
    with Daemon(bench.folder, bench.broker, model, name="two", pipelines=pipelines) as daemon:
        for name in ("one", "other"):
            result = f"edge/two-{model.name}/{name}/result"
            with Load(bench.broker.port, f"two/{name}", result, bench.jpegs) as load:
                load.round(OUTSTANDING, bench.count)
        return {"pss_mib": pss_mib(daemon.pid)}


def growth(bench: Bench) -> Outcome:
    """Memory while input outruns inference all the time."""
    seen: list[Measured] = []
    began = time.monotonic()
    with (
        Daemon(bench.folder, bench.broker, TFLITE) as daemon,
        Load(bench.broker.port, daemon.topic_in, daemon.topic_out, bench.jpegs) as load,
    ):
        while time.monotonic() - began < bench.minutes * 60:
            load.round(OVERLOAD, bench.count)
            seen.append({"minutes": (time.monotonic() - began) / 60, "pss_mib": pss_mib(daemon.pid)})
    # The first fifth is warming up.
    fifth = max(1, len(seen) // 5)
    before, after = column(seen[fifth : 2 * fifth], "pss_mib"), column(seen[-fifth:], "pss_mib")
    grown = [value - statistics.median(before) for value in after]
    return Outcome(
        [summary(5, f"growth in {bench.minutes:g} minutes of more input than it can take", grown, "<= 1", "MiB")],
        {"growth": {"daemon": seen}},
    )


def start(bench: Bench) -> Outcome:
    """From the start of the process until it is ready; a command that needs no model."""
    outcome = Outcome()
    for model in MODELS:
        _start(bench, model, outcome)
    turns = take_turns(bench.rounds, {"--help": _command(["--help"])})
    outcome.measured["commands"] = turns
    heavy = _heavy_imports(["--help"])
    imports = f"imports {', '.join(heavy)}" if heavy else "imports no numpy, cv2 or runtime"
    outcome.figures.append(summary(6, f"`--help` ({imports})", column(turns["--help"], "seconds"), "<= 0.3", "s"))
    return outcome


def _start(bench: Bench, model: Model, outcome: Outcome) -> None:
    turns = take_turns(
        bench.rounds,
        {
            "script": lambda: _seconds(Script(bench.folder, bench.broker, model)),
            **{version.name: partial(_to_ready, bench, model, version) for version in bench.versions},
        },
    )
    outcome.measured[f"start, {model.name}"] = turns
    ours, theirs = column(turns["daemon"], "seconds"), column(turns["script"], "seconds")
    what = f"{model.name}: start to ready, daemon / script's imports and load"
    outcome.figures.append(compare(6, what, ours, theirs, "<= 1.8"))
    outcome.figures += against_before(6, f"{model.name}: start to ready", "seconds", turns)


def _to_ready(bench: Bench, model: Model, version: Version) -> Measured:
    return _seconds(Daemon(bench.folder, bench.broker, model, version=version))


def _seconds(program: Script | Daemon) -> Measured:
    with program:
        return {"seconds": program.started_after}


def _command(arguments: list[str]) -> Callable[[], Measured]:
    def run() -> Measured:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "edge_agent", *arguments], check=True, capture_output=True, cwd=PROJECT)
        return {"seconds": time.perf_counter() - began}

    return run


def _heavy_imports(arguments: list[str]) -> list[str]:
    program = (
        "import contextlib, sys\n"
        "from edge_agent.cli import main\n"
        "with contextlib.suppress(SystemExit): main(sys.argv[1:])\n"
        f"print(*(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True, cwd=PROJECT
    )
    return done.stdout.splitlines()[-1].split()


def idle(bench: Bench) -> Outcome:
    """After some work, nothing for a while."""
    programs: dict[str, Program] = {}
    figures, turns = [], {}
    for model in MODELS:
        programs[model.name] = daemon = Daemon(bench.folder, bench.broker, model)
        with Load(bench.broker.port, daemon.topic_in, daemon.topic_out, bench.jpegs) as load:
            load.round(OUTSTANDING, len(bench.jpegs))
    time.sleep(1)
    before = {name: cpu_seconds(program.pid) for name, program in programs.items()}
    time.sleep(bench.idle_seconds)
    for name, program in programs.items():
        share = (cpu_seconds(program.pid) - before[name]) / bench.idle_seconds * 100
        turns[name] = [{"percent_of_a_core": share}]
        what = f"{name}: CPU of one core while idle for {bench.idle_seconds:g} s"
        figures.append(summary(7, what, [share], "<= 0.3", "%"))
        program.stop()
    return Outcome(figures, {"idle": turns})
