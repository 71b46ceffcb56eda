"""The parent's side of the process in which a language model runs; `worker.py` is the other side."""

import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_agent.errors import InputError, ModelError
from edge_agent.language.generation import Answer, Job
from edge_agent.system.activity import ACTIVITY
from edge_agent.system.text import read_attribute
from edge_agent.system.worker_process import WAITING_EVERY, WorkerEndedError, WorkerHungError, WorkerProcess

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


class _Messages:
    """The messages of one process, sorted by the request that they are about. From any thread.

    Whichever of the waiting threads finds nobody receiving does so, for all of them.

    Attributes:
        worker: the process.
    """

    def __init__(self, worker: WorkerProcess) -> None:
        self.worker = worker
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._inboxes: dict[int, deque[tuple[str, Any]]] = {}
        self._is_received = False
        self._error = ""

    def open(self, number: int) -> None:
        """From now on, messages about a request are kept."""
        with self._changed:
            self._inboxes[number] = deque()

    def close(self, number: int) -> None:
        """Messages about a request are no longer kept."""
        with self._changed:
            del self._inboxes[number]

    def send(self, message: Any) -> None:
        """Raises ModelError if the process does not take the message."""
        try:
            with self._sending:
                self.worker.send(message)
        except WorkerHungError as error:
            raise ModelError(f"the model hangs: it has taken nothing for {error.seconds:g} s") from None
        except WorkerEndedError as error:
            raise _ended(error) from None

    def next(self, number: int, patience: float, waiting: Callable[[], None]) -> tuple[str, Any]:
        """The next message about a request: its kind, and a value.

        Args:
            number: of the request.
            patience: seconds in which a message must come, whatever it is about.
            waiting: called at least twice a second.

        Raises:
            ModelError: none comes in time, or the process has ended.
        """
        while True:
            waiting()
            with self._changed:
                if inbox := self._inboxes[number]:
                    return inbox.popleft()
                if self._error:
                    raise ModelError(self._error)
                if self._is_received:
                    self._changed.wait(WAITING_EVERY)
                    continue
                self._is_received = True
            try:
                kind, about, value = self._receive(patience, waiting)
                with self._changed:
                    if about in self._inboxes:
                        self._inboxes[about].append((kind, value))
            except ModelError as error:
                self._error = str(error)
            finally:
                with self._changed:
                    self._is_received = False
                    self._changed.notify_all()

    def _receive(self, patience: float, waiting: Callable[[], None]) -> tuple[str, int, Any]:
        try:
            kind, number, value = self.worker.receive(patience, waiting)
        except WorkerHungError as error:
            raise ModelError(f"the model hangs: nothing comes of it for {error.seconds:g} s") from None
        except WorkerEndedError as error:
            raise _ended(error) from None
        return kind, number, value


class LanguageProcess:
    """A language model in a process of its own. Any thread may ask.

    Args:
        options: what to load.
        waiting: called about twice a second while it loads; what it raises ends that.

    Attributes:
        runtime: name and version.
        accelerator: what it runs on.
        context: tokens of a prompt and its answer together.
        capacity: requests that it answers at once, at most.
        system_problem: why it takes no system message; empty: it does.

    Raises:
        ModelError: the model can't be loaded.
        MissingExtraError: the runtime is not installed.
    """

    accelerator = "cpu"

    def __init__(self, options: WorkerOptions, waiting: Callable[[], None] = lambda: None) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)  # 0: about the process itself
        self._stopped = False
        self._start(waiting)

    @property
    def resident(self) -> int:
        """Bytes of memory that its process has; 0 if it has ended."""
        try:
            return int(read_attribute(Path(f"/proc/{self._worker.pid}/statm")).split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return 0

    def restart_if_ended(self) -> bool:
        """Starts the process again if it has ended, as it does when the runtime crashes; returns whether it had.

        Not to be called by two threads at once.

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
        messages, number, cancel_sent, text_sent = self._messages, next(self._numbers), False, False
        log.debug("request %d: sent to process %d", number, messages.worker.pid)

        def pass_on() -> None:
            nonlocal cancel_sent
            if not cancel_sent and cancelled():
                cancel_sent = True
                log.debug("request %d: cancelled", number)
                messages.send(["cancel", number, None])

        messages.open(number)
        try:
            messages.send(["ask", number, asdict(job)])
            while True:
                kind, value = messages.next(number, PATIENCE, pass_on)
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
        except GeneratorExit:
            with suppress(ModelError):
                messages.send(["cancel", number, None])
            raise
        finally:
            messages.close(number)

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
        messages = _Messages(self._worker)
        messages.open(0)
        options = asdict(self._options) | {"path": str(self._options.path)}
        try:
            messages.send({"options": options, "samples_at_work": ACTIVITY.file})
            kind, value = messages.next(0, LOAD_PATIENCE, waiting)
        except BaseException:
            self._worker.kill()
            raise
        if kind != "ready":
            self._worker.kill()  # it ends by itself, but must not be taken for one that serves until then
            raise ModelError(value)
        self._messages = messages
        self.runtime: str = value["runtime"]
        self.capacity: int = value["capacity"]
        self.context: int = value["context"]
        self.system_problem: str = value["system_problem"]


def _ended(error: WorkerEndedError) -> ModelError:
    return ModelError(f"the process of the model has ended ({error}){_HINTS.get(error.signal, '')}")
