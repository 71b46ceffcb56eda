"""Engines: one loaded model in one runtime. Tensors in, tensors out; they know nothing of images."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from edge_agent import settings
from edge_agent.engines.accelerators import resolve
from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Format of the model file -> the module that runs it, imported when a model needs it.
ENGINES = {
    "tflite": "edge_agent.engines.tflite",
    "onnx": "edge_agent.engines.onnx",
}
MAX_REASON = 200
CLOSED = "inference failed: the model has been closed"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a loaded model.

    Attributes:
        name: as the model has it.
        shape: axes; -1 where the model leaves the size open.
        dtype: numpy name of the element type.
        scale, zero_point: real value = scale * (stored value - zero_point); scale 0: stored values are real ones.
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
        on: operations of its graph that the accelerator has taken.
        of: all operations.
    """

    on: int
    of: int


class Engine(Protocol):
    """One loaded model. Not thread-safe: whoever owns it lets one thread in at a time."""

    @property
    def runtime(self) -> str:
        """Name and version of the runtime, as in `LiteRT 2.3.0`."""
        ...

    @property
    def accelerator(self) -> str:
        """What it runs on: `cpu`, or what else the configuration has asked for."""
        ...

    @property
    def share(self) -> Share | None:
        """How much of the model that is; None for the CPU, and where the runtime does not tell."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What goes in."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What comes out."""
        ...

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference.

        Args:
            inputs: one array for each of `inputs`, of its dtype; the first axis may be any batch size that the model
                takes.

        Returns:
            One array for each of `outputs`, valid for as long as the caller wants.

        Raises:
            ModelError: the runtime refuses the inputs, the inference fails, or the engine has been closed.
        """
        ...

    def close(self) -> None:
        """Frees the model. A second call does nothing."""
        ...


class EngineWrapper:
    """Reports of an engine what the engine reports that it runs.

    Attributes:
        engine: the engine that it runs.
    """

    engine: Engine

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


def load_engine(path: Path, file_format: str, accelerator: settings.Accelerator, threads: int) -> Engine:
    """Loads a model file into the runtime for its format.

    Raises:
        MissingExtraError: the runtime is not installed.
        ModelError: the runtime refuses the file, or the accelerator can't be had, or takes no part of the model.
    """
    target = resolve(accelerator, file_format)
    module = importlib.import_module(ENGINES[file_format])
    try:
        return cast("Engine", module.load(path, target, threads))
    except ModelError as error:
        if target.is_cpu:
            raise
        raise ModelError(f"{target.name}: {error}") from error


def reason(error: Exception) -> str:
    """A runtime's own words, in one line of bounded length."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text.rstrip(".") if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"
