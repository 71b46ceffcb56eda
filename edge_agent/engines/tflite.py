"""TFLite models, in LiteRT (`ai-edge-litert`) or, where only that exists, in `tflite-runtime`."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import TensorSpec, on_first_accelerator, reason
from edge_agent.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    from ai_edge_litert import interpreter as tflite

    RUNTIME = f"LiteRT {version('ai-edge-litert')}"
except ImportError:
    try:
        from tflite_runtime import interpreter as tflite

        RUNTIME = f"tflite-runtime {version('tflite-runtime')}"
    except ImportError:
        raise MissingExtraError("running .tflite models", "tflite") from None

# Accelerator -> the shared library of its delegate; `cpu` needs none (XNNPACK is part of the runtime).
DELEGATES = {"edgetpu": "libedgetpu.so.1"}


class TfliteEngine:
    """A TFLite interpreter and the delegate it runs on."""

    runtime = RUNTIME

    def __init__(self, path: Path, accelerator: str, threads: int) -> None:
        delegates = [] if accelerator == "cpu" else [_delegate(DELEGATES[accelerator])]
        self.accelerator = accelerator
        self.fallback = ""
        self._interpreter = tflite.Interpreter(
            model_path=str(path), experimental_delegates=delegates, num_threads=threads
        )
        self._interpreter.allocate_tensors()
        self.inputs = tuple(_spec(details) for details in self._interpreter.get_input_details())
        self.outputs = tuple(_spec(details) for details in self._interpreter.get_output_details())
        self._input_indices = [details["index"] for details in self._interpreter.get_input_details()]
        self._output_indices = [details["index"] for details in self._interpreter.get_output_details()]
        self._shapes = [spec.shape for spec in self.inputs]

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference: see `Engine.run`."""
        shapes = [array.shape for array in inputs]
        try:
            if shapes != self._shapes:
                self._resize(shapes)
            for index, array in zip(self._input_indices, inputs, strict=True):
                self._interpreter.set_tensor(index, array)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"inference failed: {reason(error)}") from error
        return [self._interpreter.get_tensor(index) for index in self._output_indices]

    def _resize(self, shapes: list[tuple[int, ...]]) -> None:
        self._shapes = []  # what a refused resize leaves behind is not known
        for index, shape in zip(self._input_indices, shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes

    def close(self) -> None:
        """Frees the interpreter."""
        del self._interpreter


def _delegate(library: str) -> Any:
    try:
        ctypes.CDLL(library)  # load_delegate itself, where there is no such library, leaves a broken object behind
    except OSError as error:
        raise ModelError(f"its library can't be loaded: {reason(error)}") from None
    return tflite.load_delegate(library)


def load(path: Path, accelerators: Sequence[str], threads: int) -> TfliteEngine:
    """Loads on the first accelerator that can be had.

    Raises:
        ModelError: no accelerator of the list can be had, or the file is refused; says why.
    """

    def load_on(accelerator: str) -> TfliteEngine:
        try:
            with _without_chatter():
                return TfliteEngine(path, accelerator, threads)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{RUNTIME} refuses the model: {reason(error)}") from error

    return on_first_accelerator(accelerators, ("cpu", *DELEGATES), load_on)


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Keeps the runtime's `INFO:` lines, which it writes without asking, out of standard error."""
    sys.stderr.flush()
    real = os.dup(2)
    with os.fdopen(os.memfd_create("said"), "rb") as said:  # there may be no disk to write on
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            said.seek(0)
            lines = said.read().splitlines(keepends=True)
            os.write(2, b"".join(line for line in lines if not line.startswith(b"INFO:")))


def _spec(details: dict[str, Any]) -> TensorSpec:
    signature = details.get("shape_signature")
    shape = details["shape"] if signature is None or len(signature) == 0 else signature
    scale, zero_point = details["quantization"]
    return TensorSpec(
        name=details["name"],
        shape=tuple(int(size) for size in shape),
        dtype=np.dtype(details["dtype"]).name,
        scale=float(scale),
        zero_point=int(zero_point),
    )
