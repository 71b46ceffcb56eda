"""A pool: several engines of one model, so that as many threads can run it at the same time."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edge_agent.engines import CLOSED, Engine, EngineWrapper
from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ThreadSafe(EngineWrapper):
    """Base of engines that any thread may call.

    Attributes:
        size: how many calls can run at the same time.
    """

    size: int


class Pool(ThreadSafe):
    """Runs each call on an engine that is free, or waits for one; any thread may call it.

    Args:
        engines: of the same model on the same accelerator, at least one. One whose runtime allows several calls at a
            time may be in it several times.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.engine = engines[0]
        self.size = len(engines)
        self._free = [*engines]
        self._closed = False
        self._changed = threading.Condition()

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference: see `Engine.run`."""
        engine = self._take()
        try:
            return engine.run(inputs)
        finally:
            self._give_back(engine)

    def close(self) -> None:
        """Frees the engines: at once those that are free, the others after the call that they are in."""
        with self._changed:
            self._closed = True
            while self._free:
                self._free.pop().close()
            self._changed.notify_all()

    def _take(self) -> Engine:
        """An engine that nobody else uses meanwhile: of those that are free, the one used last, which is in the caches.

        Raises:
            ModelError: the pool has been closed.
        """
        with self._changed:
            while not self._free:
                if self._closed:
                    raise ModelError(CLOSED)
                self._changed.wait()
            return self._free.pop()

    def _give_back(self, engine: Engine) -> None:
        with self._changed:
            if self._closed:
                engine.close()
            else:
                self._free.append(engine)
                self._changed.notify()
