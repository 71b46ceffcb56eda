"""The self-test of a model: before it serves, a separate process loads it, runs it and checks its golden samples.

A broken file can crash a runtime, hang it, or take all memory. Then that process ends, and this side reports in one
sentence what happened. `self_test_worker` is what runs there; no model is imported here.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edge_agent import settings
from edge_agent.engines.accelerators import CPU
from edge_agent.errors import ModelError
from edge_agent.models.golden import Check

# A step (loading, one golden sample) that takes longer has hung; the daemon gives a sample no more time, either.
PATIENCE = 30.0
# Bound on what the process reports.
MAX_REPORT = 4_000_000
MAX_REASON = 200

_LOOK_EVERY_MS = 500
# It imports what its parent would import; -P: nothing that happens to lie in the current folder before that.
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])["path"]
from edge_agent.models.self_test_worker import main
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
