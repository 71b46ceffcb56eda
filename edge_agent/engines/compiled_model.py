"""TFLite models on the GPU or an NPU, through LiteRT's CompiledModel: https://ai.google.dev/edge/litert/next/overview."""

import atexit
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import CLOSED, Engine, Share, TensorSpec, reason
from edge_agent.engines.accelerators import COMPILED_FOR_NPU, Target
from edge_agent.engines.stderr_filter import without_chatter
from edge_agent.errors import ModelError
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.system.sealed import SealedFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    from ai_edge_litert import compiled_model as litert
except ImportError:  # tflite-runtime, or a LiteRT before version 2
    litert = None

_SIGNATURE = 0


def load(file: FileIdentity, target: Target, plain: Any) -> Engine:
    """Loads a model on the GPU or an NPU.

    The CPU computes the operators that the GPU does not support. An NPU has to run all of them: with the CPU beside it,
    LiteRT runs the whole model on the CPU without an error where there is no NPU.

    Args:
        file: the model file.
        target: the accelerator.
        plain: see `CompiledEngine`.

    Raises:
        ModelError: there is none, or the installed runtime has no CompiledModel.
    """
    if litert is None:
        raise ModelError("the installed runtime can't use it: install ai-edge-litert 2 or later")
    kinds = litert.HardwareAccelerator
    hardware = kinds.NPU if target.runs_on == COMPILED_FOR_NPU else kinds.GPU | kinds.CPU
    return CompiledEngine(file, target.name, plain, hardware)


class CompiledEngine:
    """See `Engine`. It runs one sample at a time: the batch size is fixed.

    Args:
        file: the model file.
        accelerator: its name.
        plain: the same model in an interpreter, which describes its tensors: CompiledModel states no quantization.
        hardware: LiteRT's flags for what may run the model.

    Raises:
        ModelError: the hardware is not there.
    """

    def __init__(self, file: FileIdentity, accelerator: str, plain: Any, hardware: Any) -> None:
        loaded = False
        copy = file.sealed()
        self._copy: SealedFile | None = copy  # shared with other engines as long as there is one
        try:
            self._model: Any = litert.CompiledModel.from_file(copy.path, options=litert.Options(hardware))
            loaded = True
        except (RuntimeError, ValueError):
            pass  # the message only names places in LiteRT's source
        if not loaded:  # outside `except`: the exception would keep the runtime alive, which then logs at exit
            what = "NPU that runs all of the model" if hardware == litert.HardwareAccelerator.NPU else "GPU"
            raise ModelError(f"{plain.runtime} finds no {what} with a driver for it")
        self.runtime, self.accelerator = plain.runtime, accelerator
        self.share: Share | None = None  # LiteRT does not report it
        self.inputs: tuple[TensorSpec, ...] = plain.inputs
        self.outputs: tuple[TensorSpec, ...] = plain.outputs
        key = next(iter(self._model.get_signature_list()))
        self._input_order = _order(self._model.get_input_tensor_details(key), plain.input_indices)
        self._output_order = _order(self._model.get_output_tensor_details(key), plain.output_indices)
        self._input_buffers = self._model.create_input_buffers(_SIGNATURE)
        self._output_buffers = self._model.create_output_buffers(_SIGNATURE)
        # The first write makes the runtime log once more: do it here, where standard error is filtered.
        for at, spec in zip(self._input_order, self.inputs, strict=True):
            self._input_buffers[at].write(np.zeros([max(1, size) for size in spec.shape], spec.dtype))
        _silence_stderr_at_exit()

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference: see `Engine.run`."""
        if self._model is None:
            raise ModelError(CLOSED)
        shapes = [array.shape for array in inputs]
        expected = [tuple(max(1, size) for size in spec.shape) for spec in self.inputs]
        kinds = [array.dtype.name for array in inputs]
        if shapes != expected or kinds != [spec.dtype for spec in self.inputs]:
            raise ModelError(f"inference failed: it takes {expected} only, found {shapes} of {', '.join(kinds)}")
        try:
            for at, array in zip(self._input_order, inputs, strict=True):
                self._input_buffers[at].write(np.ascontiguousarray(array))
            self._model.run_by_index(_SIGNATURE, self._input_buffers, self._output_buffers)
            return [self._read(at, spec) for at, spec in zip(self._output_order, self.outputs, strict=True)]
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"inference failed: {reason(error)}") from error

    def close(self) -> None:
        """Frees the model."""
        if self._model is not None:
            with without_chatter():
                self._input_buffers = self._output_buffers = []
                self._model.close()
                self._model = self._copy = None

    def _read(self, at: int, spec: TensorSpec) -> "NDArray[Any]":
        shape = [max(1, size) for size in spec.shape]
        values = self._output_buffers[at].read(int(np.prod(shape)), np.dtype(spec.dtype).type)
        return np.asarray(values).reshape(shape)


@functools.cache
def _silence_stderr_at_exit() -> None:
    """Sends standard error to /dev/null at exit: LiteRT logs that it shuts down, after Python has."""
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


def _order(details: dict[str, dict[str, Any]], indices: Sequence[int]) -> list[int]:
    """Positions in a signature of the interpreter's tensors."""
    of_signature = [one["index"] for one in details.values()]
    return [of_signature.index(index) for index in indices]
