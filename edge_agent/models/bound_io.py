"""The input and output of a model, bound to the tensors of its engine."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_agent import settings
from edge_agent.decoders import Decoder, Limits
from edge_agent.engines import Engine, EngineWrapper
from edge_agent.engines.batching import Batching
from edge_agent.errors import InputError, ModelError
from edge_agent.models.io_spec import IOSpec, derive
from edge_agent.models.resolve import ModelSource
from edge_agent.models.state import State, StatefulIO
from edge_agent.models.variant_engine import VariantEngine
from edge_agent.timeseries.numbers import SeriesPreprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

# More samples at once save nothing, and the first would wait for the last.
MOST_TOGETHER = 32
WARM_UP_LIMITS = Limits(top_k=1, min_confidence=0.0)


@dataclass(frozen=True, slots=True)
class BoundIO:
    """The input and output of a model, bound to the tensors of its engine.

    Attributes:
        spec: the input and output, as derived from the file.
        decode: makes predictions of output tensors.
        stateful: runs models that take more than a sample; None for all others.
    """

    spec: IOSpec
    decode: Decoder
    stateful: StatefulIO | None

    @classmethod
    def bind(cls, spec: IOSpec, engine: Engine) -> "BoundIO":
        """Binds to the tensors of an engine.

        Raises:
            ModelError: the engine's tensors are not those that the spec needs.
        """
        stateful = StatefulIO(engine.inputs, engine.outputs, spec.feed) if spec.feed else None
        return cls(spec, spec.build(engine.outputs if stateful is None else stateful.answers), stateful)

    @property
    def gathers(self) -> bool:
        """Whether several samples may go through the model together."""
        preprocess = self.spec.preprocess
        if self.spec.keeps_state or self.stateful is not None:
            return False
        return isinstance(preprocess, SeriesPreprocess) and preprocess.batched

    def run(self, engine: Engine, tensor: "NDArray[Any]", state: State | None = None) -> list["NDArray[Any]"]:
        """See `Model.infer`."""
        if self.stateful is None:
            return engine.run([tensor])
        return self.stateful.run(engine, tensor, {} if state is None else state)

    def warm_up(self, engine: Batching, batch: int) -> None:
        """Runs once on nothing, so that the first real input is not slow; finds out whether the engine takes a batch.

        Raises:
            ModelError: the model can't be run.
            InputError: its outputs can't be decoded.
        """
        batch = MOST_TOGETHER if self.gathers else batch
        if batch > 1:
            try:
                self._run_blank(engine, batch)
            except (ModelError, InputError):
                engine.at_once = False  # the outputs of a batch can't be separated
        self._run_blank(engine, 1)

    def _run_blank(self, engine: Batching, count: int) -> None:
        tensor, placements = self.spec.preprocess.blank(count)
        self.decode(self.run(engine, tensor), placements, WARM_UP_LIMITS)


def spec_for(source: ModelSource, accelerator: settings.Accelerator) -> IOSpec:
    """The input and output of the file that runs on an accelerator.

    A file of the format of the model's own has the same. What a file in another format does not say of its network,
    the model's own says.

    Raises:
        ModelError: the files do not state enough.
    """
    own, file = source.file, source.file_for(accelerator)
    if file.format == own.format:
        return derive(own, source.stated)
    operators = own.output_operators if len(own.outputs) == len(file.outputs) else file.output_operators
    labels_from = file.labels_from or own.labels_from
    file = replace(file, output_operators=operators, labels=file.labels or own.labels, labels_from=labels_from)
    return derive(file, source.stated_for(file))


def bound(spec: IOSpec, engine: Engine) -> BoundIO:
    """The input and output of a model, as its engine decodes it."""
    inner: Engine | None = engine
    while inner is not None and not isinstance(inner, VariantEngine):
        inner = inner.engine if isinstance(inner, EngineWrapper) else None
    return BoundIO.bind(spec, engine) if inner is None else BoundIO(spec, inner.decode, None)
