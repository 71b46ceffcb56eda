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
from edge_agent.language.batching import Batcher
from edge_agent.language.generation import Answer, Generation, Job
from edge_agent.language.prefixes import PrefixCache
from edge_agent.system import activity, memory
from edge_agent.system.units import format_size
from edge_agent.system.worker_process import Channel

# All other processes on the device run first: https://man7.org/linux/man-pages/man2/nice.2.html.
NICENESS = 15
# While samples are processed, the worker pauses after each batch for REST times as long as that took, so that
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


class _Request:
    """A request in progress, and the text of its answer as it is generated, in pieces, if the request streams.

    The first piece is sent at once.

    Args:
        send: sends a message about it.
        job: what is asked.

    Attributes:
        cancelled: whether its answer is to end.
        ended: whether its answer, or why there is none, has been sent.
        sent_at: when the last piece was sent, on the monotonic clock.
    """

    def __init__(self, send: Send, job: Job) -> None:
        self.cancelled = self.ended = False
        self.sent_at = time.monotonic()
        self._send = send
        self._stream = job.stream
        self._first = True
        self._held = ""

    def piece(self, text: str) -> None:
        """Takes more of the text."""
        if not self._stream:
            return
        self._held += text
        if self._held and (self._first or time.monotonic() - self.sent_at >= 1 / PIECES_PER_SECOND):
            self._first = False
            self.flush()

    def flush(self) -> None:
        """Sends what is held; an empty piece is a sign of life."""
        self._send("piece", self._held)
        self._held, self.sent_at = "", time.monotonic()

    def end(self, outcome: Answer | Exception) -> None:
        """Sends the answer, or why there is none."""
        self.ended = True
        if isinstance(outcome, Answer):
            if self._held:
                self.flush()
            self._send("answer", asdict(outcome))
        elif isinstance(outcome, InputError):
            self._send("invalid", str(outcome))
        else:
            self._send("failed", _in_words(outcome, MAX_MEMORY))


class Requests:
    """The requests of the parent, answered several at once.

    Args:
        channel: to the parent.
        generation: the model.
        samples_at_work: whether samples are processed on this device.
    """

    def __init__(self, channel: Channel, generation: Generation, samples_at_work: Callable[[], bool]) -> None:
        self._channel = channel
        self._generation = generation
        self._samples_at_work = samples_at_work
        self._batcher = Batcher(generation)
        self._requests: dict[int, _Request] = {}

    def answer(self) -> None:
        """Answers requests, for ever."""
        while True:
            while self._batcher.is_idle or self._channel.has_message():
                self._take()
            began = time.monotonic()
            self._batcher.step()
            self._requests = {number: one for number, one in self._requests.items() if not one.ended}
            self._rest(time.monotonic() - began)

    def _take(self) -> None:
        """Takes a message; waits for it."""
        kind, number, value = self._channel.receive()
        if kind == "ask":
            job = Job(**value)
            request = self._requests[number] = _Request(partial(self._send, number), job)
            self._batcher.add(self._generation.steps(job, request.piece, lambda: request.cancelled), request.end)
        elif number in self._requests:
            self._requests[number].cancelled = True

    def _rest(self, worked: float) -> None:
        """Gives way to samples, after that many seconds of work; shows the parent that this process lives."""
        until = time.monotonic() + REST * worked
        while True:
            now = time.monotonic()
            for request in self._requests.values():
                if now - request.sent_at > ALIVE_EVERY:
                    request.flush()
            if now >= until or not self._samples_at_work() or any(one.cancelled for one in self._requests.values()):
                return
            if self._channel.has_message(LOOK_EVERY):
                self._take()

    def _send(self, number: int, kind: str, value: Any) -> None:
        self._channel.send([kind, number, value])


def main(channel: Channel) -> None:
    """Loads the model and answers requests."""
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
    facts = {
        "runtime": engine.runtime,
        "context": engine.context,
        "capacity": generation.capacity,
        "system_problem": generation.system_problem(),
    }
    channel.send(["ready", 0, facts])
    Requests(channel, generation, activity.watch(request["samples_at_work"])).answer()


def _in_words(error: Exception, bound: int) -> str:
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY):
        return f"it needs more memory than there is (at most {format_size(bound)})"
    if isinstance(error, EdgeAgentError):
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
