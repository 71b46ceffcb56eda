"""The self-test of a model: before it serves, a separate process loads it, runs it and checks its golden samples.

A broken file can crash a runtime, hang it, or take all memory. Then that process ends, and this side reports in one
sentence what happened. `self_test_worker` is what runs there; no model is imported here.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_agent.engines.accelerators import CPU, name_of
from edge_agent.engines.tuning import Tuning
from edge_agent.errors import ModelError
from edge_agent.models.golden import Check
from edge_agent.models.resolve import ModelSource
from edge_agent.system.worker_process import WorkerEndedError, WorkerHungError, WorkerProcess

log = logging.getLogger(__name__)

# Seconds for a step (loading, one golden sample). The daemon does not wait longer for a sample, either.
PATIENCE = 30.0

_WORKER = "edge_agent.models.self_test_worker"
_DAMAGED = "the file is damaged, or not for this version of the runtime: copy or export it again"
_UNSOUND = "the accelerator's driver fails on this model: install another version of it, or leave it out"
_HINTS = {
    "SIGKILL": "the system ends processes so when memory runs out: free some, or use a smaller model",
    "SIGILL": "the runtime uses instructions that this processor lacks: install another version of it",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a self-test that ran to its end.

    Attributes:
        runtime: name and version of the runtime.
        accelerator: what the model ran on.
        checks: its golden samples, in the bundle's order of pictures.
        speed_up: how many times as fast as on the CPU it is; None on the CPU, and where it can't run there.
        disagreement: how its answers differ from those on the CPU; "" if they do not.
        tuning: how it is best run on the CPU; None where that was not measured.
    """

    runtime: str
    accelerator: str
    checks: tuple[Check, ...]
    speed_up: float | None = None
    disagreement: str = ""
    tuning: Tuning | None = None


def run_self_test(
    source: ModelSource,
    batch: int = 1,
    patience: float = PATIENCE,
    waiting: Callable[[], None] = lambda: None,
    original: ModelSource | None = None,
) -> Outcome:
    """Loads and runs a model in a process of its own, and checks its golden samples there.

    Args:
        source: the model, resolved; the first of its accelerators is tested.
        batch: the largest batch that it will be run with.
        patience: seconds that loading, or one golden sample, may take.
        waiting: called about twice a second during the self-test; what it raises ends the self-test.
        original: of a model in another file: what it is compared with, in place of the CPU.

    Raises:
        ModelError: it does not state enough, or the runtime refuses it, crashes, hangs or runs out of memory.
    """
    path = source.file.path
    log.debug("%s: self-test on %s, batch %d", path, name_of(source.options.accelerators[0]), batch)
    step = "its libraries are loaded"
    with WorkerProcess(_WORKER, keep_stderr=True) as worker:
        try:
            worker.send({"model": source.as_json(), "batch": batch, "original": original and original.as_json()})
            kind, value = worker.receive(patience, waiting)
            while kind == "step":
                step = value
                log.debug("%s: self-test: %s", path, step)
                kind, value = worker.receive(patience, waiting)
        except WorkerHungError:
            raise ModelError(
                f"{path}: {step}, and nothing comes of it for {patience:g} s: the model hangs, or is too large "
                "for this machine"
            ) from None
        except WorkerEndedError as error:
            raise ModelError(f"{path}: {_how_it_ended(source, step, error)}") from None
    if kind == "refused":
        raise ModelError(value)
    return _outcome(**value)


def _outcome(checks: list[dict[str, Any]], tuning: dict[str, Any] | None, **facts: Any) -> Outcome:
    measured = None if tuning is None else Tuning.from_json(tuning)
    return Outcome(checks=tuple(Check(**one) for one in checks), tuning=measured, **facts)


def _how_it_ended(source: ModelSource, step: str, error: WorkerEndedError) -> str:
    if not error.signal:
        return f"its trial has ended without a result ({error})"
    hint = _HINTS.get(error.signal, _DAMAGED if source.options.accelerators[0] == CPU else _UNSOUND)
    return f"{step}, and that crashes the runtime ({error}): {hint}"
