"""An engine on an accelerator: a driver that hangs must not hang the caller."""

import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from edge_agent.engines import Engine
from edge_agent.engines.crash_record import CrashRecord
from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Seconds that loading a model and running it for the first time may take: some drivers compile it then.
LOAD_TIMEOUT = 30.0

T = TypeVar("T")
Task = Callable[[], object]


class EngineLostError(ModelError):
    """An engine can't be used any more: its process has ended, or a call hangs."""


class ProcessEndedError(EngineLostError):
    """The process of an engine has ended: it can be started again at once."""


class StuckError(EngineLostError):
    """A call of an engine hangs in this process, and keeps a thread of it for ever."""


class Supervised:
    """See `Engine`. A call that hangs keeps the thread, and the memory of the model, until the process ends.

    Args:
        load: makes the engine.
        record: of crashes on this accelerator.
        timeout: seconds that an inference may take.

    Raises:
        ModelError: the engine can't be loaded or run.
    """

    def __init__(self, load: Callable[[], Engine], record: CrashRecord, timeout: float) -> None:
        self._record = record
        self._timeout = timeout
        self._lost = ""
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[object] = queue.SimpleQueue()
        work = (self._tasks, self._answers, record)
        threading.Thread(target=_work, args=work, name="accelerator", daemon=True).start()
        weakref.finalize(self, self._tasks.put, None)
        try:
            self._engine = self._ask(load, LOAD_TIMEOUT)
            self._ask(self._run_once, LOAD_TIMEOUT)
        except BaseException:
            self._tasks.put(None)
            raise
        self.runtime = self._engine.runtime
        self.accelerator = self._engine.accelerator
        self.share = self._engine.share
        self.inputs = self._engine.inputs
        self.outputs = self._engine.outputs

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference: see `Engine.run`.

        Raises:
            StuckError: this call, or one before it, has timed out.
            ModelError: see `Engine.run`.
        """
        return self._ask(lambda: self._engine.run(inputs), self._timeout)

    def close(self) -> None:
        """Frees the model, unless it hangs; does not wait for that."""
        if not self._lost:
            self._lost = "has been closed"
            self._tasks.put(self._engine.close)
            self._tasks.put(None)

    def _run_once(self) -> None:
        self._engine.run([np.zeros([max(1, size) for size in one.shape], one.dtype) for one in self._engine.inputs])

    def _ask(self, task: Callable[[], T], timeout: float) -> T:
        if self._lost:
            raise StuckError(self._lost)
        self._tasks.put(task)
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            self._lost = f"gives no answer for {timeout:g} s"
            self._record.close()  # a hang is not a crash, however the process ends later
            self._tasks.put(None)
            raise StuckError(self._lost) from None
        if isinstance(answer, BaseException):
            raise answer
        return cast("T", answer)


def _work(tasks: "queue.SimpleQueue[Task | None]", answers: "queue.SimpleQueue[object]", record: CrashRecord) -> None:
    """The thread. It must not hold a reference to the engine, or that would never be freed."""
    while (task := tasks.get()) is not None:
        try:
            with record:
                answer = task()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller
            answers.put(error)
        else:
            answers.put(answer)
        task = answer = None
    record.close()
