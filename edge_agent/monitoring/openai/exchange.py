"""A request to a pipeline from the thread of an HTTP connection, and the way of its answer back there."""

import json
import queue
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from edge_agent.errors import EdgeAgentError
from edge_agent.pipeline.text import TextPipeline

# Seconds between two looks at whether the client is still there.
LOOK_EVERY = 0.2


class StoppedError(EdgeAgentError):
    """The pipeline has been stopped before it had an answer."""


class ClientGoneError(Exception):
    """The client has closed its connection."""


class Exchange:
    """A request that has been made, and what comes of it: a `Recipient`.

    Args:
        pipeline: answers the request.
        request: see `language.request.Request`, without the `id`.
        prefix: what the id begins with.
        gone: whether the client has closed its connection.

    Attributes:
        id: of the request.
        may_call: whether the answer may be a call of a function.
    """

    def __init__(
        self, pipeline: TextPipeline, request: Mapping[str, Any], prefix: str, gone: Callable[[], bool]
    ) -> None:
        self.id = f"{prefix}{uuid.uuid4().hex}"
        text = pipeline.options.text
        constrained = "json_schema" in request or text.options.json_schema is not None
        self.may_call = not constrained and bool(request.get("tools") or text.tools)
        self._pipeline = pipeline
        self._gone = gone
        self._events: queue.SimpleQueue[str | Mapping[str, Any] | EdgeAgentError] = queue.SimpleQueue()
        document = json.dumps({**request, "id": self.id}).encode()
        self._settlement = pipeline.ask(document, self, {"interface": "openai", "id": self.id})

    def piece(self, text: str) -> None:
        """See `Recipient.piece`."""
        self._events.put(text)

    def answer(self, content: Mapping[str, Any]) -> None:
        """See `Recipient.answer`."""
        self._events.put(content)

    def error(self, error: EdgeAgentError) -> None:
        """See `Recipient.error`."""
        self._events.put(error)

    def next(self) -> str | Mapping[str, Any]:
        """The next piece of the text, or at last what a result document says of the answer; waits for it.

        Raises:
            EdgeAgentError: why there is no answer.
            ClientGoneError: the client has gone; the request is cancelled.
        """
        while True:
            ended = self._settlement.has_ended  # what there is has then been put already
            try:
                event = self._events.get(timeout=0 if ended else LOOK_EVERY)
            except queue.Empty:
                if ended:
                    raise StoppedError("the pipeline has been stopped: ask again later") from None
                if self._gone():
                    self.cancel()
                    raise ClientGoneError from None
                continue
            if isinstance(event, EdgeAgentError):
                raise event
            return event

    def cancel(self) -> None:
        """Gives the request up, if it is not answered yet."""
        if not self._settlement.has_ended:
            self._pipeline.cancel(self.id)
