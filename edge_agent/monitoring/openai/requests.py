"""Requests for chat completions, and what they are as requests to a pipeline.

https://platform.openai.com/docs/api-reference/chat/create
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from edge_agent.config.validation import validate
from edge_agent.errors import InputError
from edge_agent.language.request import FunctionOfRequest, RequestProblems
from edge_agent.settings.base import Frozen
from edge_agent.settings.text import Schema, Words
from edge_agent.system.text import TextError, parse_json

# What changes nothing here.
IGNORED = (
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    *("reasoning_effort", "verbosity", "parallel_tool_calls"),
)
# What has only one value here.
FIXED: Mapping[str, Any] = {
    "n": 1,
    "logprobs": False,
    "top_logprobs": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "modalities": ["text"],
}
# Types of parts of a message that are text.
TEXTS = ("text", "input_text", "output_text")
Kind = TypeVar("Kind", bound=Frozen)
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


def joined(value: object) -> object:
    """Content without parts."""
    if value is None:
        return ""
    if not isinstance(value, list):
        return value
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") in TEXTS else None for part in value]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("must be text, or parts of the type text")
    return "\n".join(map(str, texts))


class CalledFunction(Frozen):
    """A call of a function."""

    name: str
    """Of the function."""
    arguments: Words = "{}"
    """As JSON."""


class ToolCall(Frozen):
    """A call that the assistant has made."""

    id: str = ""
    """Of the call."""
    type: Literal["function"] = "function"
    """Of the tool."""
    function: CalledFunction
    """What was called."""


class Message(Frozen):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    """Whose turn it is; `developer` is another name for `system`."""
    content: Annotated[Words, BeforeValidator(joined)] = ""
    """The text."""
    name: str = ""
    """Ignored."""
    refusal: str = ""
    """Ignored."""
    tool_call_id: str = ""
    """Ignored: a result follows its call."""
    tool_calls: tuple[ToolCall, ...] = Field((), max_length=8)
    """Calls that the assistant has made."""

    def turn(self) -> dict[str, str]:
        """As pipelines take it: calls are answers, and their results are messages of the user."""
        match self.role:
            case "developer":
                return {"role": "system", "content": self.content}
            case "tool":
                return {"role": "user", "content": f"Result: {self.content}"}
            case "assistant" if self.tool_calls:
                return {"role": "assistant", "content": "\n".join(map(_as_answer, self.tool_calls))}
        return {"role": self.role, "content": self.content}


def _as_answer(call: ToolCall) -> str:
    return f'{{"name":{json.dumps(call.function.name)},"arguments":{call.function.arguments}}}'


class Function(FunctionOfRequest):
    """A function that the model may call."""

    strict: bool = True
    """Ignored: arguments always follow the schema."""


class Tool(Frozen):
    """A tool; all of them are functions."""

    type: Literal["function"]
    """Only functions are supported."""
    function: Function
    """The function."""


class NamedFunction(Frozen):
    """Names a function."""

    name: str
    """Of the function."""


class NamedTool(Frozen):
    """The tool that has to be called."""

    type: Literal["function"]
    """Only functions are supported."""
    function: NamedFunction
    """The function."""


class NamedSchema(Frozen):
    """A JSON Schema that the answer has to follow."""

    name: str = ""
    """Ignored."""
    description: str = ""
    """Ignored."""
    schema_: Schema = Field(None, alias="schema")
    """The schema."""
    strict: bool = True
    """Ignored: it is always followed."""


class ResponseFormat(Frozen):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    """Text, any JSON object, or what follows the schema."""
    json_schema: NamedSchema = NamedSchema()
    """For `json_schema`."""


class StreamOptions(Frozen):
    """Options of an answer in pieces."""

    include_usage: bool = False
    """Whether the numbers of tokens follow."""
    include_obfuscation: bool = False
    """Ignored."""


class ChatRequest(Frozen):
    """A request for a completion. What is checked by the pipeline is not checked here."""

    model: str
    """Name of the pipeline."""
    messages: tuple[Message, ...] = Field(min_length=1, max_length=256)
    """The conversation, the latest turn last."""
    max_tokens: int | None = None
    """Most tokens of the answer."""
    max_completion_tokens: int | None = None
    """The same."""
    temperature: float | None = None
    """See `settings.text.Generation`."""
    top_p: float | None = None
    """See `settings.text.Generation`."""
    top_k: int | None = None
    """See `settings.text.Generation`."""
    seed: int | None = None
    """See `settings.text.Generation`."""
    stop: str | tuple[str, ...] | None = None
    """See `settings.text.Generation`."""
    stream: bool = False
    """Whether the answer comes in pieces."""
    stream_options: StreamOptions = StreamOptions()
    """Options of these."""
    response_format: ResponseFormat = ResponseFormat()
    """The form of the answer."""
    tools: tuple[Tool, ...] = Field((), max_length=32)
    """What the model may call; the calls are made by the client."""
    tool_choice: Literal["auto", "none", "required"] | NamedTool = "auto"
    """Whether it has to call something, and what."""

    @field_validator("tool_choice")
    @classmethod
    def _known(cls, value: str | NamedTool, info: ValidationInfo) -> str | NamedTool:
        if isinstance(value, NamedTool):
            check_choice(value.function.name, [tool.function.name for tool in info.data.get("tools", ())])
        return value

    def for_pipeline(self) -> dict[str, Any]:
        """The fields of the `Request` to the pipeline; it has defaults for what is not stated."""
        schema = {
            "text": None,
            "json_object": ANY_OBJECT,
            "json_schema": self.response_format.json_schema.schema_,
        }[self.response_format.type]
        choice = self.tool_choice
        tools = [tool.function.model_dump(exclude={"strict"}, exclude_none=True) for tool in self.tools]
        if isinstance(choice, NamedTool):
            tools, choice = [tool for tool in tools if tool["name"] == choice.function.name], "required"
        fields = {
            "tools": tools or None,
            "tool_choice": choice,
            "messages": [message.turn() for message in self.messages],
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "seed": self.seed,
            "stop": self.stop,
            "stream": self.stream,
            "json_schema": schema,
        }
        return {name: value for name, value in fields.items() if value is not None}


def check_choice(name: str, names: Sequence[str]) -> None:
    """Raises ValueError if the function that has to be called is none of those that are listed."""
    if name not in names:
        raise ValueError(f"must name one of tools: {', '.join(names) or 'there are none'}")


def read_chat(data: bytes) -> ChatRequest:
    """The request in a body; see `read`."""
    return read(ChatRequest, data, IGNORED, FIXED)


def read(kind: type[Kind], data: bytes, ignored: Sequence[str], fixed: Mapping[str, Any]) -> Kind:
    """The request in a body.

    Args:
        kind: of request.
        data: the body.
        ignored: names of fields that are ignored.
        fixed: fields that have only one value.

    Raises:
        InputError: it is none; the message has what is wrong with each field.
    """
    try:
        raw = parse_json(data)
    except TextError as error:
        raise InputError(f"the body: {error}") from None
    if not isinstance(raw, dict):
        raise InputError("the body must be a JSON object")
    problems = RequestProblems(Path("request"))
    fields = {name: value for name, value in raw.items() if value is not None and name not in ignored}
    for name, only in fixed.items():
        if fields.pop(name, only) != only:
            problems.add((name,), f"only {only!r} is supported")
    request = validate(kind, fields, problems)
    if request is None or problems.texts():
        raise InputError("; ".join(problems.texts()))
    return request
