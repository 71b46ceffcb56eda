"""TFLite models, in LiteRT (`ai-edge-litert`) or, where there is no LiteRT, in `tflite-runtime`."""

import ctypes
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import CLOSED, Engine, Share, TensorSpec, reason
from edge_agent.engines.accelerators import COMPILED_FOR, CPU, INTERPRETER, Target
from edge_agent.engines.refusals import of_tflite
from edge_agent.engines.stderr_filter import EVERYTHING, without_chatter
from edge_agent.errors import MissingExtraError, ModelError
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.system.sealed import SealedFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    from ai_edge_litert import interpreter as tflite

    RUNTIME = f"LiteRT {version('ai-edge-litert')}"
except ImportError as litert_error:
    try:
        from tflite_runtime import interpreter as tflite

        RUNTIME = f"tflite-runtime {version('tflite-runtime')}"
    except ImportError as error:
        first = error if isinstance(litert_error, ModuleNotFoundError) else litert_error
        raise MissingExtraError("running .tflite models", "tflite", first) from None


# The runtime's name of the node that replaces the operations of a delegate.
_DELEGATE_NODE = "DELEGATE"


class TfliteEngine:
    """A TFLite interpreter with or without a delegate: see `Engine`.

    Args:
        file: the model file.
        target: the accelerator.
        threads: CPU threads for one inference.
        xnnpack: whether the operations that no delegate has taken run on XNNPACK.
    """

    runtime = RUNTIME

    def __init__(self, file: FileIdentity, target: Target, threads: int, *, xnnpack: bool = True) -> None:
        kernels = tflite.OpResolverType
        delegates = [] if target.is_cpu else [_delegate(target)]
        self.accelerator = target.name
        copy = file.sealed()
        self._copy: SealedFile | None = copy  # shared with other engines as long as there is one
        self._interpreter: Any = tflite.Interpreter(
            model_path=copy.path,
            experimental_delegates=delegates,
            num_threads=threads,
            experimental_op_resolver_type=kernels.AUTO if xnnpack else kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        # Before tensors are allocated, since XNNPACK then takes the remaining operations.
        self.share = None if target.is_cpu else _share(self._interpreter)
        self._interpreter.allocate_tensors()
        self.inputs = tuple(_spec(details) for details in self._interpreter.get_input_details())
        self.outputs = tuple(_spec(details) for details in self._interpreter.get_output_details())
        self.input_indices = [details["index"] for details in self._interpreter.get_input_details()]
        self.output_indices = [details["index"] for details in self._interpreter.get_output_details()]
        self._shapes = [spec.shape for spec in self.inputs]

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference: see `Engine.run`."""
        if self._interpreter is None:
            raise ModelError(CLOSED)
        shapes = [array.shape for array in inputs]
        try:
            if shapes != self._shapes:
                self._resize(shapes)
            for index, array in zip(self.input_indices, inputs, strict=True):
                self._interpreter.set_tensor(index, array)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"inference failed: {reason(of_tflite(str(error)))}") from error
        return [self._interpreter.get_tensor(index) for index in self.output_indices]

    def _resize(self, shapes: list[tuple[int, ...]]) -> None:
        self._shapes = []  # after a refused resize they are undefined
        for index, shape in zip(self.input_indices, shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes

    def close(self) -> None:
        """Frees the interpreter."""
        self._interpreter = self._copy = None


def _delegate(target: Target) -> Any:
    try:
        # If there is no such library, load_delegate leaves a broken object behind.
        ctypes.CDLL(target.runs_on)
    except OSError as error:
        install = f": install {target.install}" if target.install else ""
        raise ModelError(f"its library can't be loaded: {reason(error)}{install}") from None
    try:
        return tflite.load_delegate(target.runs_on, dict(target.options))
    except (ValueError, AttributeError) as error:  # AttributeError: the library lacks the functions of a delegate
        raise ModelError(f"its library refuses to serve as a delegate: {reason(error)}") from None


def _share(interpreter: "tflite.Interpreter") -> Share:
    """How many of the model's operations the delegate runs.

    The node of a delegate follows the model's own nodes. It replaces those that compute its outputs from its inputs.

    Raises:
        ModelError: it runs none.
    """
    nodes = interpreter._get_ops_details()  # noqa: SLF001 - LiteRT's Python has no public way to see the nodes
    own = [node for node in nodes if node["op_name"] != _DELEGATE_NODE]
    maker = {output: node for node in own for output in node["outputs"]}
    taken: set[int] = set()
    for delegated in nodes[len(own) :]:
        known, wanted = set(delegated["inputs"]), list(delegated["outputs"])
        while wanted:
            node = maker.get(tensor := wanted.pop())
            if node is not None and tensor not in known and node["index"] not in taken:
                taken.add(node["index"])
                wanted += list(node["inputs"])
    if not taken:
        raise ModelError(f"it takes none of the model's {len(own)} operations")
    return Share(len(taken), len(own))


def load(file: FileIdentity, target: Target, threads: int) -> Engine:
    """Loads a model on an accelerator.

    Raises:
        ModelError: the accelerator is not available, or the runtime refuses the file.
    """
    try:
        if target.runs_on in COMPILED_FOR:
            return _compiled(file, target)
        with without_chatter():
            return TfliteEngine(file, target, threads)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{RUNTIME} refuses the model: {reason(of_tflite(str(error)))}") from error


def _compiled(file: FileIdentity, target: Target) -> Engine:
    from edge_agent.engines import compiled_model

    with without_chatter(EVERYTHING):
        plain = TfliteEngine(file, Target(CPU, INTERPRETER), threads=1, xnnpack=False)
        return compiled_model.load(file, target, plain)


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
