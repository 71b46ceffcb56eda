"""The choice of accelerators: which ones a model qualifies on, in order of preference, and how it is loaded there."""

import logging
from collections.abc import Callable
from functools import partial

from edge_agent import settings
from edge_agent.engines import ISOLATED, REENTRANT, Engine, load_engine
from edge_agent.engines.accelerators import CPU, known_as, name_of, resolve
from edge_agent.engines.crash_record import MAX_CRASHES, CrashRecord
from edge_agent.engines.failover import Candidate
from edge_agent.engines.fixed_batch import FixedBatch, fixed_batch
from edge_agent.engines.isolated import IsolatedEngine
from edge_agent.engines.pool import Pool
from edge_agent.engines.subprocess import SubprocessEngine
from edge_agent.engines.supervised import Supervised
from edge_agent.engines.tuning import Tuning
from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.models.qualification import qualify
from edge_agent.models.resolve import ModelSource
from edge_agent.models.tuning import threads_of

log = logging.getLogger(__name__)

# Accelerators that run standard operators only.
_PLAIN = (CPU, "gpu", "npu")
# Prefixes of operators that no standard runtime has, and what to do about each.
_FOREIGN_OPERATORS = {
    "edgetpu-custom-op": "it is compiled for the Edge TPU: run it there, or use the file that it was compiled from",
    "ethos-u": "it is compiled for the Ethos-U: run it there, or use the file that it was compiled from",
    "EPContext": "it is compiled for one execution provider: run it there, or use the file that it was compiled from",
    "Flex": "it has operators of TensorFlow itself: convert it with built-in operators only",
}


def qualify_all(
    name: str, source: ModelSource, batch: int, waiting: Callable[[], None]
) -> tuple[list[Candidate], dict[str, str]]:
    """Qualifies a model on each of its accelerators.

    Args:
        name: of the model in the configuration.
        source: the model, resolved.
        batch: the largest that it will be run with.
        waiting: called about twice a second while a self-test runs.

    Returns:
        The accelerators that it can run on, in order, and the reasons why it can't run on the others, by their names.

    Raises:
        ModelError: it can run on none.
    """
    candidates: list[Candidate] = []
    refusals: dict[str, str] = {}
    for accelerator in source.options.accelerators:
        alone, called = source.on(accelerator), name_of(accelerator)
        try:
            _refuse_unfit(source, accelerator)
            resolve(accelerator, source.file_for(accelerator).format)
            _refuse_compiled(source.file_for(accelerator), accelerator)
            crashes = _crashes(name, alone, batch)
            found = qualify(alone, batch, waiting, again=crashes > 0)
        except ModelError as error:
            refusals[called] = without_prefix(error, source, called)
            continue
        load, qualify_again = partial(_load, alone, batch, found.tuning), partial(qualify, alone, batch, again=True)
        candidates.append(Candidate(called, load, qualify_again, found.speed_up, found.tuning))
        log.debug("%s: qualified on %s for batches of %d", name, called, batch)
        if found.speed_up is not None and found.speed_up < 1:
            log.warning("%s: %s is slower here than the CPU, %.2g times as fast", name, called, found.speed_up)
    if not candidates:
        raise ModelError(refusal_message(source, refusals))
    return candidates, refusals


def refusal_message(source: ModelSource, refusals: dict[str, str]) -> str:
    """Why a model can run on none of its accelerators, in one sentence."""
    whys = (why if called == CPU else f"{called}: {why}" for called, why in refusals.items())
    return f"{source.file.path}: {'; '.join(whys)}"


def without_prefix(error: EdgeAgentError, source: ModelSource, called: str) -> str:
    """The message of an error, without the name of the model and of the accelerator that it begins with."""
    return str(error).removeprefix(f"{source.file.path}: ").removeprefix(f"{called}: ")


def operator_hint(file: ModelFile) -> str:
    """What to do about operators that a standard runtime lacks; empty if none of the known ones is in the file."""
    for start, hint in _FOREIGN_OPERATORS.items():
        if any(name.startswith(start) for name in (*file.custom_operators, *file.operators)):
            return hint
    return ""


