"""ONNX models, in ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import TensorSpec, on_first_accelerator, reason
from edge_agent.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    import onnxruntime as ort
except ImportError:
    raise MissingExtraError("running .onnx models", "onnx") from None

# Accelerator -> ONNX Runtime's execution provider.
PROVIDERS = {"cpu": "CPUExecutionProvider"}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
_FATAL_ONLY = 4


class OnnxEngine:
    """An ONNX Runtime session."""

    runtime = f"ONNX Runtime {ort.__version__}"

    def __init__(self, path: Path, accelerator: str, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # By default the pool's threads spin while they wait, which costs whole cores on an idle device.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _FATAL_ONLY
        self.accelerator = accelerator
        self.fallback = ""
        # Its own fallback would change the accelerator without a word to us, and with some on standard output.
        self._session = ort.InferenceSession(str(path), options, providers=[PROVIDERS[accelerator]], enable_fallback=0)
        self.inputs = tuple(_spec(value) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(value) for value in self._session.get_outputs())

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference: see `Engine.run`."""
        feed = {spec.name: array for spec, array in zip(self.inputs, inputs, strict=True)}
        try:
            return [np.asarray(output) for output in self._session.run(None, feed)]
        except Exception as error:  # its exceptions have no common base of their own
            raise ModelError(f"inference failed: {_reason(error)}") from error

    def close(self) -> None:
        """Frees the session."""
        del self._session


def load(path: Path, accelerators: Sequence[str], threads: int) -> OnnxEngine:
    """Loads on the first accelerator that can be had.

    Raises:
        ModelError: no accelerator of the list can be had, or the file is refused; says why.
    """

    def load_on(accelerator: str) -> OnnxEngine:
        try:
            return OnnxEngine(path, accelerator, threads)
        except Exception as error:  # its exceptions have no common base of their own
            raise ModelError(f"{OnnxEngine.runtime} refuses the model: {_reason(error)}") from error

    return on_first_accelerator(accelerators, PROVIDERS, load_on)


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(value.name, shape, _DTYPES.get(value.type, value.type))


def _reason(error: Exception) -> str:
    """The runtime's own words, without its prefix of error code and name."""
    text = reason(error)
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text
