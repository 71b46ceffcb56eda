"""ONNX models, in ONNX Runtime."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import CLOSED, MEMORY_LIMIT, Share, TensorSpec, reason
from edge_agent.engines.accelerators import Target
from edge_agent.engines.refusals import of_onnx_runtime
from edge_agent.errors import MissingExtraError, ModelError
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.system import memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    import onnxruntime as ort
except ImportError as error:
    raise MissingExtraError("running .onnx models", "onnx", error) from None

log = logging.getLogger(__name__)

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(int16)": "int16",
    "tensor(bool)": "bool",
    "tensor(string)": "str",
}
_FATAL_ONLY = 4
# With this variable, a model could state options for its session, such as files to be written.
os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)


class OnnxEngine:
    """An ONNX Runtime session: see `Engine`. Several threads may run it at the same time."""

    runtime = f"ONNX Runtime {ort.__version__}"

    def __init__(self, file: FileIdentity, target: Target, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # By default, idle threads of the pool spin, which uses whole cores of an idle device.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _FATAL_ONLY
        if _bounded_arena():
            options.add_session_config_entry("session.use_env_allocators", "1")
            # Weights are not among the tensors: they are freed with their session, and counted before it is made.
            options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        if not target.is_cpu:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        self.accelerator = target.name
        if file.named_files:
            with file.copied() as path:  # weights are mapped: from files that nobody else has
                self._session: Any = self._load(str(path), options, target)
        else:
            self._session = self._load(file.content(), options, target)
            self._session._model_bytes = None  # noqa: SLF001 - kept for the fallback alone, which is off
        self.share = _share(self._session, target)
        self.inputs = tuple(_spec(value) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(value) for value in self._session.get_outputs())

    @staticmethod
    def _load(model: str | bytes, options: ort.SessionOptions, target: Target) -> ort.InferenceSession:
        providers = [(target.runs_on, dict(target.options))]
        # ONNX Runtime's own fallback would change the accelerator without an error, and print to standard output.
        return ort.InferenceSession(model, options, providers=providers, enable_fallback=0)

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference: see `Engine.run`."""
        session = self._session  # another thread may close it meanwhile
        if session is None:
            raise ModelError(CLOSED)
        try:
            feed = {spec.name: array for spec, array in zip(self.inputs, inputs, strict=True)}
            return [_array(output) for output in session.run(None, feed)]
        except Exception as error:  # its exceptions have no common base class
            raise ModelError(f"inference failed: {_reason(error)}") from error

    def close(self) -> None:
        """Frees the session."""
        self._session = None


@cache
def _bounded_arena() -> bool:
    """Makes one arena for the tensors of all sessions, with a bound; returns whether there is one.

    A session's own arena has no bound: a model whose tensors have sizes that it computes could take all memory.
    """
    most = memory.for_tensors(MEMORY_LIMIT.models)
    if most is None:
        return False
    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    as_requested = 1  # of the strategies by which it grows
    try:
        ort.create_and_register_allocator(
            place, ort.OrtArenaCfg({"max_mem": most, "arena_extend_strategy": as_requested})
        )
    except Exception as error:  # noqa: BLE001 - its exceptions have no common base class; without it, all else works
        log.debug("no bound on the memory of ONNX Runtime: %s", error)
        return False
    return True


def load(file: FileIdentity, target: Target, threads: int) -> OnnxEngine:
    """Loads a model on an accelerator.

    Raises:
        ModelError: the accelerator is not available, or the runtime refuses the file.
    """
    available = ort.get_available_providers()
    if target.runs_on not in available:
        install = f": install {target.install}" if target.install else ""
        raise ModelError(
            f"the installed {OnnxEngine.runtime} has no {target.runs_on}, only {', '.join(available)}{install}"
        )
    try:
        return OnnxEngine(file, target, threads)
    except ModelError:
        raise
    except Exception as error:  # its exceptions have no common base class
        raise ModelError(f"{OnnxEngine.runtime} refuses the model: {_reason(error)}") from error


def _share(session: ort.InferenceSession, target: Target) -> Share | None:
    """How many nodes of a session run on the requested provider; None for the CPU, or if it can't be determined.

    Raises:
        ModelError: the session has silently dropped the provider, or assigned it no node.
    """
    if target.runs_on not in session.get_providers():
        raise ModelError(f"ONNX Runtime can't set up {target.runs_on}: look at its device, driver and options")
    if target.is_cpu or not hasattr(session, "get_provider_graph_assignment_info"):
        return None  # ONNX Runtime before 1.24 does not report it
    counts = Counter[str]()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    if not counts[target.runs_on]:
        raise ModelError(f"{target.runs_on} takes none of the model's {counts.total()} operations")
    return Share(counts[target.runs_on], counts.total())


def _array(output: Any) -> "NDArray[Any]":
    """An output as an array: (batch, entries), float32, in the order of their keys, for a list of maps of numbers."""
    if isinstance(output, list) and output and all(isinstance(entry, dict) for entry in output):
        return np.array([[entry[key] for key in sorted(entry)] for entry in output], np.float32)
    return np.asarray(output)


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(value.name, shape, _DTYPES.get(value.type, value.type))


def _reason(error: Exception) -> str:
    """What has gone wrong, and what to do: see `refusals`."""
    return reason(of_onnx_runtime(str(error)) or type(error).__name__)