def compiles(accelerator: settings.Accelerator) -> bool:
    """Whether an accelerator may run files with operators of its own."""
    return known_as(accelerator) not in ("", *_PLAIN)


def _refuse_unfit(source: ModelSource, accelerator: settings.Accelerator) -> None:
    """Refuses accelerators for which none of the bundle's files fits this machine.

    Raises:
        ModelError: it is one.
    """
    if reason := source.unfit.get(known_as(accelerator)):
        raise ModelError(reason)


def _refuse_compiled(file: ModelFile, accelerator: settings.Accelerator) -> None:
    """Refuses files that are compiled for another accelerator, without a self-test.

    Raises:
        ModelError: the file is such a file.
    """
    if known_as(accelerator) in _PLAIN and (hint := operator_hint(file)):
        raise ModelError(hint)


def load_on_cpu(file: FileIdentity, tuning: Tuning) -> Pool:
    """Loads a model on the CPU in this process, without a self-test.

    Args:
        file: its file, or one that computes the same.
        tuning: how many engines, of how many threads.

    Raises:
        MissingExtraError: the runtime is not installed.
        ModelError: the runtime refuses the file.
    """

    def load() -> Engine:
        return _in_fixed_batches(load_engine(file, CPU, tuning.threads))

    first = load()
    others = range(tuning.engines - 1)
    return Pool([first, *(first if file.format in REENTRANT else load() for _ in others)])


def load_single(source: ModelSource) -> Engine:
    """Loads a model on the first of its accelerators in this process, without a self-test; errors as `load_on_cpu`."""
    accelerator = source.options.accelerators[0]
    engine = load_engine(source.file_for(accelerator).identity, accelerator, threads_of(source.options))
    return _in_fixed_batches(engine)


def _load(source: ModelSource, batch: int, tuning: Tuning | None) -> Engine:
    model, accelerator = source.options, source.options.accelerators[0]
    file = source.file_for(accelerator)
    if file.format in ISOLATED and not isinstance(accelerator, settings.Plugin):
        engine = load_engine(file.identity, accelerator, threads_of(model))
        if isinstance(engine, IsolatedEngine):
            engine.timeout = model.timeout
        return _in_fixed_batches(engine)
    if model.isolate:
        isolated = SubprocessEngine(file.identity, accelerator, threads_of(model), model.timeout, source.model_memory)
        return _in_fixed_batches(isolated)
    if accelerator == CPU:
        if tuning is None:
            return load_single(source)
        return load_on_cpu(tuning.int8 or file.identity, tuning)
    load = partial(load_engine, file.identity, accelerator, threads_of(model))
    return _in_fixed_batches(Supervised(load, CrashRecord(_key(source, batch)), model.timeout))


def _in_fixed_batches(engine: Engine) -> Engine:
    return FixedBatch(engine) if fixed_batch(engine) > 1 else engine


def _crashes(name: str, source: ModelSource, batch: int) -> int:
    """How many times in a row this model has crashed the agent on this accelerator.

    Raises:
        ModelError: too many times.
    """
    accelerator = source.options.accelerators[0]
    own = source.file_for(accelerator).format in ISOLATED and not isinstance(accelerator, settings.Plugin)
    if accelerator == CPU or source.options.isolate or own:
        return 0
    record = CrashRecord(_key(source, batch))
    record.close()
    if record.crashes >= MAX_CRASHES:
        raise ModelError(f"has crashed the agent {record.crashes} times in a row: not used before the next boot")
    if record.crashes:
        log.error(
            "%s: %s has crashed the agent, %d of at most %d times in a row",
            name,
            name_of(accelerator),
            record.crashes,
            MAX_CRASHES,
        )
    return record.crashes


def _key(source: ModelSource, batch: int) -> str:
    return repr((source.file.sha256, source.options.accelerators, batch))
