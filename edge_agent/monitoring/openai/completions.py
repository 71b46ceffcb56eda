"""Answers of pipelines as chat completions, whole or in pieces.

https://platform.openai.com/docs/api-reference/chat/object
https://platform.openai.com/docs/api-reference/chat/streaming
"""

import json
import time
from collections.abc import Mapping
from typing import Any

# Why an answer ended, where the interface has another word.
FINISH_REASONS = {"deadline": "length", "cancelled": "stop", "refused": "stop"}
END = b"data: [DONE]\n\n"


def completion(request_id: str, model: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """A whole answer.

    Args:
        request_id: its name.
        model: that was asked.
        content: what a result document says of the answer.
    """
    message: dict[str, Any] = {"role": "assistant", "content": words(content), "refusal": None}
    if calls := tool_calls(request_id, content):
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(content)}
    return {**_head(request_id, model, "chat.completion"), "choices": [choice], "usage": usage(content)}


class Chunks:
    """An answer in pieces, as server-sent events.

    Args:
        request_id: its name.
        model: that was asked.
        with_usage: whether the numbers of tokens are to follow.
    """

    def __init__(self, request_id: str, model: str, *, with_usage: bool) -> None:
        self._head = _head(request_id, model, "chat.completion.chunk")
        self._with_usage = with_usage

    def first(self) -> bytes:
        """Whose answer it is."""
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> bytes:
        """A piece of the text."""
        return self._chunk({"content": text})

    def last(self, content: Mapping[str, Any]) -> bytes:
        """Calls of functions, and how it ended."""
        calls = [{"index": index, **call} for index, call in enumerate(tool_calls(self._head["id"], content))]
        if "call" in content and "tool_calls" in content:
            end = self._chunk({"content": words(content)})
        else:
            end = self._chunk({"tool_calls": calls}) if calls else b""
        end += self._chunk({}, _finish_reason(content))
        return end + (self._event({"choices": [], "usage": usage(content)}) if self._with_usage else b"") + END

    @staticmethod
    def error(document: Mapping[str, Any]) -> bytes:
        """Why there is no answer, or no more of it."""
        return event({"error": document})

    def _chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._event({"choices": [choice], **({"usage": None} if self._with_usage else {})})

    def _event(self, fields: Mapping[str, Any]) -> bytes:
        return event({**self._head, **fields})


def event(document: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def usage(content: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of tokens."""
    tokens = content["tokens"]
    return {
        "prompt_tokens": tokens["prompt"],
        "completion_tokens": tokens["output"],
        "total_tokens": tokens["prompt"] + tokens["output"],
        "prompt_tokens_details": {"cached_tokens": tokens["cached"]},
    }


def tool_calls(request_id: str, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls that the client has to make; those of the pipeline's own tools have been made already."""
    if "call" in content:
        return []
    return [
        {
            "id": f"call_{request_id[-24:]}_{index}",
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
        }
        for index, call in enumerate(content.get("tool_calls", ()))
    ]


def words(content: Mapping[str, Any]) -> str | None:
    """The text of an answer; what a call has come to, if it was one; None if the client has to make it."""
    if (call := content.get("call")) is not None and "tool_calls" in content:
        return f"{call['name']} {json.dumps(call['arguments'])}: {call['outcome']}"
    text: str = content["text"]
    return None if "tool_calls" in content else text


def _head(request_id: str, model: str, kind: str) -> dict[str, Any]:
    return {"id": request_id, "object": kind, "created": int(time.time()), "model": model}


def _finish_reason(content: Mapping[str, Any]) -> str:
    reason: str = content["finish_reason"]
    if "tool_calls" in content and "call" not in content:
        return "tool_calls"
    return FINISH_REASONS.get(reason, reason)
