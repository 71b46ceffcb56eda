"""Requests to a language model: plain text, or JSON with options."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from edge_agent.config.validation import validate
from edge_agent.config.yaml_lines import Key, Problems, dotted
from edge_agent.errors import InputError
from edge_agent.language.generation import Job
from edge_agent.language.tools import Function, description, with_description
from edge_agent.settings.base import Frozen
from edge_agent.settings.text import CONSTRAINTS, Generation, Prompt, Schema, Words
from edge_agent.settings.tools import FUNCTION
from edge_agent.system.terminal import printable
from edge_agent.system.text import TextError, decode, parse_json
from edge_agent.system.units import format_size

# More bytes than the context of a small model can hold.
MAX_SIZE = 1_000_000
MAX_QUOTED = 60


class Message(Frozen):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    """Whose turn it is."""
    content: Words
    """The text."""


class FunctionOfRequest(Frozen):
    """A function that the model may call."""

    name: str = Field(pattern=FUNCTION)
    """Its name."""
    description: str = Field("", max_length=2000)
    """What it does."""
    parameters: Schema = None
    """Its parameters, as a JSON Schema."""


class Request(Generation):
    """One request."""

    id: str | None = Field(None, min_length=1, max_length=64)
    """The result and the pieces of a stream carry it, and a cancellation names it."""
    prompt: Prompt | None = None
    """The text of the user, put into the model's chat template if the model has one."""
    messages: tuple[Message, ...] = Field((), max_length=256)
    """A conversation, the latest turn last."""

    tools: tuple[FunctionOfRequest, ...] = Field((), max_length=32)
    """Functions that the model may call: the answer is a call of one of them, as `tool_calls`, or text. Calls are for
    the requester."""
    tool_choice: Literal["auto", "required", "none"] = "auto"
    """Whether the answer must be a call, or none."""

    @field_validator("id")
    @classmethod
    def _visible(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("must hold no control characters")
        return value

    @model_validator(mode="after")
    def _one_of_both(self) -> "Request":
        if (self.prompt is None) == (not self.messages):
            raise ValueError("needs either prompt or messages")
        if self.tools and (self.json_schema is not None or self.choices or self.stop):
            raise ValueError("tools can't be combined with json_schema, choices and stop")
        return self

    def conversation(self, system: str) -> list[dict[str, str]]:
        """The request as a conversation.

        Args:
            system: system message; not used if the request has one.
        """
        messages = [message.model_dump() for message in self.messages]
        messages = messages or [{"role": "user", "content": self.prompt or ""}]
        if system and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": system})
        return messages

    def job(self, system: str, age: float, functions: Sequence[Function] = (), *, takes_system: bool = True) -> Job:
        """The request as the worker gets it.

        Args:
            system: see `conversation`.
            age: seconds since the request came.
            functions: that the model may call if the request has none and no other constraint.
            takes_system: whether the model takes a system message.
        """
        messages, must_call = self.conversation(system), self.tool_choice == "required"
        if self.json_schema is not None or self.choices or self.stop or self.tool_choice == "none":
            functions = ()
        elif self.tools:
            functions = [tool.model_dump(exclude_none=True) for tool in self.tools]
        if functions:
            text = description(functions, must_call=must_call)
            messages = with_description(messages, text, takes_system=takes_system)
        stated = {name: getattr(self, name) for name in Generation.model_fields}
        stated["deadline"] = max(0.0, self.deadline - age)
        chat = bool(self.messages)
        return Job(messages=messages, chat=chat, functions=functions, must_call=must_call, **stated)


def read_request(data: bytes, defaults: Generation) -> Request:
    """The request in a message.

    Args:
        data: a JSON object with the fields of `Request`, or plain text in UTF-8: a prompt.
        defaults: for what the request does not set.

    Raises:
        InputError: it is not a request; the message has what is wrong with each field.
    """
    if len(data) > MAX_SIZE:
        raise InputError(f"{format_size(len(data))}: a request has at most {format_size(MAX_SIZE)}")
    try:
        text = decode(data)
    except TextError as error:
        raise InputError(f"{error}: send text, or JSON, in UTF-8") from None
    return _validated(_fields(text), defaults)


def ask(prompt: str, defaults: Generation) -> Request:
    """A request for a prompt alone."""
    return _validated({"prompt": prompt}, defaults)


def _fields(text: str) -> dict[str, Any]:
    if not text.lstrip().startswith("{"):
        return {"prompt": text}
    try:
        fields = parse_json(text)
    except TextError as error:
        raise InputError(
            f'begins with {{ and can\'t be read as JSON: {error}; send plain text as {{"prompt": …}} if it begins so'
        ) from None
    return dict(fields)


def _validated(fields: Mapping[str, Any], defaults: Generation) -> Request:
    problems = RequestProblems(Path("request"))
    # A constraint in the request replaces those of the pipeline.
    others = set(CONSTRAINTS) if any(fields.get(key) for key in (*CONSTRAINTS, "tools")) else None
    stated = defaults.model_dump(exclude_unset=True, exclude=others)
    request = validate(Request, stated | dict(fields), problems)
    if request is None:
        raise InputError("; ".join(problems.texts()))
    return request


class RequestProblems(Problems):
    """Problems of a request, without line numbers."""

    def add(self, key: Key, message: str, line: int | None = None) -> None:
        """See `Problems.add`."""
        self._found.append((line or 0, f"{dotted(key)}: {message}" if key else message))

    def quoted(self, key: Key, value: object) -> str:  # noqa: ARG002 - Problems needs it
        """See `Problems.quoted`."""
        text = json.dumps(value, ensure_ascii=False)
        return printable(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…")
