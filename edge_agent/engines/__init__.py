"""Engines: one loaded model in one runtime. Tensors in, tensors out; they know nothing of images."""

import importlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Format of the model file -> the module that runs it, imported when a model needs it.
ENGINES = {
    "tflite": "edge_agent.engines.tflite",
    "onnx": "edge_agent.engines.onnx",
}
MAX_REASON = 200


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


class Engine(Protocol):
    """One loaded model. Not thread-safe: whoever owns it lets one thread in at a time."""

    runtime: str
    """Name and version of the runtime, as in `LiteRT 2.3.0`."""
    accelerator: str
    """What it runs on: `cpu`, `edgetpu`, …"""
    fallback: str
    """Why the accelerator is not the first of those asked for; empty if it is."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference.

        Args:
            inputs: one array for each of `inputs`, of its dtype; the first axis may be any batch size that the model
                takes.

        Returns:
            One array for each of `outputs`, valid for as long as the caller wants.

        Raises:
            ModelError: the runtime refuses the shapes, or the inference fails.
        """
        ...

    def close(self) -> None:
        """Frees the model."""
        ...


def load_engine(path: Path, file_format: str, accelerators: Sequence[str], threads: int) -> Engine:
    """Loads a model file into the runtime for its format.

    Raises:
        MissingExtraError: the runtime is not installed.
        ModelError: the runtime refuses the file, or none of the accelerators can be had.
    """
    module = importlib.import_module(ENGINES[file_format])
    return cast("Engine", module.load(path, accelerators, threads))


E = TypeVar("E", bound=Engine)


def on_first_accelerator(accelerators: Sequence[str], known: Collection[str], load: Callable[[str], E]) -> E:
    """The engine on the first accelerator that can be had; its `fallback` says why not on an earlier one.

    Args:
        accelerators: in order of preference.
        known: those that the runtime can be asked for.
        load: loads the model on an accelerator.

    Raises:
        ModelError: none can be had; says why.
    """
    refusals: list[str] = []
    for accelerator in accelerators:
        if accelerator not in known:
            refusals.append(f"{accelerator}: models of this format can't use it, only {', '.join(known)}")
            continue
        try:
            engine = load(accelerator)
        except ModelError as error:
            refusals.append(f"{accelerator}: {error}")
            continue
        engine.fallback = "; ".join(refusals)
        return engine
    raise ModelError("; ".join(refusals))


def reason(error: Exception) -> str:
    """A runtime's own words, in one line of bounded length."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text.rstrip(".") if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"
