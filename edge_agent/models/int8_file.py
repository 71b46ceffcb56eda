"""A uint8 model rewritten as int8, kept in the cache folder; used in place of the original where that is proven to pay.

It is made in a process of its own: to rewrite a file takes several times its size of memory.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge_agent.engines.tuning import Tuning
from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.modelfile import inspect
from edge_agent.models.io_spec import derive
from edge_agent.models.resolve import ModelSource
from edge_agent.models.self_test import PATIENCE, Outcome, run_self_test
from edge_agent.models.tuning import WORTH
from edge_agent.system import cache
from edge_agent.system.worker_process import WorkerEndedError, WorkerHungError, WorkerProcess

log = logging.getLogger(__name__)

_WORKER = "edge_agent.quantization.int8_worker"


def try_int8(source: ModelSource, batch: int, waiting: Callable[[], None], original: Tuning) -> Tuning:
    """How a model is best run on the CPU, if it may be run as int8.

    The int8 file has to pass the self-test of the original, with the same golden samples, to give the original's
    answers within their tolerance, and to be faster.

    Args:
        source: the model, resolved; its file is the original.
        batch: see `qualify`.
        waiting: see `qualify`.
        original: how it is best run in its original file.
    """
    try:
        if not source.golden and derive(source.file, source.stated).task == "detection":
            raise ModelError("a detector needs golden samples for that: make a bundle with some")
        rewritten = inspect.read(_make(source, waiting))
        tried = replace(source, file=rewritten, compiled={})
        outcome = run_self_test(tried, batch, waiting=waiting, original=source)
        refused = _refusal(outcome)
    except EdgeAgentError as error:
        refused = str(error)
    if refused:
        log.info("%s: not run as int8: %s", source.file.path, refused)
        return replace(original, int8_refused=refused)
    best, faster = outcome.tuning or original, outcome.speed_up or 1.0
    return replace(best, gain=round(faster * (best.gain or 1.0), 2), int8=rewritten.identity)


def _refusal(outcome: Outcome) -> str:
    if wrong := next((check for check in outcome.checks if not check.right), None):
        return f"golden sample {wrong.input}: expected {wrong.expected}, found {wrong.found}"
    if outcome.disagreement:
        return f"its answers differ: {outcome.disagreement}"
    if outcome.speed_up is None or outcome.speed_up < WORTH:
        return "it is not faster here"
    return ""


def _make(source: ModelSource, waiting: Callable[[], None]) -> Path:
    """Makes the file.

    Raises:
        ModelError: it can't be made or written; the original may be no uint8 model.
    """
    path = cache.cache_dir() / "int8" / f"{source.file.sha256}.tflite"
    request = {"file": source.file.identity.as_json(), "out": str(path), "model_memory": source.model_memory}
    with WorkerProcess(_WORKER, keep_stderr=True) as worker:
        try:
            worker.send(request)
            problem: str | None = worker.receive(PATIENCE, waiting)
        except (WorkerHungError, WorkerEndedError) as error:
            raise ModelError(f"it could not be rewritten: {error}") from None
    if problem:
        raise ModelError(problem)
    return path
