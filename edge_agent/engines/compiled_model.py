"""TFLite models on the GPU, through LiteRT's CompiledModel: https://ai.google.dev/edge/litert/next/overview."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import Share, TensorSpec, reason
from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    from ai_edge_litert import compiled_model as litert
except ImportError:  # tflite-runtime, or a LiteRT before version 2
    litert = None

_SIGNATURE = 0


class CompiledEngine:
    """See `Engine`.

    Args:
        path: the model file.
        accelerator: its name.
        plain: the same model in an interpreter, of which the tensors' facts are.
        hardware: what it may run on, as LiteRT names it.
    """

    def __init__(self, path: Path, accelerator: str, plain: Any, hardware: Sequence[str]) -> None:
        if litert is None:
            raise ModelError("the installed runtime can't use it: install ai-edge-litert 2 or later")
        kinds = litert.HardwareAccelerator(sum(litert.HardwareAccelerator[name] for name in hardware))
        found = False
        try:
            options = litert.Options(hardware_accelerators=kinds)
            self._model = litert.CompiledModel.from_file(str(path), options=options)
            found = True
        except (RuntimeError, ValueError):
            pass  # its own words name only places in its source
        if not found:  # no exception keeps the runtime alive then, which would have more to say at its end
            raise ModelError(f"{plain.runtime} finds no GPU with a driver for it")
        self.runtime, self.accelerator = plain.runtime, accelerator
        self.share: Share | None = None  # LiteRT does not tell
        self.inputs: tuple[TensorSpec, ...] = plain.inputs
        self.outputs: tuple[TensorSpec, ...] = plain.outputs
        key = next(iter(self._model.get_signature_list()))
        self._in = _order(self._model.get_input_tensor_details(key), plain.input_indices)
        self._out = _order(self._model.get_output_tensor_details(key), plain.output_indices)
        self._given = self._model.create_input_buffers(_SIGNATURE)
        self._made = self._model.create_output_buffers(_SIGNATURE)

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference: see `Engine.run`."""
        shapes = [array.shape for array in inputs]
        expected = [tuple(max(1, size) for size in spec.shape) for spec in self.inputs]
        kinds = [array.dtype.name for array in inputs]
        if shapes != expected or kinds != [spec.dtype for spec in self.inputs]:
            raise ModelError(f"inference failed: it takes {expected} only, found {shapes} of {', '.join(kinds)}")
        try:
            for at, array in zip(self._in, inputs, strict=True):
                self._given[at].write(np.ascontiguousarray(array))
            self._model.run_by_index(_SIGNATURE, self._given, self._made)
            return [self._read(at, spec) for at, spec in zip(self._out, self.outputs, strict=True)]
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"inference failed: {reason(error)}") from error

    def close(self) -> None:
        """Frees the model."""
        self._given = self._made = []
        self._model.close()

    def _read(self, at: int, spec: TensorSpec) -> "NDArray[Any]":
        shape = [max(1, size) for size in spec.shape]
        return np.asarray(self._made[at].read(int(np.prod(shape)), np.dtype(spec.dtype).type)).reshape(shape)


def _order(details: dict[str, dict[str, Any]], indices: Sequence[int]) -> list[int]:
    """Where in a signature the tensors of the interpreter stand."""
    of_signature = [one["index"] for one in details.values()]
    return [of_signature.index(index) for index in indices]
