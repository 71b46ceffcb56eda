"""`bench` for a .tflite or .onnx model: latency, throughput and memory, for each accelerator and number of threads."""

import argparse
import contextlib
import logging
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_agent import settings
from edge_agent.commands.benchmarking import CRASHED, choose, in_process, print_json, thread_counts
from edge_agent.engines.accelerators import ACCELERATORS, CPU, can_use
from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.system import memory

if TYPE_CHECKING:
    from edge_agent.engines import Engine
    from edge_agent.engines.tuning import Tuning
    from edge_agent.modelfile.facts import ModelFile
    from edge_agent.models.bundle import FileFormat
    from edge_agent.models.resolve import ModelSource
    from edge_agent.system.worker_process import Channel

log = logging.getLogger(__name__)

WARM_UP_RUNS = 3
OPEN_AXIS = 1


@dataclass(frozen=True, slots=True)
class Measurement:
    """One configuration, measured.

    Attributes:
        engines: how many inferences run at the same time.
        p50_ms, p90_ms, p99_ms: latency of one inference, in milliseconds.
        per_second: inferences a second, one after the other in each engine.
        memory_mib: proportional memory (PSS) that the loaded model and its runtime add, in MiB.
        load_ms: time to import the runtime and load the model.
        share: how much of the model the accelerator has taken, 0 to 1; None for the CPU, and where the runtime does
            not report it.
        problem: why there is no measurement; empty if there is one.
    """

    accelerator: str
    threads: int
    p50_ms: float = 0.0
    p90_ms: float = 0.0
    p99_ms: float = 0.0
    per_second: float = 0.0
    memory_mib: float = 0.0
    load_ms: float = 0.0
    share: float | None = None
    problem: str = ""
    engines: int = 1


