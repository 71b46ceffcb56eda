"""A loaded model: its preprocessing, its engines, and its decoder."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent import settings
from edge_agent.decoders import Limits
from edge_agent.decoders.classification import Classification
from edge_agent.engines import REENTRANT, Engine
from edge_agent.engines.accelerators import known_as, name_of
from edge_agent.engines.batching import Batching
from edge_agent.engines.failover import Candidate, Failover
from edge_agent.engines.tuning import Tuning
from edge_agent.errors import InputError, ModelError
from edge_agent.models.accelerator_choice import (
    compiles,
    load_single,
    operator_hint,
    qualify_all,
    refusal_message,
    without_prefix,
)
from edge_agent.models.bound_io import MOST_TOGETHER, BoundIO, bound, spec_for
from edge_agent.models.io_spec import IOSpec
from edge_agent.models.resolve import ModelSource, resolve_model
from edge_agent.models.state import State
from edge_agent.models.variant_engine import DecodableOutputs, VariantEngine
from edge_agent.samples import Prediction
from edge_agent.timeseries.numbers import SeriesPreprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


class Model:
    """A loaded model. `infer` may be called from any thread; `parallel` calls of it run at the same time.

    It has an engine for each batch size that pipelines use: some runtimes lay a model out for one batch size, and
    laying it out again takes longer than an inference.

    Args:
        name: in the configuration.
        source: what was loaded.
        io: its input and output.
        engines: by batch size.

    Attributes:
        file: the model file.
        preprocess: makes the input tensor of what samples hold.
        decode: makes predictions of output tensors.
        identity: name, version and hash, as results carry them.
        threshold: of an anomaly model, the threshold that its bundle states; None: none.
        min_confidence: of pipelines that state none, as its bundle says; None: the default of its task.
    """

    def __init__(self, name: str, source: ModelSource, io: BoundIO, engines: Mapping[int, Failover]) -> None:
        self.source = source
        self.engines = dict(sorted(engines.items()))
        self.file = source.file
        self.preprocess = io.spec.preprocess
        self.decode = io.decode
        self.threshold = source.stated.threshold
        self.min_confidence = source.stated.min_confidence
        self.identity = {"name": name, "version": source.version, "sha256": source.file.sha256[:12]}
        self._io = io

    @property
    def task(self) -> str:
        """What it does, as results carry it."""
        return self.decode.task

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its classes or values; () where they have none."""
        return self._io.spec.labels or ()

    @property
    def takes_pictures(self) -> bool:
        """Whether pictures go in, and not readings or sound."""
        return not isinstance(self.preprocess, SeriesPreprocess)

    @property
    def stateful(self) -> bool:
        """Whether it continues from its state after the previous sample."""
        return self._io.stateful is not None and self._io.stateful.stateful

    @property
    def keeps_state(self) -> bool:
        """Whether the file itself keeps state from one inference to the next, out of reach from here."""
        return self.file.keeps_state

    @property
    def together(self) -> int:
        """Up to how many samples may go through it together, on the accelerator in use."""
        return MOST_TOGETHER if self._io.gathers and self.engine_for(1).at_once is not False else 1

    @property
    def sequential(self) -> bool:
        """Whether it has one engine in any case: it keeps state, or takes inputs besides the sample."""
        return self._io.stateful is not None or self.keeps_state

    @property
    def parallel(self) -> int:
        """How many inferences can run at the same time, on the accelerator in use."""
        return 1 if self.sequential else min(engine.size for engine in self.engines.values())

    @property
    def memory(self) -> int:
        """Bytes that it takes, about."""
        return sum(memory_of(self.source, engine.tuning) for engine in self.engines.values())

    @property
    def runs(self) -> int:
        """Number of inferences so far."""
        return sum(engine.runs for engine in self.engines.values())

    @property
    def busy(self) -> float:
        """Seconds that they took."""
        return sum(engine.busy for engine in self.engines.values())

    @property
    def engine(self) -> Failover:
        """The engine whose accelerator is reported: one that has fallen back, else the one for the largest batch."""
        engines = list(self.engines.values())
        return next((engine for engine in engines if engine.fallback), engines[-1])

    @property
    def fallback(self) -> str:
        """Why the accelerator in use is not the first of those asked for; empty if it is."""
        return self.engine.fallback

    def engine_for(self, batch: int) -> Failover:
        """The engine for a batch size; where there is none, any engine takes it, at once or sample by sample."""
        return self.engines.get(batch) or next(iter(self.engines.values()))

    def infer(self, tensor: "NDArray[Any]", state: State | None = None) -> list["NDArray[Any]"]:
        """Output tensors for a batch, at once where the model allows it, else one sample after the other.

        Args:
            tensor: (batch, …), as `preprocess` makes it.
            state: of a stateful model, that of the stream; is changed.

        Returns:
            One array for each output, its first axis the batch where the model has that axis.

        Raises:
            ModelError: the inference fails.
        """
        return self._io.run(self.engine_for(len(tensor)), tensor, state)

    def predictions(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Any], limits: Limits
    ) -> list[Prediction]:
        """What output tensors of `infer` mean, by the decoder of the file that they come from: see `Decoder`."""
        decode = outputs.decode if isinstance(outputs, DecodableOutputs) else self.decode
        return decode(outputs, placements, limits)

    def infer_each(self, tensors: Sequence["NDArray[Any]"], state: State | None = None) -> list[list["NDArray[Any]"]]:
        """Output tensors for each of several inputs, which go through the model together.

        Args:
            tensors: each (batch, …), as `preprocess` makes it; several only where `together` allows it.
            state: see `infer`.

        Returns:
            For each input what `infer` returns for it.

        Raises:
            ModelError: the inference fails.
        """
        if len(tensors) == 1:
            return [self.infer(tensors[0], state)]
        ends = np.cumsum([len(tensor) for tensor in tensors])[:-1]
        outputs = self.infer(np.concatenate(tensors))
        return [list(parts) for parts in zip(*(np.split(output, ends) for output in outputs), strict=True)]

    def describe(self) -> str:
        """One line for a person."""
        return f"{self.file.path}: {self.engine.runtime} on {self.engine.accelerator}, {self.task}"

    def facts(self) -> dict[str, Any]:
        """As published in `info`."""
        return self.identity | {
            "sha256": self.file.sha256,
            "engine": self.engine.runtime,
            "accelerator": self.accelerator_facts(),
            "tuning": self.tuning and self.tuning.facts(),
            "task": self.task,
            "multi_label": isinstance(self.decode, Classification) and self.decode.multi_label,
        }

    @property
    def tuning(self) -> Tuning | None:
        """How it is run on the CPU; None on another accelerator, and where that was not measured."""
        return self.engine.tuning

    def accelerator_facts(self) -> dict[str, Any]:
        """Which accelerators are asked for, which one is in use, and what that brings."""
        engine = self.engine
        return {
            "asked": [name_of(accelerator) for accelerator in self.source.options.accelerators],
            "in_use": engine.accelerator,
            "fallback": engine.fallback,
            "share": engine.share and asdict(engine.share),
            "speed_up": engine.speed_up,
            "moves": engine.moves,
        } | ({} if engine.temperature is None else {"temperature_c": engine.temperature})

    def when_moved(self, moved: Callable[[], None]) -> None:
        """Sets what is called whenever another accelerator has come into use."""
        for engine in self.engines.values():
            engine.moved = moved

    def retire(self, successor: object = None) -> None:
        """It is no longer used, or not for long: accelerators that have failed are not tried again.

        Args:
            successor: the model that takes its place; engines that it has taken over go on.
        """
        kept = successor.engines.values() if isinstance(successor, Model) else ()
        for engine in self.engines.values():
            if engine not in kept:
                engine.retire()

    def close(self) -> None:
        """Frees the engines."""
        for engine in self.engines.values():
            engine.close()


