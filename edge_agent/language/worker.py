"""The process in which a language model runs.

It is asked and cancelled over standard input, and answers over standard output: lines of JSON, a kind, the number of
the request, and a value. It ends with its parent, at the latest after the piece of work at hand.
"""

import json
import os
import resource
import select
import sys
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

# Everything else on the device goes first: https://man7.org/linux/man-pages/man2/nice.2.html.
NICENESS = 15
# While samples are worked on, it rests after each piece of work for so many times as long as that took, and looks so
# often, in seconds, whether it may go on: a fifth of the time is always its own.
REST = 4
LOOK_EVERY = 0.002
MAX_MEMORY = 64 * 2**30
# A sign of life at least so often.
ALIVE_EVERY = 0.5
# Most pieces of an answer in a second: more than anybody reads, and fewer messages than tokens of a fast model.
PIECES_PER_SECOND = 20
_NO_MEMORY = ("bad_alloc", "bad allocation", "allocate memory")

Say = Callable[[str, Any], None]


class Orders:
    """What the parent says."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[Any] = []
        self._poll = select.poll()
        self._poll.register(0, select.POLLIN)

    def next(self) -> tuple[int, Job]:
        """The next request and its number; waits for it."""
        while True:
            while self._lines:
                kind, number, value = self._lines.pop(0)
                if kind == "ask":
                    return number, Job(**value)
            self._read()

    def cancelled(self, number: int) -> bool:
        """Whether that request has been cancelled; does not wait."""
        while self._poll.poll(0):
            self._read()
        return any(kind == "cancel" and cancelled == number for kind, cancelled, _ in self._lines)

    def _read(self) -> None:
        block = os.read(0, 65536)
        if not block:
            os._exit(0)  # the parent is gone
        *lines, self._rest = (self._rest + block).split(b"\n")
        self._lines += map(json.loads, lines)


def main() -> None:
    """Loads the model and answers requests, one after the other."""
    wanted = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some runtimes write to standard output as well

    def say(number: int, kind: str, value: Any) -> None:
        print(json.dumps([kind, number, value]), file=report, flush=True)

    bound = memory.limit(MAX_MEMORY)
    try:
        engine = load_engine(Path(wanted["path"]), wanted["format"], wanted["threads"], wanted["context"])
        generation = Generation(engine, PrefixCache(engine, wanted["cache_size"]))
        generation.warm_up()
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises over a broken file is its refusal
        say(0, "refused", _in_words(error, bound))
        os._exit(0)
    say(0, "ready", {"runtime": engine.runtime, "context": engine.context})
    orders, samples_at_work = Orders(), activity.watch(wanted["samples_at_work"])
    while True:
        number, job = orders.next()
        _answer(generation, job, partial(say, number), partial(orders.cancelled, number), samples_at_work)


class _Pieces:
    """The text of an answer as it comes, if that is wanted, in not too many pieces; the first one at once.

    Attributes:
        held: what has not been said yet.
        said_at: when something was said.
    """

    def __init__(self, say: Say, job: Job) -> None:
        self._say = say
        self._wanted = job.stream
        self._first = True
        self.held = ""
        self.said_at = time.monotonic()

    def add(self, text: str) -> None:
        """Takes more of the text."""
        if not self._wanted:
            return
        self.held += text
        if self.held and (self._first or time.monotonic() - self.said_at >= 1 / PIECES_PER_SECOND):
            self._first = False
            self.say()

    def say(self) -> None:
        """Says what is held; if that is nothing, it is a sign of life."""
        self._say("piece", self.held)
        self.held, self.said_at = "", time.monotonic()


def _answer(
    generation: Generation,
    job: Job,
    say: Say,
    cancelled: Callable[[], bool],
    samples_at_work: Callable[[], bool],
) -> None:
    worked_from = time.monotonic()
    pieces = _Pieces(say, job)

    def rest() -> bool:
        """Between two pieces of work: gives way to samples; returns whether the answer is not wanted any more."""
        nonlocal worked_from
        now = time.monotonic()
        until = now + REST * (now - worked_from)
        while not (stop := cancelled()):
            if now - pieces.said_at > ALIVE_EVERY:
                pieces.say()
            if now >= until or not samples_at_work():
                break
            time.sleep(LOOK_EVERY)
            now = time.monotonic()
        worked_from = now
        return stop

    try:
        answer = generation.answer(job, pieces.add, rest)
        if pieces.held:
            pieces.say()
        say("answer", asdict(answer))
    except InputError as error:
        say("invalid", str(error))
    except Exception as error:  # noqa: BLE001 - the runtimes' exceptions have no common base
        generation.forget()
        say("failed", _in_words(error, MAX_MEMORY))


def _in_words(error: Exception, bound: int) -> str:
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY):
        return f"it needs more memory than there is (at most {format_size(bound)})"
    if isinstance(error, EdgeAgentError):
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
