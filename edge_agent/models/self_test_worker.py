"""The process of a self-test: loads a model, runs it, checks its golden samples and compares it with the CPU."""

import ctypes
import json
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_agent import settings
from edge_agent.engines.accelerators import CPU
from edge_agent.errors import EdgeAgentError, InputError, ModelError
from edge_agent.models import comparison
from edge_agent.models.bundle import Golden
from edge_agent.models.golden import Check, check, failed, least_confidence
from edge_agent.models.model import Model, load_here
from edge_agent.models.predictor import OneOff
from edge_agent.models.resolve import ModelSource, find, located
from edge_agent.models.self_test import MAX_REASON
from edge_agent.preprocess.files import read_file
from edge_agent.system import memory as memory_bounds
from edge_agent.system.units import format_size

# How much memory a model may take.
MAX_MEMORY = 4 * 2**30
TOP_K = 1000
_PR_SET_PDEATHSIG = 1
_NAME = "self-test"


def main() -> None:
    """The process: takes the request as its argument, reports to standard output."""
    request = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _end_with(request["parent"])
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some runtimes write to standard output as well

    def say(kind: str, value: Any) -> None:
        print(json.dumps([kind, value]), file=report, flush=True)

    folder, memory = Path(request["folder"]), MAX_MEMORY
    options = located(settings.Model.model_validate(request["model"]), folder)
    try:
        source = find(options, folder)
        memory = memory_bounds.limit(MAX_MEMORY)
        say("doing", "it is loaded and run once")
        model = load_here(_NAME, options, source, request["batch"])
        checks = [asdict(one) for one in _checks(model, source, folder, say)] if source.golden else []
        proof = {"runtime": model.engine.runtime, "accelerator": model.engine.accelerator, "checks": checks}
        say("proof", proof | _comparison(model, source, say))
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises over a broken file is its refusal
        say("refused", _refusal(error, options.path, memory))
    os._exit(0)  # what a broken model has left in memory is not tidied up


def _end_with(parent: int) -> None:
    """Ends this process when its parent ends, https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _checks(model: Model, source: ModelSource, folder: Path, say: Callable[[str, Any], None]) -> Iterator[Check]:
    """Asks the golden samples, which hold for the bundle as it states itself, not under settings of one's own."""
    options = model.options
    as_stated = settings.Model(path=options.path, accelerators=options.accelerators, threads=options.threads)
    if options != as_stated:
        model = load_here(_NAME, as_stated, find(as_stated, folder), batch=1)
    pictures: dict[Path, list[Golden]] = {}
    for line in source.golden:
        pictures.setdefault(line.input, []).append(line)
    for picture, lines in pictures.items():
        say("doing", f"it is asked its golden sample {picture}")
        try:
            answer = OneOff(model, TOP_K, least_confidence(lines)).ask(read_file(source.folder / picture))
        except (InputError, ModelError) as error:
            yield from (failed(line, error) for line in lines)
        else:
            yield from check(lines, answer.predictions)


def _comparison(model: Model, source: ModelSource, say: Callable[[str, Any], None]) -> dict[str, Any]:
    """What of a proof comes from holding an accelerator against the CPU."""
    if model.engine.accelerator == CPU:
        return {}
    say("doing", "it is compared with the CPU")
    try:
        on_cpu = load_here(_NAME, model.options.model_copy(update={"accelerators": (CPU,)}), source, batch=1)
    except ModelError:
        return {}  # it is compiled for this accelerator, and there is nothing to compare it with
    return asdict(comparison.compare(model, on_cpu, source))


def _refusal(error: Exception, path: Path, memory: int) -> str:
    """Why the model was refused, in one sentence."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    if any(isinstance(one, MemoryError) or re.search("bad.alloc|allocate memory", str(one)) for one in chain):
        return f"{path}: it needs more than the {format_size(memory)} of memory that a model may take here"
    if not isinstance(error, EdgeAgentError):
        return f"{path}: the runtime fails on it: {' '.join(f'{type(error).__name__}: {error}'.split())[:MAX_REASON]}"
    if not str(chain[-1]):
        return f"{error}: no reason given; it may be that it needs more than the {format_size(memory)} of memory here"
    return str(error)
