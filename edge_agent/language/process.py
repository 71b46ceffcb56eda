"""The parent's side of the process in which a language model runs; `worker.py` is the other side."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_agent.errors import InputError, ModelError
from edge_agent.language.generation import Answer, Job
from edge_agent.system.activity import ACTIVITY
from edge_agent.system.worker_process import WorkerEndedError, WorkerHungError, WorkerProcess

log = logging.getLogger(__name__)

# Seconds to load a model, and to read its first pages from a slow disk into memory.
LOAD_PATIENCE = 300.0
# Seconds for a chunk of a prompt, or for one token.
PATIENCE = 25.0
_HINTS = {
    "SIGKILL": ": the system ends processes so when memory runs out: free some, or use a smaller model",
    "SIGILL": ": the runtime uses instructions that this processor lacks",
}


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What the process loads.

    Attributes:
        path: of the model.
        format: one of `language.ENGINES`.
        threads: CPU threads.
        context: tokens of a session, at most.
        cache_size: bytes of sessions that are kept, at most.
    """

    path: Path
    format: str
    threads: int
    context: int
    cache_size: int


class LanguageProcess:
    """A language model in a process of its own. Belongs to one thread at a time, but for `stop`.

    Args:
        options: what to load.
        waiting: called about twice a second while it loads; what it raises ends that.

    Attributes:
        runtime: name and version.
        accelerator: what it runs on.
        context: tokens of a prompt and its answer together.
        system_problem: why it takes no system message; empty: it does.

    Raises:
        ModelError: the model can't be loaded.
        MissingExtraError: the runtime is not installed.
    """

    accelerator = "cpu"

    def __init__(self, options: WorkerOptions, waiting: Callable[[], None] = lambda: None) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._number = 0
        self._stopped = False
        self._start(waiting)

    def restart_if_ended(self) -> bool:
        """Starts the process again if it has ended, as it does when the runtime crashes; returns whether it had.

        Raises:
            ModelError: the model can't be loaded any more.
        """
        if self._worker.alive:
            return False
        self._start(lambda: None)
        return True

    def end(self) -> None:
        """Ends the process; the next request starts it again."""
        self._worker.kill()

    def ask(self, job: Job, cancelled: Callable[[], bool]) -> Iterator[str | Answer]:
        """Pieces of the text if the job streams, empty ones now and then as a sign of life, at last the answer.

        Args:
            job: the request.
            cancelled: called at least twice a second; once it returns True the answer ends where it is.

        Raises:
            InputError: the request can't be answered.
            ModelError: the model fails.
        """
        self._number += 1
        number, cancel_sent, text_sent = self._number, False, False
        log.debug("request %d: sent to process %d", number, self._worker.pid)
        self._send(["ask", number, asdict(job)])

        def pass_on() -> None:
            nonlocal cancel_sent
            if not cancel_sent and cancelled():
                cancel_sent = True
                log.debug("request %d: cancelled", number)
                self._send(["cancel", number, None])

        while True:
            pass_on()
            kind, about, value = self._receive(PATIENCE, pass_on)
            if about != number:
                continue  # left over from an earlier request
            match kind:
                case "piece":
                    if value and not text_sent:
                        text_sent = True
                        log.debug("request %d: first text", number)
                    yield value
                case "answer":
                    log.debug("request %d: %d tokens, %s", number, value["output_tokens"], value["finish_reason"])
                    yield Answer(**value)
                    return
                case "invalid":
                    raise InputError(value)
                case "failed":
                    raise ModelError(value)

    def stop(self) -> None:
        """Ends the process at once, for good."""
        with self._lock:
            self._stopped = True
            self._worker.kill()

    def _start(self, waiting: Callable[[], None]) -> None:
        with self._lock:
            if self._stopped:
                raise ModelError("the model has been stopped")
            self._worker = WorkerProcess("edge_agent.language.worker", pass_fds=[ACTIVITY.file], keep_stderr=True)
        options = asdict(self._options) | {"path": str(self._options.path)}
        try:
            self._send({"options": options, "samples_at_work": ACTIVITY.file})
            kind, _, value = self._receive(LOAD_PATIENCE, waiting)
        except BaseException:
            self._worker.kill()
            raise
        if kind != "ready":
            self._worker.kill()  # it ends by itself, but must not be taken for one that serves until then
            raise ModelError(value)
        self.runtime: str = value["runtime"]
        self.context: int = value["context"]
        self.system_problem: str = value["system_problem"]

    def _send(self, message: Any) -> None:
        """Raises ModelError if the process does not take the message."""
        try:
            self._worker.send(message)
        except WorkerHungError as error:
            raise ModelError(f"the model hangs: it has taken nothing for {error.seconds:g} s") from None
        except WorkerEndedError as error:
            raise _ended(error) from None

    def _receive(self, patience: float, waiting: Callable[[], None]) -> tuple[str, int, Any]:
        """The next message: its kind, the number of the request that it is about, and a value.

        Raises:
            ModelError: none comes in time, or the process has ended.
        """
        try:
            kind, number, value = self._worker.receive(patience, waiting)
        except WorkerHungError as error:
            raise ModelError(f"the model hangs: nothing comes of it for {error.seconds:g} s") from None
        except WorkerEndedError as error:
            raise _ended(error) from None
        return kind, number, value


def _ended(error: WorkerEndedError) -> ModelError:
    return ModelError(f"the process of the model has ended ({error}){_HINTS.get(error.signal, '')}")
