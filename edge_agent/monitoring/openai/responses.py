"""The interface `responses`: what newer clients speak, Home Assistant's integration among them.

A request is one for a chat completion in other words; nothing is stored, so a conversation comes whole each time.
https://platform.openai.com/docs/api-reference/responses
"""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from edge_agent.monitoring.openai.completions import tool_calls, words
from edge_agent.monitoring.openai.requests import ANY_OBJECT, Function, Message, check_choice, joined, read
from edge_agent.settings.base import Frozen
from edge_agent.settings.text import Schema, Words

# What changes nothing here, and what has only one value.
IGNORED = (
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    *("reasoning", "include", "parallel_tool_calls", "max_tool_calls", "truncation", "stream_options", "top_logprobs"),
)
FIXED: Mapping[str, Any] = {"previous_response_id": None, "conversation": None, "background": False}
CUT_SHORT = ("length", "deadline")
_Text = Annotated[Words, BeforeValidator(joined)]


class Item(Frozen):
    """A message, a call that the assistant has made, or its result."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    """Which; `reasoning` is ignored."""
    role: Literal["system", "developer", "user", "assistant"] = "user"
    """Of a message."""
    content: _Text = ""
    """Of a message."""
    name: str = ""
    """Of the function that was called."""
    arguments: Words = "{}"
    """Of the call, as JSON."""
    output: _Text = ""
    """Of the call."""
    call_id: str = ""
    """Ignored: a result follows its call."""
    id: str = ""
    """Ignored."""
    status: str = ""
    """Ignored."""
    summary: tuple[Any, ...] = ()
    """Ignored."""
    encrypted_content: str = ""
    """Ignored."""

    def message(self) -> dict[str, Any]:
        """As a message of a chat."""
        match self.type:
            case "function_call":
                call = {"function": {"name": self.name, "arguments": self.arguments}}
                return {"role": "assistant", "tool_calls": [call]}
            case "function_call_output":
                return {"role": "tool", "content": self.output}
        return {"role": self.role, "content": self.content}


class ResponseFunction(Function):
    """A function that the model may call."""

    type: Literal["function"]
    """Only functions are supported."""


class ChosenFunction(Frozen):
    """The function that has to be called."""

    type: Literal["function"]
    """Only functions are supported."""
    name: str
    """Its name."""


class Format(Frozen):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    """Text, any JSON object, or what follows the schema."""
    name: str = ""
    """Ignored."""
    description: str = ""
    """Ignored."""
    schema_: Schema = Field(None, alias="schema")
    """The schema."""
    strict: bool = True
    """Ignored: it is always followed."""


class TextOptions(Frozen):
    """Options of the text."""

    format: Format = Format()
    """Its form."""
    verbosity: str = ""
    """Ignored."""


def _items(value: object) -> object:
    return [{"content": value}] if isinstance(value, str) else value


class ResponseRequest(Frozen):
    """A request for a response. What is checked by the pipeline is not checked here."""

    model: str
    """Name of the pipeline."""
    input: Annotated[tuple[Item, ...], BeforeValidator(_items)] = Field(min_length=1, max_length=256)
    """The conversation, the latest turn last; text alone is a message of the user."""
    instructions: Words = ""
    """A system message that goes before it."""
    max_output_tokens: int | None = None
    """Most tokens of the answer."""
    temperature: float | None = None
    """See `settings.text.Generation`."""
    top_p: float | None = None
    """See `settings.text.Generation`."""
    stream: bool = False
    """Whether the answer comes in pieces."""
    text: TextOptions = TextOptions()
    """Its form."""
    tools: tuple[ResponseFunction, ...] = Field((), max_length=32)
    """What the model may call; the calls are made by the client."""
    tool_choice: Literal["auto", "none", "required"] | ChosenFunction = "auto"
    """Whether it has to call something, and what."""

    @field_validator("tool_choice")
    @classmethod
    def _known(cls, value: str | ChosenFunction, info: ValidationInfo) -> str | ChosenFunction:
        if isinstance(value, ChosenFunction):
            check_choice(value.name, [tool.name for tool in info.data.get("tools", ())])
        return value

    def for_pipeline(self) -> dict[str, Any]:
        """See `ChatRequest.for_pipeline`."""
        turns = [Message.model_validate(item.message()).turn() for item in self.input if item.type != "reasoning"]
        if self.instructions:
            turns.insert(0, {"role": "system", "content": self.instructions})
        choice = self.tool_choice
        tools = [tool.model_dump(exclude={"strict", "type"}, exclude_none=True) for tool in self.tools]
        if isinstance(choice, ChosenFunction):
            tools, choice = [tool for tool in tools if tool["name"] == choice.name], "required"
        form = self.text.format
        fields = {
            "tools": tools or None,
            "tool_choice": choice,
            "messages": turns,
            "max_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stream": self.stream,
            "json_schema": {"text": None, "json_object": ANY_OBJECT, "json_schema": form.schema_}[form.type],
        }
        return {name: value for name, value in fields.items() if value is not None}


def read_response_request(data: bytes) -> ResponseRequest:
    """The request in a body.

    Raises:
        InputError: it is none; the message has what is wrong with each field.
    """
    return read(ResponseRequest, data, IGNORED, FIXED)


def whole(request_id: str, model: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """A whole answer; see `completions.completion`."""
    text = words(content)
    output = [*([] if text is None else [_message(request_id, text)]), *_calls(request_id, content)]
    cut_short = content["finish_reason"] in CUT_SHORT
    tokens = content["tokens"]
    return {
        **_response(request_id, model, "incomplete" if cut_short else "completed"),
        "output": output,
        "incomplete_details": {"reason": "max_output_tokens"} if cut_short else None,
        "usage": {
            "input_tokens": tokens["prompt"],
            "input_tokens_details": {"cached_tokens": tokens["cached"]},
            "output_tokens": tokens["output"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens["prompt"] + tokens["output"],
        },
    }


class Events:
    """An answer in pieces, as server-sent events; see `completions.Chunks`."""

    def __init__(self, request_id: str, model: str) -> None:
        self._id, self._model = request_id, model
        self._number = 0
        self._text = ""
        self._place = {"item_id": _message(request_id, "")["id"], "output_index": 0, "content_index": 0}

    def first(self) -> bytes:
        """That there will be an answer."""
        response = _response(self._id, self._model, "in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def piece(self, text: str) -> bytes:
        """A piece of the text."""
        begin = b"" if self._text else self._begin()
        self._text += text
        return begin + self._event("response.output_text.delta", **self._place, delta=text, logprobs=[])

    def last(self, content: Mapping[str, Any]) -> bytes:
        """The end of the text, or calls of functions; and the whole answer."""
        response = whole(self._id, self._model, content)
        events = [event for number, item in enumerate(response["output"]) for event in self._item(item, number)]
        return b"".join(events) + self._event(f"response.{response['status']}", response=response)

    def error(self, document: Mapping[str, Any]) -> bytes:
        """Why there is no answer, or no more of it."""
        return self._event("error", code=document["type"], message=document["message"], param=None)

    def _begin(self) -> bytes:
        item = _message(self._id, "") | {"status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        added = self._event("response.output_item.added", output_index=0, item=item)
        return added + self._event("response.content_part.added", **self._place, part=part)

    def _item(self, item: Mapping[str, Any], number: int) -> Iterator[bytes]:
        if item["type"] == "message":
            [part] = item["content"]
            if not self._text:
                yield self.piece(part["text"])
            yield self._event("response.output_text.done", **self._place, text=part["text"], logprobs=[])
            yield self._event("response.content_part.done", **self._place, part=part)
        else:
            place = {"item_id": item["id"], "output_index": number}
            begun = {**item, "arguments": "", "status": "in_progress"}
            yield self._event("response.output_item.added", output_index=number, item=begun)
            arguments = item["arguments"]
            yield self._event("response.function_call_arguments.delta", **place, delta=arguments)
            yield self._event("response.function_call_arguments.done", **place, name=item["name"], arguments=arguments)
        yield self._event("response.output_item.done", output_index=number, item=item)

    def _event(self, kind: str, **fields: Any) -> bytes:
        document = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return f"event: {kind}\ndata: {json.dumps(document)}\n\n".encode()


def _response(request_id: str, model: str, status: str) -> dict[str, Any]:
    return {
        "id": request_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "model": model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
        "temperature": None,
        "top_p": None,
        "usage": None,
    }


def _message(request_id: str, text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    name = f"msg_{request_id.rpartition('_')[2]}"
    return {"id": name, "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def _calls(request_id: str, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"fc_{call['id'].removeprefix('call_')}",
            "type": "function_call",
            "status": "completed",
            "call_id": call["id"],
            **call["function"],
        }
        for call in tool_calls(request_id, content)
    ]
