"""An engine in a process of its own: a driver that crashes takes that process with it, and not the daemon.

Tensors are handed over in shared memory; only their types and shapes go through the channel.
"""

import logging
import mmap
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent import settings
from edge_agent.engines import Share, TensorSpec, load_engine
from edge_agent.engines.supervised import LOAD_TIMEOUT, EngineLostError, ProcessEndedError
from edge_agent.errors import ModelError
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.system import memory
from edge_agent.system.worker_process import Channel, WorkerEndedError, WorkerHungError, WorkerProcess

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# Bytes for the tensors of one call, inputs or outputs. Pages that no tensor touches take no memory.
MAX_TENSORS = 1 << 28
_ALIGNMENT = 64

Layout = list[tuple[str, list[int]]]
"""Type and shape of each tensor, in the order in which they lie in the shared memory."""


class SubprocessEngine:
    """See `Engine`. Not thread-safe.

    Args:
        file: the model file.
        accelerator: what it runs on.
        threads: CPU threads for one inference.
        timeout: seconds that an inference may take.
        model_memory: bytes that all models may take; None: not stated.

    Raises:
        ModelError: the model can't be loaded or run there.
    """

    def __init__(
        self,
        file: FileIdentity,
        accelerator: settings.Accelerator,
        threads: int,
        timeout: float,
        model_memory: int | None = None,
    ) -> None:
        self._timeout = timeout
        shared = os.memfd_create("tensors")
        try:
            os.ftruncate(shared, MAX_TENSORS)
            self._memory = mmap.mmap(shared, MAX_TENSORS)
            self._worker = WorkerProcess(__name__, pass_fds=(shared,))
        finally:
            os.close(shared)
        own = accelerator if isinstance(accelerator, str) else accelerator.model_dump(mode="json")
        request = {"memory": shared, "file": file.as_json(), "accelerator": own, "threads": threads}
        request["model_memory"] = model_memory
        try:
            facts = self._ask(request, LOAD_TIMEOUT)
            self.runtime, self.accelerator = facts["runtime"], facts["accelerator"]
            self.share = facts["share"] and Share(**facts["share"])
            self.inputs, self.outputs = (
                tuple(TensorSpec(**one | {"shape": tuple(one["shape"])}) for one in facts[kind])
                for kind in ("inputs", "outputs")
            )
            self.run([np.zeros([max(1, size) for size in one.shape], one.dtype) for one in self.inputs])
        except BaseException:
            self.close()
            raise
        log.debug("%s: runs in process %d", file.path, self._worker.pid)

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference: see `Engine.run`.

        Raises:
            EngineLostError: the process has ended, or gives no answer in time.
        """
        answer = self._ask(_write(self._memory, inputs), self._timeout)
        return [array.copy() for array in _read(self._memory, answer["outputs"])]

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._worker.kill()

    def _ask(self, request: Any, timeout: float) -> dict[str, Any]:
        try:
            self._worker.send(request)
            answer: dict[str, Any] = self._worker.receive(timeout)
        except WorkerHungError as error:
            raise EngineLostError(f"gives no answer for {error.seconds:g} s") from None
        except WorkerEndedError as error:
            how = f"its process has crashed ({error.signal})" if error.signal else "its process has ended"
            raise ProcessEndedError(how) from None
        if "error" in answer:
            raise ModelError(answer["error"])
        return answer


def _write(memory: mmap.mmap, arrays: Sequence["NDArray[Any]"]) -> Layout:
    """Lays arrays out in the shared memory.

    Raises:
        ModelError: they do not fit.
    """
    at, layout = 0, Layout()
    for array in arrays:
        if array.dtype.kind not in "biuf":
            raise ModelError("it gives texts, which can't be handed over: it can't be isolated")
        if at + array.nbytes > MAX_TENSORS:
            raise ModelError(f"its tensors take more than {MAX_TENSORS >> 20} MiB: it can't be isolated")
        np.ndarray(array.shape, array.dtype, memory, at)[...] = array
        layout.append((array.dtype.name, list(array.shape)))
        at += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    return layout


def _read(memory: mmap.mmap, layout: Layout) -> list["NDArray[Any]"]:
    """The arrays in the shared memory, not copied."""
    at, arrays = 0, list["NDArray[Any]"]()
    for dtype, shape in layout:
        arrays.append(np.ndarray(shape, dtype, memory, at))
        at += -(-arrays[-1].nbytes // _ALIGNMENT) * _ALIGNMENT
    return arrays


def main(channel: Channel) -> None:
    """The process: takes a request for a model, then layouts of inputs, and answers each."""
    request = channel.receive()
    tensors = mmap.mmap(request["memory"], MAX_TENSORS)
    memory.limit_data(memory.for_one_model(request["model_memory"]))
    try:
        file = FileIdentity.from_json(request["file"])
        stated = settings.Model.model_validate({"path": file.path, "accelerators": [request["accelerator"]]})
        engine = load_engine(file, stated.accelerators[0], request["threads"])
    except Exception as error:  # noqa: BLE001 - whatever keeps a model from being loaded is reported
        channel.send({"error": str(error)})
        return
    channel.send(
        {
            "runtime": engine.runtime,
            "accelerator": engine.accelerator,
            "share": engine.share and asdict(engine.share),
            "inputs": [asdict(one) for one in engine.inputs],
            "outputs": [asdict(one) for one in engine.outputs],
        }
    )
    while True:
        layout = channel.receive()
        try:
            channel.send({"outputs": _write(tensors, engine.run(_read(tensors, layout)))})
        except ModelError as error:
            channel.send({"error": str(error)})
