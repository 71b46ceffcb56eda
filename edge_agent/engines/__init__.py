"""Engines: one loaded model in one runtime. Tensors go in, tensors come out; nothing here depends on images."""

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

from edge_agent import settings
from edge_agent.engines import plugins
from edge_agent.engines.accelerators import resolve
from edge_agent.errors import ModelError
from edge_agent.modelfile.identity import FileIdentity

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# Format of the model file -> the module that runs it, imported when a model needs it.
ENGINES = {
    "tflite": "edge_agent.engines.tflite",
    "onnx": "edge_agent.engines.onnx",
    "hef": "edge_agent.engines.hailo",
    "rknn": "edge_agent.engines.rknn",
    "rpk": "edge_agent.engines.imx500",
}
# Those that run in a process of their own in any case.
ISOLATED = ("hef", "rknn")
# Those whose runtime lets several threads call one loaded model at the same time, with one copy of its weights.
REENTRANT = ("onnx",)
# Characters of a runtime's error message that are quoted.
MAX_REASON = 200
CLOSED = "inference failed: the model has been closed"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a loaded model.

    Attributes:
        name: in the model.
        shape: size of each axis; -1 where it is dynamic.
        dtype: numpy name of the element type.
        scale: real value = scale * (stored value - zero_point); 0: not quantised.
        zero_point: see `scale`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a model runs on its accelerator.

    Attributes:
        on: number of operations of its graph that run there.
        of: number of all operations.
    """

    on: int
    of: int


class Engine(Protocol):
    """One loaded model. Not thread-safe: the owner calls it from one thread at a time."""

    @property
    def runtime(self) -> str:
        """Name and version of the runtime, as in `LiteRT 2.3.0`."""
        ...

    @property
    def accelerator(self) -> str:
        """The name of the accelerator that it runs on, in the configuration, such as `cpu`."""
        ...

    @property
    def share(self) -> Share | None:
        """How much of the model runs there; None for the CPU, and where the runtime does not report it."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The input tensors."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The output tensors."""
        ...

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference.

        Args:
            inputs: one array for each of `inputs`, of its shape and dtype; the first axis may be any batch size that
                the model takes.

        Returns:
            One array for each of `outputs`, of its shape and dtype; the caller may keep it.

        Raises:
            ModelError: the runtime refuses the inputs, the inference fails, or the engine has been closed.
        """
        ...

    def close(self) -> None:
        """Frees the model. A second call does nothing."""
        ...


@dataclass(slots=True)
class MemoryLimit:
    """What all engines in this process may take. A runtime that can bound that does so from its first engine on.

    Attributes:
        models: bytes for all models, as configured; None: not stated.
    """

    models: int | None = None


MEMORY_LIMIT = MemoryLimit()


class EngineWrapper:
    """Base of engines that run another engine, and report its properties as their own.

    Attributes:
        engine: the other engine.
    """

    engine: Engine

    @property
    def temperature(self) -> float | None:
        """Degrees Celsius of the chip; None where that is not known."""
        return getattr(self.engine, "temperature", None)

    @property
    def runtime(self) -> str:
        """See `Engine`."""
        return self.engine.runtime

    @property
    def accelerator(self) -> str:
        """See `Engine`."""
        return self.engine.accelerator

    @property
    def share(self) -> Share | None:
        """See `Engine`."""
        return self.engine.share

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """See `Engine`."""
        return self.engine.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """See `Engine`."""
        return self.engine.outputs

    def close(self) -> None:
        """See `Engine`."""
        self.engine.close()


def load_engine(file: FileIdentity, accelerator: settings.Accelerator, threads: int) -> Engine:
    """Loads a model file into the runtime for its format.

    Args:
        file: the model file; its format is a key of `ENGINES`.
        accelerator: what it runs on.
        threads: CPU threads for one inference.

    Raises:
        MissingExtraError: the runtime is not installed.
        ModelError: the runtime refuses the file, or the accelerator is not available, or takes no part of the model.
    """
    target = resolve(accelerator, file.format)
    log.debug("%s: loading on %s with %d threads", file.path, target.name, threads)
    try:
        return cast("Engine", _module(accelerator, file.format).load(file, target, threads))
    except ModelError as error:
        if target.is_cpu:
            raise
        raise ModelError(f"{target.name}: {error}") from error


def _module(accelerator: settings.Accelerator, file_format: str) -> ModuleType:
    """The module that runs models of a format on an accelerator.

    Raises:
        ModelError: there is none.
    """
    if isinstance(accelerator, settings.Plugin):
        return plugins.load(accelerator.plugin, file_format)
    if file_format not in ENGINES:
        raise ModelError(f"there is no engine here for .{file_format} files")
    return importlib.import_module(ENGINES[file_format])


def reason(error: Exception | str) -> str:
    """The message of a runtime's error, in one line of bounded length."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text.rstrip(".") if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"
