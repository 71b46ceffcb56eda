"""The process in which a language model runs; `process.py` is the parent's side.

Messages are a kind, the number of the request that they are about, and a value.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from edge_agent.errors import EdgeAgentError, InputError
from edge_agent.language import load_engine
from edge_agent.language.generation import Generation, Job
from edge_agent.language.prefixes import PrefixCache
from edge_agent.system import activity, memory
from edge_agent.system.units import format_size
from edge_agent.system.worker_process import Channel

# All other processes on the device run first: https://man7.org/linux/man-pages/man2/nice.2.html.
NICENESS = 15
# While samples are processed, the worker pauses after each chunk or token for REST times as long as that took, so that
# at least a fifth of the time stays its own. It checks every LOOK_EVERY seconds whether the samples are done.
REST = 4
LOOK_EVERY = 0.002
MAX_MEMORY = 64 * 2**30
# Seconds between two messages to the parent, at most: it takes a worker that is silent for a hung one.
ALIVE_EVERY = 0.5
# Pieces of an answer per second, at most: more than anybody can read, and fewer messages than tokens of a fast model.
PIECES_PER_SECOND = 20
_NO_MEMORY = ("bad_alloc", "bad allocation", "allocate memory")

Send = Callable[[str, Any], None]


class RequestReader:
    """Takes messages from the parent: requests, in their order, and cancellations of them.

    Args:
        channel: to the parent.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._messages: list[Any] = []

    def next(self) -> tuple[int, Job]:
        """The next request and its number; waits for it."""
        while True:
            kind, number, value = self._messages.pop(0) if self._messages else self._channel.receive()
            if kind == "ask":
                return number, Job(**value)

    def cancelled(self, number: int) -> bool:
        """Whether that request has been cancelled; does not wait."""
        while self._channel.has_message():
            self._messages.append(self._channel.receive())
        return any(kind == "cancel" and about == number for kind, about, _ in self._messages)


def main(channel: Channel) -> None:
    """Loads the model and answers requests, one after the other."""
    request = channel.receive()
    os.nice(NICENESS)
    bound = memory.limit(MAX_MEMORY)
    options = request["options"]
    try:
        engine = load_engine(Path(options["path"]), options["format"], options["threads"], options["context"])
        generation = Generation(engine, PrefixCache(engine, options["cache_size"]))
        generation.warm_up()
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises over a broken file is its refusal
        channel.send(["refused", 0, _in_words(error, bound)])
        return
    facts = {"runtime": engine.runtime, "context": engine.context, "system_problem": generation.system_problem()}
    channel.send(["ready", 0, facts])
    requests, samples_at_work = RequestReader(channel), activity.watch(request["samples_at_work"])

    def send(number: int, kind: str, value: Any) -> None:
        channel.send([kind, number, value])

    while True:
        number, job = requests.next()
        _answer(generation, job, partial(send, number), partial(requests.cancelled, number), samples_at_work)


class _Pieces:
    """The text of an answer as it is generated, in pieces, if the request streams. The first piece is sent at once.

    Attributes:
        held: text that has not been sent yet.
        sent_at: when the last piece was sent, on the monotonic clock.
    """

    def __init__(self, send: Send, job: Job) -> None:
        self._send = send
        self._stream = job.stream
        self._first = True
        self.held = ""
        self.sent_at = time.monotonic()

    def add(self, text: str) -> None:
        """Takes more of the text."""
        if not self._stream:
            return
        self.held += text
        if self.held and (self._first or time.monotonic() - self.sent_at >= 1 / PIECES_PER_SECOND):
            self._first = False
            self.flush()

    def flush(self) -> None:
        """Sends what is held; an empty piece is a sign of life."""
        self._send("piece", self.held)
        self.held, self.sent_at = "", time.monotonic()


def _answer(
    generation: Generation,
    job: Job,
    send: Send,
    cancelled: Callable[[], bool],
    samples_at_work: Callable[[], bool],
) -> None:
    worked_from = time.monotonic()
    pieces = _Pieces(send, job)

    def rest() -> bool:
        """Called between two chunks or tokens: gives way to samples; returns whether the request was cancelled."""
        nonlocal worked_from
        now = time.monotonic()
        until = now + REST * (now - worked_from)
        while not (stop := cancelled()):
            if now - pieces.sent_at > ALIVE_EVERY:
                pieces.flush()
            if now >= until or not samples_at_work():
                break
            time.sleep(LOOK_EVERY)
            now = time.monotonic()
        worked_from = now
        return stop

    try:
        answer = generation.answer(job, pieces.add, rest)
        if pieces.held:
            pieces.flush()
        send("answer", asdict(answer))
    except InputError as error:
        send("invalid", str(error))
    except Exception as error:  # noqa: BLE001 - the runtimes' exceptions have no common base
        generation.reset()
        send("failed", _in_words(error, MAX_MEMORY))


def _in_words(error: Exception, bound: int) -> str:
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY):
        return f"it needs more memory than there is (at most {format_size(bound)})"
    if isinstance(error, EdgeAgentError):
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
