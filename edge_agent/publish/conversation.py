"""The latest questions to a language model and its answers, as far as they have come; in memory."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edge_agent.samples import Sample
from edge_agent.system.text import TextError, decode_lenient, parse_json

MOST_EXCHANGES = 20
LONGEST_QUESTION, LONGEST_ANSWER = 4000, 20_000
# Seconds without a look after which answers are no longer gathered piece by piece.
PATIENCE = 5.0


@dataclass(slots=True)
class Exchange:
    """A question and its answer.

    Attributes:
        id: of the request.
        asked_at: seconds since the epoch.
        question: the user's last words, cut off where they are long.
        text: the answer so far.
        finish_reason: why it has ended; empty while it goes on.
        tokens: of the whole answer; None while it goes on.
        private: whether the answer goes to a topic that the request names, and not to that of the pipeline.
        version: of the conversation when this has last changed.
    """

    id: str
    asked_at: float
    question: str
    text: str = ""
    finish_reason: str = ""
    tokens: int | None = None
    private: bool = False
    version: int = 0


class Conversation:
    """Thread-safe: the pipeline adds to it, and the page reads it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exchanges: OrderedDict[str, Exchange] = OrderedDict()
        self._version = 0
        self._looked = -math.inf

    @property
    def is_watched(self) -> bool:
        """Whether somebody looks."""
        return time.monotonic() - self._looked < PATIENCE

    def piece(self, sample: Sample, request_id: str, text: str) -> None:
        """Adds a piece of an answer; an empty one shows the question."""
        with self._lock:
            one = self._changed(sample, request_id)
            one.text = (one.text + text)[:LONGEST_ANSWER]

    def answer(self, sample: Sample, request_id: str, content: Mapping[str, Any]) -> None:
        """Takes the whole answer, as it is published."""
        with self._lock:
            one = self._changed(sample, request_id)
            one.text = str(content["text"])[:LONGEST_ANSWER]
            one.finish_reason, one.tokens = str(content["finish_reason"]), content["tokens"]["output"]

    def fail(self, sample: Sample, problem: str) -> None:
        """Ends the exchange of a request that could not be answered, if it has begun."""
        with self._lock:
            begun = (one for one in self._exchanges.values() if one.asked_at == sample.captured_at)
            if (one := next((one for one in begun if not one.finish_reason), None)) is not None:
                self._changed(sample, one.id)
                one.text, one.finish_reason = problem[:LONGEST_ANSWER], "error"

    def look(self, after: int = 0, *, private: bool = False) -> dict[str, Any]:
        """The latest exchanges for somebody who looks: the ids of all, oldest first, and those that have changed.

        Args:
            after: version of the conversation that is known already.
            private: whether those are shown whose answers go to somebody alone.
        """
        self._looked = time.monotonic()
        with self._lock:
            shown = [one for one in self._exchanges.values() if private or not one.private]
            return {
                "version": self._version,
                "ids": [one.id for one in shown],
                "exchanges": [asdict(one) for one in shown if one.version > after],
            }

    def _changed(self, sample: Sample, request_id: str) -> Exchange:
        """The exchange of a request, which changes; a new one for an id that has been answered already."""
        self._version += 1
        one = self._exchanges.get(request_id)
        if one is None or one.finish_reason:
            private = sample.reply_to is not None
            one = Exchange(request_id, sample.captured_at, question_of(sample), private=private)
            self._exchanges.pop(request_id, None)
            self._exchanges[request_id] = one
            while len(self._exchanges) > MOST_EXCHANGES:
                self._exchanges.popitem(last=False)
        one.version = self._version
        return one


def question_of(sample: Sample) -> str:
    """What a request asks: its text, its prompt, or the last message of its conversation."""
    if not isinstance(sample.data, bytes):
        return ""
    text = decode_lenient(sample.data)
    try:
        document = parse_json(sample.data)
    except TextError:
        return text[:LONGEST_QUESTION]
    if isinstance(document, dict):
        messages = document.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else None
        said = last.get("content") if isinstance(last, dict) else document.get("prompt")
        text = said if isinstance(said, str) else text
    return text[:LONGEST_QUESTION]
