"""Calls of a language model become messages to devices: those that the configuration lists, and no others."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from edge_agent.settings.tools import Tool, filled_in, topics_of
from edge_agent.system.text import decode_lenient

log = logging.getLogger(__name__)

Send = Callable[[str, str, bool], None]
"""Takes a topic, a payload, and whether it is retained."""
# Bytes of what a device says that are looked at.
MAX_STATE = 20_000
# Calls of one answer: each may wait for its confirmation.
MAX_CALLS = 8


class ToolCalls:
    """The tools of one pipeline. Calls are made one at a time.

    Args:
        pipeline: its name.
        tools: as configured, by name.
        send: publishes a message.
    """

    def __init__(self, pipeline: str, tools: Mapping[str, Tool], send: Send) -> None:
        self._pipeline = pipeline
        self._tools = tools
        self._send = send
        self._heard = threading.Condition()
        self._states: dict[str, str] = {}

    @property
    def topics(self) -> frozenset[str]:
        """The topics on which devices confirm calls."""
        return frozenset(topic for tool in self._tools.values() for topic in topics_of(tool, tool.mqtt.confirm))

    def hear(self, topic: str, payload: bytes) -> None:
        """Takes what a device says on one of the topics; from any thread."""
        with self._heard:
            self._states[topic] = decode_lenient(payload[:MAX_STATE]).strip()
            self._heard.notify_all()

    def carry_out(self, document: object) -> dict[str, Any]:
        """What a result says of the calls that an answer is.

        Args:
            document: see `call`, or a list of several; those whose intent is `none` are no calls.

        Returns:
            `call`, or `calls` for a list; empty: it is none.
        """
        if not isinstance(document, list):
            call = self.call(document)
            return {} if call is None else {"call": call}
        wanted = [one for one in document if isinstance(one, dict) and one.get("intent") != "none"]
        calls = [self.call(one) for one in wanted[:MAX_CALLS]]
        for one in wanted[MAX_CALLS:]:
            name, arguments = _read(one)
            reason = f"more than {MAX_CALLS} calls in one answer"
            calls.append({"name": name, "arguments": arguments, "outcome": "not listed", "reason": reason})
        return {"calls": [call for call in calls if call is not None]}

    def call(self, document: object) -> dict[str, Any] | None:
        """Makes the call that an answer is, and waits for its confirmation.

        Args:
            document: `{"name": …, "arguments": {…}}`, or an object whose `intent` names the tool and whose other keys
                are the arguments.

        Returns:
            Name and arguments, and the outcome: `confirmed`; `unconfirmed`: the device has not said so in time;
            `sent`: none is waited for; `not listed`, with the reason. None: it is no call.
        """
        name, arguments = _read(document)
        if name is None:
            return None
        said: dict[str, Any] = {"name": name, "arguments": arguments}
        tool = self._tools.get(name)
        problem = f"there is no tool {name!r}" if tool is None else tool.problem_of(arguments)
        if tool is None or problem:
            return said | {"outcome": "not listed", "reason": problem}
        message = tool.mqtt
        topic = filled_in(message.topic, arguments, topic=True)
        payload = filled_in(message.payload, arguments, topic=False)
        confirm = message.confirm and filled_in(message.confirm, arguments, topic=True)
        with self._heard:
            self._states.pop(confirm or "", None)
        self._send(topic, payload, message.retain)
        log.info("%s: %s: %s", self._pipeline, name, topic, extra={"pipeline": self._pipeline})
        outcome = "sent" if confirm is None else self._confirmed(confirm, payload, message.timeout)
        return said | {"topic": topic, "payload": payload, "outcome": outcome}

    def _confirmed(self, topic: str, payload: str, timeout: float) -> str:
        deadline = time.monotonic() + timeout
        with self._heard:
            came = self._heard.wait_for(lambda: self._states.get(topic) == payload.strip(), deadline - time.monotonic())
        return "confirmed" if came else "unconfirmed"


def _read(document: object) -> tuple[str | None, dict[str, Any]]:
    """Name and arguments of a call; no name: it is none."""
    if not isinstance(document, dict):
        return None, {}
    name, arguments = document.get("name"), document.get("arguments")
    if isinstance(name, str) and isinstance(arguments, dict):
        return name, arguments
    intent = document.get("intent")
    return (intent if isinstance(intent, str) else None), {k: v for k, v in document.items() if k != "intent"}
