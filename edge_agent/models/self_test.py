"""A model's trial: before it serves, it is loaded, run and asked its golden samples in a process of its own.

A broken file can crash a runtime, hang it, or take all memory. It is then that process that ends, and what happened is
told in one sentence. What has passed is remembered: the same model needs no second trial on the same machine.
"""

import ctypes
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edge_agent import settings
from edge_agent.engines.accelerators import CPU
from edge_agent.errors import EdgeAgentError, InputError, ModelError
from edge_agent.models.golden import Check, check, failed, least_confidence
from edge_agent.system import memory as memory_bounds
from edge_agent.system.units import format_size

if TYPE_CHECKING:
    from edge_agent.models.bundle import Golden
    from edge_agent.models.model import Model
    from edge_agent.models.resolve import ModelSource

# A step (loading, one golden sample) that takes longer has hung; the daemon gives a sample no more time, either.
PATIENCE = 30.0
# How much memory a model may take.
MAX_MEMORY = 4 * 2**30
# Bound on what the process reports.
MAX_REPORT = 4_000_000
MAX_REASON = 200
TOP_K = 1000

_LOOK_EVERY_MS = 500
_PR_SET_PDEATHSIG = 1
_NAME = "trial"
# It imports what its parent would import; -P: nothing that happens to lie in the current folder before that.
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])["path"]
from edge_agent.models.self_test import main
main()
"""
_DAMAGED = "the file is damaged, or not for this version of the runtime: copy or export it again"
_UNSOUND = "the accelerator's driver fails on this model: install another version of it, or leave it out"
_HINTS = {
    signal.SIGKILL: "the system ends processes so when memory runs out: free some, or use a smaller model",
    signal.SIGILL: "the runtime uses instructions that this processor lacks: install another version of it",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What a trial has shown.

    Attributes:
        runtime: name and version of the runtime.
        accelerator: what the model ran on.
        checks: its golden samples, in the bundle's order of pictures.
        speed_up: how many times as fast as on the CPU it is; None on the CPU, and where it can't run there.
        disagreement: how its answers differ from those on the CPU; "" if they do not.
    """

    runtime: str
    accelerator: str
    checks: tuple[Check, ...]
    speed_up: float | None = None
    disagreement: str = ""


class _HungError(Exception):
    """The process gives no sign of life."""


def try_model(
    model: settings.Model,
    folder: Path,
    batch: int = 1,
    patience: float = PATIENCE,
    waiting: Callable[[], None] = lambda: None,
) -> Proof:
    """Loads and runs a model in a process of its own, and asks it its golden samples.

    Args:
        model: its settings; the first of its accelerators is tried.
        folder: what relative paths are relative to.
        batch: the largest that it will be run with.
        patience: seconds that loading, or one golden sample, may take.
        waiting: called about twice a second as long as it goes on; what it raises ends the trial.

    Raises:
        ModelError: it can't be found or read, or the runtime refuses it, crashes, hangs or runs out of memory.
    """
    request = {"model": model.model_dump(mode="json"), "folder": str(folder), "batch": batch}
    doing, verdict = "its libraries are loaded", ""
    value: Any = None
    # There may be no disk to write on.
    with os.fdopen(os.memfd_create("chatter"), "rb") as chatter, _process(request, chatter) as process:
        try:
            for line in _lines(process.stdout, patience, waiting):
                kind, value = json.loads(line)
                if kind == "doing":
                    doing = value
                else:
                    verdict = kind
        except _HungError:
            raise ModelError(
                f"{model.path}: {doing}, and nothing comes of it for {patience:g} s: the model hangs, or is too large "
                "for this machine"
            ) from None
        finally:
            process.kill()
            process.wait()
        words = _last_line(chatter)
    if verdict == "proof":
        return Proof(**value | {"checks": tuple(Check(**one) for one in value["checks"])})
    if verdict == "refused":
        raise ModelError(value)
    if process.returncode < 0:
        number = signal.Signals(-process.returncode)
        raise ModelError(
            f"{model.path}: {doing}, and that crashes the runtime ({number.name}{words}): "
            f"{_HINTS.get(number, _DAMAGED if model.accelerators[0] == CPU else _UNSOUND)}"
        )
    raise ModelError(f"{model.path}: its trial has ended without a result (exit code {process.returncode}{words})")


def _process(request: dict[str, Any], chatter: IO[bytes]) -> subprocess.Popen[bytes]:
    request |= {"parent": os.getpid(), "path": sys.path}
    return subprocess.Popen(  # noqa: S603 - this program itself
        [sys.executable, "-P", "-c", _START, json.dumps(request)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=chatter,
        start_new_session=True,  # a Ctrl-C is for its parent
    )


def _lines(pipe: IO[bytes] | None, patience: float, waiting: Callable[[], None]) -> Iterator[bytes]:
    """What the process reports, line by line, to its end.

    Raises:
        _HungError: nothing comes for so many seconds.
    """
    assert pipe is not None  # noqa: S101 - it was asked for
    poll, deadline = select.poll(), time.monotonic() + patience
    poll.register(pipe, select.POLLIN)
    rest, length = b"", 0
    while length < MAX_REPORT:
        if not poll.poll(_LOOK_EVERY_MS):
            waiting()
            if time.monotonic() > deadline:
                raise _HungError
            continue
        block = os.read(pipe.fileno(), 65536)
        if not block:
            return
        length, deadline = length + len(block), time.monotonic() + patience
        *lines, rest = (rest + block).split(b"\n")
        yield from lines


def _last_line(chatter: IO[bytes]) -> str:
    """`: ` and what the runtime has said last, in at most `MAX_REASON` characters; empty if it has said nothing."""
    chatter.seek(max(0, chatter.seek(0, os.SEEK_END) - 4 * MAX_REASON))
    lines = chatter.read().decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last[:MAX_REASON]}" if last else ""


def main() -> None:
    """The process: takes the request as its argument, reports to standard output."""
    request = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _end_with(request["parent"])
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some runtimes write to standard output as well

    def say(kind: str, value: Any) -> None:
        print(json.dumps([kind, value]), file=report, flush=True)

    from edge_agent.models import model as models
    from edge_agent.models.resolve import find, located

    folder, memory = Path(request["folder"]), MAX_MEMORY
    options = located(settings.Model.model_validate(request["model"]), folder)
    try:
        source = find(options, folder)
        memory = memory_bounds.limit(MAX_MEMORY)
        say("doing", "it is loaded and run once")
        model = models.load_here(_NAME, options, source, request["batch"])
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


def _checks(model: "Model", source: "ModelSource", folder: Path, say: Callable[[str, Any], None]) -> Iterator[Check]:
    """Asks the golden samples, which hold for the bundle as it states itself, not under settings of one's own."""
    from edge_agent.models import model as models
    from edge_agent.models.predictor import OneOff
    from edge_agent.models.resolve import find
    from edge_agent.preprocess.files import read_file

    options = model.options
    as_stated = settings.Model(path=options.path, accelerators=options.accelerators, threads=options.threads)
    if options != as_stated:
        model = models.load_here(_NAME, as_stated, find(as_stated, folder), batch=1)
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


def _comparison(model: "Model", source: "ModelSource", say: Callable[[str, Any], None]) -> dict[str, Any]:
    """What of a proof comes from holding an accelerator against the CPU."""
    from edge_agent.models import comparison
    from edge_agent.models import model as models

    if model.engine.accelerator == CPU:
        return {}
    say("doing", "it is compared with the CPU")
    try:
        on_cpu = models.load_here(_NAME, model.options.model_copy(update={"accelerators": (CPU,)}), source, batch=1)
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
