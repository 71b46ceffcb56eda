"""A model that is ready to serve: its file, the engine it is loaded in, and how it is read."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent import settings
from edge_agent.decoders import Limits
from edge_agent.decoders.classification import Classification
from edge_agent.engines import Engine, load_engine
from edge_agent.engines.accelerators import name_of
from edge_agent.engines.batching import Batching
from edge_agent.engines.failover import Candidate, Failover
from edge_agent.errors import InputError, ModelError
from edge_agent.models.accelerator_choice import (
    compiles,
    operator_hint,
    qualify_all,
    refusal_message,
    threads_of,
    without_prefix,
)
from edge_agent.models.io_spec import IOSpec, derive
from edge_agent.models.resolve import ModelSource, resolve_model
from edge_agent.models.state import State, StatefulIO
from edge_agent.timeseries.numbers import SeriesPreprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

# More samples at once save nothing, and the first would wait for the last.
MOST_TOGETHER = 32
WARM_UP_LIMITS = Limits(top_k=1, min_confidence=0.0)


class Model:
    """A loaded model. `infer` may be called from any thread; one at a time gets in.

    Attributes:
        preprocess: what a sample holds to input tensor.
        decode: output tensors to predictions, a `Decoder`.
        identity: name, version and hash, as results carry them.
        engine: what runs it.
        threshold: of an anomaly model, what its bundle says of scores; None: nothing.
        runs: how often `infer` has been called.
        busy: how long that took, in seconds.
    """

    def __init__(self, name: str, source: ModelSource, spec: IOSpec, engine: Engine) -> None:
        self.source = source
        self.file = source.file
        self.spec = spec
        self.engine = engine
        self.failover: Failover | None = None
        self.threshold = source.stated.threshold
        self.identity = {"name": name, "version": source.version, "sha256": source.file.sha256[:12]}
        self.preprocess = spec.preprocess
        stated = self.preprocess.input if isinstance(self.preprocess, SeriesPreprocess) else None
        self._stateful_io = (
            StatefulIO(engine.inputs, engine.outputs, stated) if stated and (stated.state or stated.constants) else None
        )
        self.decode = spec.build(engine.outputs if self._stateful_io is None else self._stateful_io.answers)
        self._batching = Batching(engine)
        batched = isinstance(self.preprocess, SeriesPreprocess) and self.preprocess.batched
        self._gathers = batched and self._stateful_io is None
        self.runs, self.busy = 0, 0.0
        self._lock = threading.Lock()

    @property
    def task(self) -> str:
        """What it does, as results say."""
        return self.decode.task

    @property
    def together(self) -> int:
        """How many samples go through it together at the most, on the engine that is in use now."""
        return MOST_TOGETHER if self._gathers and (self.failover or self._batching).at_once is not False else 1

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its classes or values; () where they have none."""
        return self.spec.labels or ()

    @property
    def memory(self) -> int:
        """Bytes that it takes, about."""
        return self.file.size

    def describe(self) -> str:
        """One line for a person."""
        return f"{self.file.path}: {self.engine.runtime} on {self.engine.accelerator}, {self.decode.task}"

    @property
    def takes_pictures(self) -> bool:
        """Whether pictures go in, and not readings or sound."""
        return not isinstance(self.preprocess, SeriesPreprocess)

    def facts(self) -> dict[str, Any]:
        """What `info` says of it."""
        return self.identity | {
            "sha256": self.file.sha256,
            "engine": self.engine.runtime,
            "accelerator": self.accelerator_facts(),
            "task": self.decode.task,
            "multi_label": isinstance(self.decode, Classification) and self.decode.output == "sigmoid",
        }

    def accelerator_facts(self) -> dict[str, Any]:
        """What is asked for, what is in use, and what that brings."""
        share = self.engine.share
        return {
            "asked": [name_of(accelerator) for accelerator in self.source.options.accelerators],
            "in_use": self.engine.accelerator,
            "fallback": self.fallback,
            "share": share and asdict(share),
            "speed_up": self.failover and self.failover.speed_up,
            "moves": self.failover.moves if self.failover else 0,
        }

    def serve(self, candidates: Sequence[Candidate], refusals: Mapping[str, str]) -> None:
        """From now on the next of these accelerators stands in for one that fails.

        Args:
            candidates: those that the model has qualified on.
            refusals: why others that were asked for are not among them.
        """
        asked = [name_of(accelerator) for accelerator in self.source.options.accelerators]
        self.failover = Failover(self.identity["name"], candidates, self._batching, asked, refusals)
        self.engine = self.failover

    def when_moved(self, moved: Callable[[], None]) -> None:
        """Has something called whenever another accelerator has come into use."""
        if self.failover:
            self.failover.moved = moved

    def retire(self) -> None:
        """It is not used any more, or not for long: accelerators that have failed are not tried again."""
        if self.failover:
            self.failover.retire()

    @property
    def fallback(self) -> str:
        """Why the accelerator in use is not the first of those asked for; empty if it is."""
        return self.failover.fallback if self.failover else ""

    def warm_up(self, batch: int) -> None:
        """Runs once on nothing, so that the first real input is not slow; finds out whether a batch goes through.

        Raises:
            ModelError: the model can't be run.
        """
        if self._gathers:
            batch = MOST_TOGETHER
        if batch > 1:
            try:
                self._try(batch)
            except (ModelError, InputError):
                self._batching.at_once = False  # the outputs of a batch can't be separated
        self._try(1)

    def _try(self, count: int) -> None:
        tensor, placements = self.preprocess.blank(count)
        self.decode(self.infer(tensor), placements, WARM_UP_LIMITS)

    @property
    def stateful(self) -> bool:
        """Whether it goes on from where it was with the sample before."""
        return self._stateful_io is not None and self._stateful_io.stateful

    def infer(self, tensor: "NDArray[Any]", state: State | None = None) -> list["NDArray[Any]"]:
        """Output tensors for a batch, at once where the model allows it, else one after the other.

        Args:
            tensor: made by `preprocess`; the first axis is the batch.
            state: of a stateful model, that of the stream; is changed.

        Raises:
            ModelError: the inference fails.
        """
        with self._lock:
            began = time.monotonic()
            try:
                if self._stateful_io is not None:
                    return self._stateful_io.run(self.engine, tensor, {} if state is None else state)
                return (self.failover or self._batching).run([tensor])
            finally:
                self.runs, self.busy = self.runs + 1, self.busy + time.monotonic() - began

    def infer_each(self, tensors: Sequence["NDArray[Any]"], state: State | None = None) -> list[list["NDArray[Any]"]]:
        """Output tensors for each of several inputs, which go through the model together.

        Args:
            tensors: each made by `preprocess`; several only where `together` allows it.
            state: see `infer`.

        Raises:
            ModelError: the inference fails.
        """
        if len(tensors) == 1:
            return [self.infer(tensors[0], state)]
        ends = np.cumsum([len(tensor) for tensor in tensors])[:-1]
        outputs = self.infer(np.concatenate(tensors))
        return [list(parts) for parts in zip(*(np.split(output, ends) for output in outputs), strict=True)]

    def close(self) -> None:
        """Frees the engine."""
        with self._lock:
            self.engine.close()