def memory_of(source: ModelSource, tuning: Tuning | None) -> int:
    """Bytes that the engines for one batch size take, about: each its own weights, unless the runtime shares them."""
    copies = 1 if tuning is None or source.file.format in REENTRANT else tuning.engines
    return source.file.total_size * copies


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
    return load_qualified(name, resolve_model(options, folder), (batch,))


def load_qualified(
    name: str,
    source: ModelSource,
    batches: Collection[int] = (1,),
    waiting: Callable[[], None] = lambda: None,
    present: Mapping[int, Failover] | None = None,
) -> Model:
    """Qualifies, loads and warms up a model on the first of its accelerators where that works.

    Args:
        name: of the model in the configuration.
        source: the model, resolved.
        batches: the batch sizes that it needs engines for.
        waiting: called about twice a second while a self-test runs.
        present: engines that are loaded already, by batch size; those that are needed are taken over.

    Raises:
        ModelError: it can run on none; one line that says why and how to fix it.
        MissingExtraError: the runtime is not installed.
    """
    engines = {batch: engine for batch, engine in (present or {}).items() if batch in batches}
    missing = [batch for batch in sorted(batches) if batch not in engines]
    qualified = {batch: qualify_all(name, source, batch, waiting) for batch in missing}
    specs = _specs(source)
    engines |= {batch: _serve(name, source, specs, batch, *found) for batch, found in qualified.items()}
    model = Model(name, source, bound(next(iter(specs.values())), next(iter(engines.values()))), engines)
    if model.sequential and (stated := source.options.engines) not in ("auto", 1):
        model.close()
        raise ModelError(
            f"{source.file.path}: engines: {stated}: expected 1, since it keeps state, or takes inputs besides the "
            "sample: leave `engines` out"
        )
    return model


