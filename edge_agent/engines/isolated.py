"""Engines in a process of their own: the parent's side, whatever runs there."""

import logging
import mmap
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.chips import tensors
from edge_agent.engines import Share, TensorSpec
from edge_agent.engines.supervised import LOAD_TIMEOUT, EngineLostError, ProcessEndedError
from edge_agent.errors import ModelError
from edge_agent.system.sealed import large_files
from edge_agent.system.worker_process import WorkerEndedError, WorkerHungError, WorkerProcess

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


class IsolatedEngine:
    """See `Engine`. Not thread-safe.

    Args:
        module: runs in the process, see `WorkerProcess`. It takes a request with `memory`, the descriptor of the shared
            memory, answers with `runtime`, `share`, `inputs` and `outputs`, and then each message with `outputs`. In
            place of an answer it may send `error`, and with it `lost` if it ends.
        request: what else the request has.
        accelerator: its name.
        timeout: seconds that an inference may take.
        interpreter: see `WorkerProcess`.

    Attributes:
        timeout: see above; may be changed.
        temperature: of the chip, in degrees Celsius; None where it is not known.

    Raises:
        ModelError: the model can't be loaded or run there.
    """

    def __init__(
        self,
        module: str,
        request: Mapping[str, Any],
        accelerator: str,
        timeout: float,
        interpreter: str = sys.executable,
    ) -> None:
        self.timeout = timeout
        self.accelerator = accelerator
        self.temperature: float | None = None
        shared = os.memfd_create("tensors")
        try:
            with large_files():  # in a self-test, files are limited
                os.ftruncate(shared, tensors.MAX_TENSORS)
            self._memory = mmap.mmap(shared, tensors.MAX_TENSORS)
            self._worker = WorkerProcess(module, pass_fds=(shared,), interpreter=interpreter)
        finally:
            os.close(shared)
        try:
            facts = self._ask({"memory": shared, **request}, LOAD_TIMEOUT)
            self.runtime = facts["runtime"]
            self.share = facts["share"] and Share(**facts["share"])
            self.inputs, self.outputs = (
                tuple(TensorSpec(**one | {"shape": tuple(one["shape"])}) for one in facts[kind])
                for kind in ("inputs", "outputs")
            )
            self.run([np.zeros([max(1, size) for size in one.shape], one.dtype) for one in self.inputs])
        except BaseException:
            self._worker.kill()
            raise
        log.debug("%s: runs in process %d", accelerator, self._worker.pid)

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference: see `Engine.run`.

        Raises:
            EngineLostError: the process has ended, or gives no answer in time.
        """
        message = {"tensors": tensors.write(self._memory, inputs), "timeout": self.timeout}
        answer = self._ask(message, self.timeout)
        self.temperature = answer.get("temperature")
        return [array.copy() for array in tensors.read(self._memory, answer["outputs"])]

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._worker.kill()

    def explain(self, answer: Mapping[str, Any]) -> str:
        """The sentence for an answer with an `error`."""
        return str(answer["error"])

    def _ask(self, request: Any, timeout: float) -> dict[str, Any]:
        try:
            self._worker.send(request)
            answer: dict[str, Any] = self._worker.receive(timeout)
        except WorkerHungError as error:
            raise EngineLostError(f"gives no answer for {error.seconds:g} s") from None
        except WorkerEndedError as error:
            how = f"its process has crashed ({error.signal})" if error.signal else "its process has ended"
            raise ProcessEndedError(how) from None
        if "error" not in answer:
            return answer
        if answer.get("lost"):
            self._worker.kill()
            raise ProcessEndedError(self.explain(answer))
        raise ModelError(self.explain(answer))