def run(source: "ModelSource", args: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        ModelError: no configuration can run it.
    """
    file, cores = source.file, max(thread_counts())
    if file.format == "rpk":
        raise ModelError(f"{file.path}: the model runs in the AI Camera: its speed is that of the results in `watch`")
    counts = [(engines, threads) for threads in thread_counts() for engines in sorted({1, cores // threads})]
    measurements = [
        _measured(source.file_for(accelerator), accelerator, engines, threads, args.seconds)
        for accelerator in _accelerators(file.format)
        for engines, threads in (counts if accelerator == CPU else [(1, 1)])
    ]
    usable = sorted((one for one in measurements if not one.problem), key=lambda one: one.engines * one.threads)
    if not usable:
        raise ModelError(f"{file.path}: {measurements[0].problem}")
    best = choose(usable, [measurement.per_second for measurement in usable])
    tuning = _tuned(source)
    if args.json:
        chosen = {"accelerator": best.accelerator, "engines": best.engines, "threads": best.threads}
        print_json(file.path, file.sha256, measurements, chosen, tuned=tuning and tuning.facts())
    else:
        _show(measurements, best)
        if tuning is not None:
            print(f"What `tune: auto` finds on the CPU:\n    {tuning.describe()}")
    return 0


def _tuned(source: "ModelSource") -> "Tuning | None":
    """What the self-test finds with `tune: auto`, from its cache if it has found it before; None: nothing."""
    from edge_agent.models.qualification import qualify

    options = source.options.model_copy(update={"tune": "auto", "accelerators": (CPU,)})
    try:
        return qualify(replace(source, options=options), 1).tuning
    except EdgeAgentError as error:
        log.info("%s: not tuned: %s", source.file.path, error)
        return None


def _accelerators(file_format: "FileFormat") -> list[settings.AcceleratorName]:
    """The accelerators that the runtime for a format can use; for ONNX Runtime, those that this build of it has."""
    usable = [name for name in ACCELERATORS if can_use(name, file_format)]
    if file_format == "onnx":
        with contextlib.suppress(ImportError):  # loading the model reports what to install
            import onnxruntime

            available = onnxruntime.get_available_providers()
            usable = [name for name in usable if ACCELERATORS[name].onnx in available]
    return usable


def _measured(
    file: "ModelFile", accelerator: settings.AcceleratorName, engines: int, threads: int, seconds: float
) -> Measurement:
    request = {"file": file.identity.as_json(), "accelerator": accelerator, "engines": engines, "threads": threads}
    measured = in_process(__name__, **request, seconds=seconds)
    return Measurement(**measured) if measured else Measurement(accelerator, threads, problem=CRASHED, engines=engines)


def main(channel: "Channel") -> None:
    """The process of one measurement."""
    channel.send(asdict(measure(**channel.receive())))


def measure(
    file: Any, accelerator: settings.AcceleratorName, engines: int, threads: int, seconds: float
) -> Measurement:
    """Loads a model and runs it on random input for `seconds`, with as many callers as engines."""
    import numpy as np

    from edge_agent.engines import load_engine
    from edge_agent.engines.tuning import Tuning
    from edge_agent.modelfile.identity import FileIdentity
    from edge_agent.models.accelerator_choice import load_on_cpu

    memory_before, began = memory.taken(), time.perf_counter()
    try:
        identity = FileIdentity.from_json(file)
        if accelerator == CPU:
            engine: Engine = load_on_cpu(identity, Tuning(engines, threads))
        else:
            engine = load_engine(identity, accelerator, threads)
        load_ms = (time.perf_counter() - began) * 1000
        rng = np.random.default_rng(0)
        inputs = [_random(rng, spec.shape, spec.dtype) for spec in engine.inputs]
        for _ in range(WARM_UP_RUNS):
            engine.run(inputs)
        with ThreadPoolExecutor(engines) as callers:
            calls = [callers.submit(_timed, engine, inputs, seconds) for _ in range(engines)]
            times = [took for call in calls for took in call.result()]
    except EdgeAgentError as error:
        return Measurement(accelerator, threads, problem=str(error), engines=engines)
    added = memory.taken() - memory_before
    engine.close()
    centiles = statistics.quantiles(times, n=100) if len(times) > 1 else times * 99
    return Measurement(
        accelerator,
        threads,
        p50_ms=round(centiles[49], 3),
        p90_ms=round(centiles[89], 3),
        p99_ms=round(centiles[98], 3),
        per_second=round(1000 * engines * len(times) / sum(times), 1),
        memory_mib=round(added / 2**20, 1),
        load_ms=round(load_ms, 1),
        share=round(engine.share.on / engine.share.of, 3) if engine.share else None,
        engines=engines,
    )


def _timed(engine: "Engine", inputs: Any, seconds: float) -> list[float]:
    """Milliseconds of each inference."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        began = time.perf_counter()
        engine.run(inputs)
        times.append((time.perf_counter() - began) * 1000)
    return times


def _random(rng: Any, shape: tuple[int, ...], dtype: str) -> Any:
    size = [OPEN_AXIS if axis < 0 else axis for axis in shape]
    if dtype.startswith("float"):
        return rng.random(size).astype(dtype)
    return rng.integers(0, 100, size).astype(dtype)


def _show(measurements: list[Measurement], best: Measurement) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    names = ["accelerator", "engines", "threads", "p50 ms", "p90 ms", "p99 ms", "a second", "memory MiB", "load ms"]
    shares = ["" if m.share is None else f"{m.share:.0%}" for m in measurements]
    for name in [*names, *(["share"] if any(shares) else [])]:
        first = name == "accelerator"
        table.add_column(name, justify="left" if first else "right", no_wrap=first)
    for m, share in zip(measurements, shares, strict=True):
        if not m.problem:
            figures = (m.p50_ms, m.p90_ms, m.p99_ms, m.per_second, m.memory_mib, m.load_ms)
            row = [m.accelerator, str(m.engines), str(m.threads), *(f"{figure:.1f}" for figure in figures), share]
            table.add_row(*row[: len(table.columns)])
    Console().print(table)
    for m in measurements:
        if m.problem:
            print(f"{m.accelerator}: not here: {m.problem.removeprefix(f'{m.accelerator}: ')}")
    wanted = "cpu" if best.accelerator == "cpu" else f"{best.accelerator}, cpu"
    print(f"\nFor the configuration:\n    accelerators: [{wanted}]")
    print(f"    engines: {best.engines}\n    threads: {best.threads}")
