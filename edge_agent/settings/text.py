"""The settings of language models."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from edge_agent.settings.base import Bytes, Frozen, Seconds
from edge_agent.settings.intents import Intents
from edge_agent.settings.tools import FUNCTION, Tool
from edge_agent.system.text import parse_json

# Constraints on an answer; they exclude each other.
CONSTRAINTS = ("json_schema", "choices", "stop")
MAX_SCHEMA_SIZE = 50_000
MAX_SCHEMA_DEPTH = 64


def _list_of_one(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _from_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError:
        raise ValueError("must be a JSON Schema, as JSON") from None


def _bounded(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    if _depth(schema) > MAX_SCHEMA_DEPTH:
        raise ValueError(f"must not be nested more than {MAX_SCHEMA_DEPTH} deep")
    if len(json.dumps(schema)) > MAX_SCHEMA_SIZE:
        raise ValueError(f"must have at most {MAX_SCHEMA_SIZE} bytes")
    return schema


def _depth(value: object) -> int:
    """Nesting depth of lists and mappings, without recursion: it is checked to bound recursion elsewhere."""
    depth, level = 0, [value]
    while level:
        parts = [part for part in level if isinstance(part, dict | list)]
        level = [inner for part in parts for inner in (part.values() if isinstance(part, dict) else part)]
        depth += bool(parts)
    return depth


def _without_null(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not hold the character U+0000")
    return value


Words = Annotated[str, Field(max_length=1_000_000), AfterValidator(_without_null)]
Prompt = Annotated[str, Field(min_length=1, max_length=1_000_000), AfterValidator(_without_null)]
ShortWords = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_without_null)]


Schema = Annotated[dict[str, Any] | None, BeforeValidator(_from_json), AfterValidator(_bounded)]


class Generation(Frozen):
    """How a language model generates an answer. These are the defaults for what a request does not set."""

    max_tokens: int = Field(256, ge=1, le=131072)
    """Maximum number of tokens in the answer."""
    temperature: float = Field(0.0, ge=0, le=2)
    """0: always the most likely token, so that the same prompt gets the same answer. Higher values give more
    variety."""
    top_k: int = Field(40, ge=1, le=1000)
    """Tokens are sampled from this many of the most likely ones."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Of those, only the most likely whose probabilities add up to this."""
    seed: int | None = Field(None, ge=0, le=2**63 - 1)
    """Seed of the sampling. The same prompt with the same seed gets the same answer on the same device."""
    stop: Annotated[tuple[ShortWords, ...], BeforeValidator(_list_of_one)] = Field((), max_length=16)
    """The answer ends before the first of these texts."""
    stream: bool = False
    """Also publish the answer in pieces while it is generated."""
    json_schema: Schema = None
    """The answer is JSON that conforms to this JSON Schema."""
    choices: tuple[ShortWords, ...] = Field((), max_length=200)
    """The answer is one of these texts."""
    refusals: Annotated[tuple[ShortWords, ...], BeforeValidator(_list_of_one)] = Field((), max_length=16)
    """Answers by which the model says that nothing fits, such as `none`: one of `choices`, or the value of a key in an
    answer that follows `json_schema`. The result then has `"finish_reason": "refused"`."""
    numbers: Literal["any", "stated"] = "any"
    """`stated`: an answer in words has no numbers in digits but those that stand in the prompt."""
    deadline: Seconds = Field(60.0, gt=0, le=3600)
    """Time limit of the whole request. When it is reached, the answer ends where it is."""

    @model_validator(mode="after")
    def _one_constraint(self) -> "Generation":
        wanted = [key for key in CONSTRAINTS if getattr(self, key)]
        if len(wanted) > 1:
            raise ValueError(f"{' and '.join(wanted)} can't be combined")
        return self


class Text(Frozen):
    """How a pipeline prompts its language model."""

    system: Words = ""
    """System message of requests that bring none. It is evaluated once and then cached."""
    prompt: Prompt | None = None
    """For a source that brings no requests: the prompt. `{predictions}` is replaced by the predictions of another
    pipeline, `{labels}` by their labels alone, `{readings}` by the readings of a sensor; `{pipeline}`, `{device_id}`
    and `{time}` are replaced as well."""
    min_interval: Seconds = Field(10.0, ge=0, le=86400)
    """For `prompt`: minimum time between two questions. Predictions in between are skipped; readings in between go into
    the next question."""
    tools: dict[Annotated[str, Field(pattern=FUNCTION)], Tool] = Field({}, max_length=32)
    """Functions that the model may call, by name: each call becomes a message to a device."""
    queue: int = Field(8, ge=1, le=100)
    """Maximum number of waiting requests. Further ones are refused."""
    openai: bool = False
    """Also answer requests over HTTP, as clients of OpenAI's interface for chats send them. Needs `http`, and a source
    of requests: `mqtt`."""
    intents: Intents = Intents()
    """How commands are recognized, by a bundle that does this: `commands`."""
    options: Generation = Generation()
    """Defaults for what a request does not set."""


class Language(Frozen):
    """How a language model is run."""

    context: int = Field(2048, ge=16, le=131072)
    """Maximum number of tokens of a prompt and its answer together; the model's own limit applies as well. More takes
    more memory."""
    cache_size: Bytes = Field(256_000_000, ge=1)
    """Limit on the cache of evaluated prompts. A prompt that begins like a cached one is not evaluated from its
    start."""
    parallel: int = Field(4, ge=1, le=16)
    """Number of requests that are answered at once; further ones wait in their queues. Each of them may take the whole
    context, so there are at most as many as the cache holds."""
    keep_alive: Seconds | None = Field(None, ge=0.1, le=604800)
    """The model is unloaded when nobody has asked it for this long; the next request loads it again, which takes some
    seconds. Its memory stays reserved. Default: it stays loaded."""
