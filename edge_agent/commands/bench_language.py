"""`bench` for a language model: time to the first token, tokens a second, memory, for each number of threads."""

import argparse
import random
import time
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path

from edge_agent.commands.benchmarking import CRASHED, choose, in_process, print_json, thread_counts
from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.models.language import LanguageSource
from edge_agent.system import memory
from edge_agent.system.units import counted
from edge_agent.system.worker_process import Channel

PROMPT_TOKENS = 256
CONTEXT = 1024


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number of threads, measured.

    Attributes:
        first_token_ms: from a prompt of `prompt_tokens` tokens to the first token of its answer.
        prompt_per_second: tokens of the prompt a second.
        output_per_second: tokens of the answer a second, one after the other.
        memory_mib: proportional memory (PSS) that the loaded model, its runtime and one session add, in MiB.
        load_ms: time to import the runtime and load the model.
        problem: why there is no measurement; empty if there is one.
    """

    threads: int
    prompt_tokens: int = 0
    first_token_ms: float = 0.0
    prompt_per_second: float = 0.0
    output_per_second: float = 0.0
    memory_mib: float = 0.0
    load_ms: float = 0.0
    problem: str = ""


def run(model: LanguageSource, args: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        ModelError: the model can't be run.
    """
    measurements = [_measured(model, threads, args.seconds) for threads in thread_counts()]
    usable = [measurement for measurement in measurements if not measurement.problem]
    if not usable:
        raise ModelError(f"{model.path}: {measurements[0].problem}")
    best = choose(usable, [measurement.output_per_second for measurement in usable])
    if args.json:
        print_json(model.path, model.sha256, measurements, {"threads": best.threads})
    else:
        _show(usable, best)
    return 0


def _measured(model: LanguageSource, threads: int, seconds: float) -> Measurement:
    request = {"path": str(model.path), "file_format": model.format, "threads": threads, "seconds": seconds}
    measured = in_process(__name__, **request)
    return Measurement(**measured) if measured else Measurement(threads, problem=CRASHED)


def main(channel: Channel) -> None:
    """The process of one measurement."""
    channel.send(asdict(measure(**channel.receive())))


def measure(path: str, file_format: str, threads: int, seconds: float) -> Measurement:
    """Loads a model, has it read a prompt again and again for `seconds`, then has it answer for as long."""
    from edge_agent.language import CHUNK, load_engine

    memory_before, began = memory.taken(), time.perf_counter()
    try:
        engine = load_engine(Path(path), file_format, threads, CONTEXT)
        load_ms = (time.perf_counter() - began) * 1000
        engine.reserve(1)
        session = engine.session(0)
        count = min(PROMPT_TOKENS, engine.context // 2)
        # Letters: every model knows some of them.
        known = [token for letter in "abcdefgh" for token in engine.encode(letter) if token < engine.vocabulary.size]
        prompt = random.Random(0).choices(known or [0], k=count)  # noqa: S311 - no secret
        times: list[float] = []
        until = time.perf_counter() + seconds
        while not times or time.perf_counter() < until:
            session.rewind(0)
            began = time.perf_counter()
            for start in range(0, count, CHUNK):
                engine.extend([(session, prompt[start : start + CHUNK])])
            token = int(session.logits().argmax())
            times.append(time.perf_counter() - began)
        began, count_out = time.perf_counter(), 0
        room = range(engine.context - count)
        for _ in takewhile(lambda number: not number or time.perf_counter() - began < seconds, room):
            engine.extend([(session, [token])])
            token = int(session.logits().argmax())
            count_out += 1
        output = time.perf_counter() - began
    except EdgeAgentError as error:
        return Measurement(threads, problem=str(error))
    first = sorted(times)[len(times) // 2]
    return Measurement(
        threads,
        prompt_tokens=count,
        first_token_ms=round(first * 1000, 1),
        prompt_per_second=round(count / first, 1),
        output_per_second=round(count_out / output, 1),
        memory_mib=round((memory.taken() - memory_before) / 2**20, 1),
        load_ms=round(load_ms, 1),
    )


def _show(measurements: list[Measurement], best: Measurement) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("threads", "first token ms", "prompt tokens/s", "output tokens/s", "memory MiB", "load ms"):
        table.add_column(name, justify="right")
    for m in measurements:
        figures = (m.first_token_ms, m.prompt_per_second, m.output_per_second, m.memory_mib, m.load_ms)
        table.add_row(str(m.threads), *(f"{figure:.1f}" for figure in figures))
    Console().print(table)
    print(
        f"\nThe prompt has {counted(best.prompt_tokens, 'token')}. For the configuration:\n    threads: {best.threads}"
    )
