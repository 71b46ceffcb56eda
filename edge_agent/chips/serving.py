"""The loop of a process that runs a model on a chip: takes a request for a model, then inputs, and answers each."""

import mmap
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from edge_agent.chips import tensors
from edge_agent.errors import ModelError
from edge_agent.system.worker_process import Channel

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Seconds between two readings of a chip's temperature.
TEMPERATURE_EVERY = 10.0


class ChipError(Exception):
    """The vendor's library has failed.

    Args:
        text: what it says.
        status: its number for that; 0 where there is none.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Chip(Protocol):
    """A model, loaded on a chip.

    Attributes:
        runtime: name and version of the library.
        inputs: facts of the input tensors, as keywords of `TensorSpec`.
        outputs: those of the output tensors.
    """

    runtime: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]

    def run(self, arrays: Sequence["NDArray[Any]"], timeout: float) -> list["NDArray[Any]"]:
        """One inference.

        Args:
            arrays: one for each input, with a batch of one.
            timeout: seconds that it may take.

        Raises:
            ChipError: the library has failed: the model has to be loaded again.
        """
        ...

    def temperature(self) -> float | None:
        """Degrees Celsius of the chip; None where the library does not report it."""
        ...

    def close(self) -> None:
        """Releases the chip."""
        ...


def serve(channel: Channel, load: Callable[[Mapping[str, Any]], Chip]) -> None:
    """Loads a model and runs it until the parent sends null or ends.

    After a failure the process ends as well: what is left of the library's state is not known. The parent starts it
    again, or uses another accelerator.
    """
    request = channel.receive()
    memory = mmap.mmap(request["memory"], tensors.MAX_TENSORS)
    try:
        chip = load(request)
    except Exception as error:  # noqa: BLE001 - whatever keeps a model from being loaded is reported
        channel.send(_refusal(error))
        return
    channel.send({"runtime": chip.runtime, "share": None, "inputs": chip.inputs, "outputs": chip.outputs})
    measured, temperature = time.monotonic(), _temperature(chip)
    while (message := channel.receive()) is not None:
        arrays = tensors.read(memory, message["tensors"])
        if wrong := _difference(arrays, chip.inputs):
            channel.send({"error": f"inference failed: {wrong}"})
            continue
        try:
            layout = tensors.write(memory, chip.run(arrays, message["timeout"]))
        except Exception as error:  # noqa: BLE001 - any failure makes the state of the library unknown
            channel.send(_refusal(error) | {"lost": True})
            return
        if temperature is not None and time.monotonic() - measured > TEMPERATURE_EVERY:
            measured, temperature = time.monotonic(), _temperature(chip)
        channel.send({"outputs": layout, "temperature": temperature})
    chip.close()


def _difference(arrays: Sequence["NDArray[Any]"], inputs: Sequence[Mapping[str, Any]]) -> str:
    """Why arrays are not what a model takes, in words; "" if they are. The libraries would take any memory."""
    given = [(list(array.shape), array.dtype.name) for array in arrays]
    expected = [(list(one["shape"]), one["dtype"]) for one in inputs]
    if given == expected:
        return ""
    if [(shape[1:], dtype) for shape, dtype in given] == [(shape[1:], dtype) for shape, dtype in expected]:
        return "the chip takes one sample at a time"
    return f"expected {_in_words(expected)}, found {_in_words(given)}"


def _in_words(tensors: Sequence[tuple[Sequence[int], str]]) -> str:
    return " and ".join(f"{list(shape)} {dtype}" for shape, dtype in tensors) or "nothing"


def _refusal(error: Exception) -> dict[str, Any]:
    if isinstance(error, ModelError):
        return {"error": str(error)}
    text = " ".join(str(error).split()) or type(error).__name__
    return {"error": text, "status": error.status if isinstance(error, ChipError) else 0}


def _temperature(chip: Chip) -> float | None:
    try:
        return chip.temperature()
    except Exception:  # noqa: BLE001 - some devices do not have it
        return None
