"""This side of the process in which a language model runs."""

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_agent.errors import InputError, ModelError
from edge_agent.language.generation import Answer, Job
from edge_agent.system.activity import ACTIVITY

log = logging.getLogger(__name__)

# To load a model, and to write its first pages from a slow disk into memory.
LOAD_PATIENCE = 300.0
# A chunk of a prompt, or one token, that takes longer has hung.
PATIENCE = 25.0
MAX_LINE = 16_000_000
_LOOK_EVERY = 0.5
# It imports what its parent would import; -P: nothing that happens to lie in the current folder before that.
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])["import_path"]
from edge_agent.language.worker import main
main()
"""
_HINTS = {
    signal.SIGKILL: ": the system ends processes so when memory runs out: free some, or use a smaller model",
    signal.SIGILL: ": the runtime uses instructions that this processor lacks",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the process is to load.

    Attributes:
        path: of the model.
        format: one of `language.ENGINES`.
        threads: CPU threads.
        context: tokens, at most.
        cache_size: bytes, at most, for what has been read.
    """

    path: Path
    format: str
    threads: int
    context: int
    cache_size: int


class LanguageProcess:
    """A language model in a process of its own. Belongs to one thread at a time, but for `stop`.

    Args:
        wanted: the model.
        waiting: called about twice a second while it loads; what it raises ends that.

    Attributes:
        runtime: name and version.
        accelerator: what it runs on.
        fallback: why not on another one: it never is on another one.
        context: tokens of a prompt and its answer together.

    Raises:
        ModelError: the model can't be loaded.
        MissingExtraError: the runtime is not installed.
    """

    def __init__(self, wanted: Wanted, waiting: Callable[[], None] = lambda: None) -> None:
        self._wanted = wanted
        self._lock = threading.Lock()
        self._number = 0
        self._stopped = False
        self.accelerator, self.fallback = "cpu", ""
        self._start(waiting)

    def __del__(self) -> None:
        """A model that nobody uses any more takes no memory."""
        if hasattr(self, "_process"):
            self.stop()

    def restart_if_ended(self) -> None:
        """Starts the process anew if it has ended, as it does when the runtime crashes.

        Raises:
            ModelError: the model can't be loaded any more.
        """
        if self._process.poll() is not None:
            self._release()
            self._start(lambda: None)

    def ask(self, job: Job, cancelled: Callable[[], bool]) -> Iterator[str | Answer]:
        """Pieces of the text where they are asked for, empty ones now and then as a sign of life, at last the answer.

        Args:
            job: what is asked.
            cancelled: asked at least twice a second; the answer then ends where it is.

        Raises:
            InputError: the request can't be answered.
            ModelError: the model fails.
        """
        self._number += 1
        number, told = self._number, False
        self._send(["ask", number, asdict(job)])

        def pass_on() -> None:
            nonlocal told
            if not told and cancelled():
                told = True
                self._send(["cancel", number, None])

        while True:
            pass_on()
            kind, about, value = self._next_line(PATIENCE, pass_on)
            if about != number:
                continue  # of a request that nobody waits for any more
            match kind:
                case "piece":
                    yield value
                case "answer":
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
            self._process.kill()
        self._release()

    def _release(self) -> None:
        """Frees what is left of a process that has ended."""
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._chatter):
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()

    def _start(self, waiting: Callable[[], None]) -> None:
        wanted = asdict(self._wanted) | {
            "path": str(self._wanted.path),
            "import_path": sys.path,
            "samples_at_work": ACTIVITY.file,
        }
        with self._lock:
            if self._stopped:
                raise ModelError("the model has been stopped")
            self._chatter = os.fdopen(os.memfd_create("chatter"), "rb")  # there may be no disk to write on
            self._process = subprocess.Popen(  # noqa: S603 - this program itself
                [sys.executable, "-P", "-c", _START, json.dumps(wanted)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._chatter,
                pass_fds=[ACTIVITY.file],
                start_new_session=True,  # a Ctrl-C is for its parent
            )
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        os.set_blocking(self._process.stdin.fileno(), False)
        self._rest = b""
        try:
            kind, _, value = self._next_line(LOAD_PATIENCE, waiting)
        except BaseException:
            self._process.kill()
            raise
        if kind != "ready":
            raise ModelError(value)
        self.runtime: str = value["runtime"]
        self.context: int = value["context"]

    def _send(self, order: list[Any]) -> None:
        """Says something to the process.

        Raises:
            ModelError: it does not take it.
        """
        left = json.dumps(order).encode() + b"\n"
        with self._lock:
            assert self._process.stdin is not None  # noqa: S101 - it was asked for
            pipe, poll = self._process.stdin.fileno(), select.poll()
            poll.register(pipe, select.POLLOUT)
            while left:
                if not poll.poll(PATIENCE * 1000):
                    self._process.kill()
                    raise ModelError(f"the model hangs: it has taken nothing for {PATIENCE:g} s")
                try:
                    left = left[os.write(pipe, left) :]
                except BrokenPipeError:
                    raise ModelError(self._last_words()) from None

    def _next_line(self, patience: float, waiting: Callable[[], None]) -> tuple[str, int, Any]:
        """What the process says next: a kind, the number of the request that it is about, and a value.

        Raises:
            ModelError: it says nothing for so many seconds, or has ended.
        """
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        pipe, poll, deadline = self._process.stdout.fileno(), select.poll(), time.monotonic() + patience
        poll.register(pipe, select.POLLIN)
        while b"\n" not in self._rest:
            if poll.poll(_LOOK_EVERY * 1000):
                block = os.read(pipe, 65536)
                if not block or len(self._rest) > MAX_LINE:
                    raise ModelError(self._last_words())
                self._rest += block
                continue
            waiting()
            if time.monotonic() > deadline:
                self._process.kill()
                raise ModelError(f"the model hangs: nothing comes of it for {patience:g} s")
        line, self._rest = self._rest.split(b"\n", 1)
        kind, number, value = json.loads(line)
        return kind, number, value

    def _last_words(self) -> str:
        """How the process has ended."""
        self._process.kill()
        code = self._process.wait()
        self._chatter.seek(max(0, self._chatter.seek(0, os.SEEK_END) - 1000))
        lines = self._chatter.read().decode("utf-8", "replace").splitlines()
        last = next((f": {line.strip()[:200]}" for line in reversed(lines) if line.strip()), "")
        if code < 0:
            number = signal.Signals(-code)
            return f"the process of the model has ended ({number.name}{last}){_HINTS.get(number, '')}"
        return f"the process of the model has ended (exit code {code}{last})"