def load(name: str, options: settings.Model, folder: Path, batch: int = 1) -> Model:
    """Resolves a model, and loads it as `load_qualified` does.

    Args:
        name: of the model in the configuration.
        options: its settings.
        folder: what relative paths are relative to.
        batch: the largest that it will be run with.

    Raises:
        ModelError: any of this fails; one line that says what and how to fix it.
        MissingExtraError: the runtime is not installed.
    """
    return load_qualified(name, resolve_model(options, folder), batch)


def load_qualified(name: str, source: ModelSource, batch: int = 1, waiting: Callable[[], None] = lambda: None) -> Model:
    """Qualifies, loads and warms up a model on the first of its accelerators where that works.

    Args:
        name: of the model in the configuration.
        source: the model, resolved.
        batch: the largest that it will be run with.
        waiting: called about twice a second while a self-test runs.

    Raises:
        ModelError: it can run on none; one line that says why and how to fix it.
        MissingExtraError: the runtime is not installed.
    """
    candidates, refusals = qualify_all(name, source, batch, waiting)
    for candidate in candidates:
        try:
            loaded = load_here(name, source, batch, candidate.load)
        except ModelError as error:
            refusals[candidate.name] = without_prefix(error, source, candidate.name)
        else:
            loaded.serve(candidates, refusals)
            return loaded
    raise ModelError(refusal_message(source, refusals))


def load_here(name: str, source: ModelSource, batch: int = 1, load: Callable[[], Engine] | None = None) -> Model:
    """Loads and warms up a model, qualified or not.

    Args:
        name: of the model in the configuration.
        source: the model, resolved.
        batch: the largest that it will be run with.
        load: makes its engine; default: on the first of its accelerators.

    Raises:
        ModelError: the file does not state enough, or the runtime refuses it.
        MissingExtraError: the runtime is not installed.
    """
    accelerator = source.options.accelerators[0]
    file = source.file_for(accelerator)
    try:
        spec = derive(source.file, source.stated)
        engine = load() if load else load_engine(file.path, file.format, accelerator, threads_of(source.options))
        loaded = Model(name, source, spec, engine)
        loaded.warm_up(batch)
    except (ModelError, InputError) as error:
        hint = "" if compiles(accelerator) else operator_hint(file)
        raise ModelError(f"{source.file.path}: {error}{f': {hint}' if hint else ''}") from error
    return loaded
