"""TFLite models through LiteRT's CompiledModel: on the GPU, and on the CPU with the options of XNNPACK.

https://ai.google.dev/edge/litert/next/overview
"""

import atexit
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import Engine, Share, TensorSpec, reason
from edge_agent.engines.accelerators import Target
from edge_agent.engines.stderr_filter import without_chatter
from edge_agent.engines.weight_cache import with_weights
from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    from ai_edge_litert import compiled_model as litert
except ImportError:  # tflite-runtime, or a LiteRT before version 2
    litert = None

_SIGNATURE = 0


def on_gpu(path: Path, target: Target, plain: Any) -> Engine:
    """A model on the GPU, and on the CPU where that can't run it.

    Args:
        path: the model file.
        target: the accelerator.
        plain: see `CompiledEngine`.

    Raises:
        ModelError: there is none.
    """
    runtime = _litert()
    options = runtime.Options(runtime.HardwareAccelerator.GPU | runtime.HardwareAccelerator.CPU)
    return CompiledEngine(path, target.name, plain, options, "finds no GPU with a driver for it")


def on_cpu(path: Path, target: Target, threads: int, plain: Any) -> Engine:
    """A model on the CPU, by XNNPACK with options: https://github.com/google/XNNPACK.

    Args:
        path: the model file.
        target: the accelerator. Its options: `flags`, a number that stands for
            `TFLITE_XNNPACK_DELEGATE_FLAG_…` of xnnpack_delegate.h; `weight_cache`, true (the default) or false.
        threads: CPU threads for one inference.
        plain: see `CompiledEngine`.

    Raises:
        ModelError: an option is none of those; the model is refused.
    """
    runtime, flags, cached = _litert(), *_xnnpack_options(target)

    def load(weights: str) -> CompiledEngine:
        xnnpack = runtime.CpuOptions(num_threads=threads, xnnpack_flags=flags, xnnpack_weight_cache_path=weights)
        options = runtime.Options(runtime.HardwareAccelerator.CPU, cpu_options=xnnpack)
        return CompiledEngine(path, target.name, plain, options, "can't compile the model for XNNPACK")

    return with_weights(path, f"{plain.runtime} {flags}", load) if cached else load("")


def _litert() -> Any:
    if litert is None:
        raise ModelError("the installed runtime can't use it: install ai-edge-litert 2 or later")
    return litert


def _xnnpack_options(target: Target) -> tuple[int | None, bool]:
    """The flags, and whether weights are cached.

    Raises:
        ModelError: other options are stated.
    """
    options = dict(target.options)
    flags, cached = options.pop("flags", None), options.pop("weight_cache", "true")
    if options:
        raise ModelError(f"has no option {next(iter(options))}, only flags and weight_cache")
    if flags is not None and not re.fullmatch(r"0[xX][0-9a-fA-F]{1,7}|\d{1,9}", flags):
        raise ModelError(f"flags: expected a number, as 3 or 0x3, found {flags!r}")
    if cached not in ("true", "false"):
        raise ModelError(f"weight_cache: expected true or false, found {cached!r}")
    return None if flags is None else int(flags, 0), cached == "true"


class CompiledEngine:
    """See `Engine`.

    Args:
        path: the model file.
        accelerator: its name.
        plain: the same model in an interpreter, of which the tensors' facts are.
        options: LiteRT's, where and how it runs.
        refusal: what the runtime does if it can't.
    """

    def __init__(self, path: Path, accelerator: str, plain: Any, options: Any, refusal: str) -> None:
        found = False
        try:
            self._model = litert.CompiledModel.from_file(str(path), options=options)
            found = True
        except (RuntimeError, ValueError):
            pass  # its own words name only places in its source
        if not found:  # no exception keeps the runtime alive then, which would have more to say at its end
            raise ModelError(f"{plain.runtime} {refusal}")
        self.runtime, self.accelerator = plain.runtime, accelerator
        self.share: Share | None = None  # LiteRT does not tell
        self.inputs: tuple[TensorSpec, ...] = plain.inputs
        self.outputs: tuple[TensorSpec, ...] = plain.outputs
        key = next(iter(self._model.get_signature_list()))
        self._in = _order(self._model.get_input_tensor_details(key), plain.input_indices)
        self._out = _order(self._model.get_output_tensor_details(key), plain.output_indices)
        self._given = self._model.create_input_buffers(_SIGNATURE)
        self._made = self._model.create_output_buffers(_SIGNATURE)
        for at, spec in zip(self._in, self.inputs, strict=True):  # whatever the runtime has to say then, it says now
            self._given[at].write(np.zeros([max(1, size) for size in spec.shape], spec.dtype))
        _end_in_silence()

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
        with without_chatter():
            self._given = self._made = []
            self._model.close()
            del self._model

    def _read(self, at: int, spec: TensorSpec) -> "NDArray[Any]":
        shape = [max(1, size) for size in spec.shape]
        return np.asarray(self._made[at].read(int(np.prod(shape)), np.dtype(spec.dtype).type)).reshape(shape)


@functools.cache
def _end_in_silence() -> None:
    """The runtime tells of its end when Python has ended already, and nothing else has to be said."""
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


def _order(details: dict[str, dict[str, Any]], indices: Sequence[int]) -> list[int]:
    """Where in a signature the tensors of the interpreter stand."""
    of_signature = [one["index"] for one in details.values()]
    return [of_signature.index(index) for index in indices]