def load_unqualified(name: str, source: ModelSource, batch: int = 1) -> Model:
    """Loads and warms up a model on the first of its accelerators, without a self-test.

    Args:
        name: of the model in the configuration.
        source: the model, resolved.
        batch: the largest that it will be run with.

    Raises:
        ModelError: the file does not state enough, or the runtime refuses it.
        MissingExtraError: the runtime is not installed.
    """
    accelerator = source.options.accelerators[0]
    called, file = name_of(accelerator), source.file_for(accelerator)
    candidate = Candidate(called, lambda: load_single(source), qualify=lambda: None)
    try:
        spec = spec_for(source, accelerator)
        engine = Failover(name, [candidate], _load(candidate, spec, batch), [called], {})
    except (ModelError, InputError) as error:
        hint = "" if compiles(accelerator) else operator_hint(file)
        raise ModelError(f"{source.file.path}: {error}{f': {hint}' if hint else ''}") from error
    return Model(name, source, BoundIO.bind(spec, engine), {batch: engine})


def _specs(source: ModelSource) -> dict[str, IOSpec]:
    """The input and output of each file that may serve, by the names of the accelerators, in order of preference.

    Raises:
        ModelError: no file states enough.
    """
    specs: dict[str, IOSpec] = {}
    problem: ModelError | None = None
    for accelerator in source.options.accelerators:
        if known_as(accelerator) not in source.unfit:
            try:
                specs[name_of(accelerator)] = spec_for(source, accelerator)
            except ModelError as error:
                problem = problem or error
    if not specs:
        raise problem or ModelError(f"{source.file.path}: there is no file for what `accelerators` asks for")
    return specs


def _serve(
    name: str,
    source: ModelSource,
    specs: Mapping[str, IOSpec],
    batch: int,
    candidates: Sequence[Candidate],
    refusals: dict[str, str],
) -> Failover:
    """A failover engine on the first candidate that can be loaded and run."""
    asked = [name_of(accelerator) for accelerator in source.options.accelerators]
    of_model = next(iter(specs.values()))
    if len({source.file_for(accelerator).format for accelerator in source.options.accelerators}) > 1:
        candidates = [
            replace(one, load=partial(_variant, one.load, specs[one.name], of_model))
            for one in candidates
            if one.name in specs
        ]
    for candidate in candidates:
        try:
            first = _load(candidate, of_model, batch)
        except (ModelError, InputError) as error:
            refusals[candidate.name] = without_prefix(error, source, candidate.name)
        else:
            log.debug("%s: loaded on %s for batches of %d", name, candidate.name, batch)
            return Failover(name, candidates, first, asked, refusals)
    raise ModelError(refusal_message(source, refusals))


def _variant(load: Callable[[], Engine], own: IOSpec, model: IOSpec) -> Engine:
    engine = load()
    try:
        return VariantEngine(engine, own, model)
    except ModelError:
        engine.close()
        raise


def _load(candidate: Candidate, spec: IOSpec, batch: int) -> Batching:
    engine = Batching(candidate.load())
    bound(spec, engine).warm_up(engine, batch)
    return engine
