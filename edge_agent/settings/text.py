"""Settings of language models."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from edge_agent.settings.base import Bytes, Frozen, Seconds

# Of these, an answer can follow one.
CONSTRAINTS = ("json_schema", "choices", "stop")
MAX_SCHEMA_SIZE = 50_000
MAX_SCHEMA_DEPTH = 64


def _list_of_one(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _from_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("must be a JSON Schema, as JSON") from None


def _bounded(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    if _depth(schema) > MAX_SCHEMA_DEPTH:
        raise ValueError(f"must not be nested more than {MAX_SCHEMA_DEPTH} deep")
    if len(json.dumps(schema)) > MAX_SCHEMA_SIZE:
        raise ValueError(f"must have at most {MAX_SCHEMA_SIZE} bytes")
    return schema


def _depth(value: object) -> int:
    """How deep lists and mappings are nested; not by recursion, since this is what bounds recursion elsewhere."""
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
    """How a language model answers. What stands here is what holds where a request does not state it."""

    max_tokens: int = Field(256, ge=1, le=131072)
    """Most tokens of the answer."""
    temperature: float = Field(0.0, ge=0, le=2)
    """0: always the likeliest token, so the same answer to the same prompt. Higher: more variety."""
    top_k: int = Field(40, ge=1, le=1000)
    """Only so many of the likeliest tokens are picked from."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Of those, only the likeliest that together have this probability."""
    seed: int | None = Field(None, ge=0, le=2**63 - 1)
    """The same prompt with the same seed gets the same answer on the same device."""
    stop: Annotated[tuple[ShortWords, ...], BeforeValidator(_list_of_one)] = Field((), max_length=16)
    """The answer ends before the first of these texts."""
    stream: bool = False
    """Publish the answer in pieces as it comes, too."""
    json_schema: Schema = None
    """The answer is JSON that follows this JSON Schema."""
    choices: tuple[ShortWords, ...] = Field((), max_length=200)
    """The answer is one of these texts."""
    deadline: Seconds = Field(60.0, gt=0, le=3600)
    """Time for the whole request; when it is over, the answer ends where it is."""

    @model_validator(mode="after")
    def _one_constraint(self) -> "Generation":
        wanted = [key for key in CONSTRAINTS if getattr(self, key)]
        if len(wanted) > 1:
            raise ValueError(f"{' and '.join(wanted)} can't be combined")
        return self


class Text(Frozen):
    """How a pipeline asks its language model."""

    system: Words = ""
    """What every request begins with that brings no system message of its own; read once and then remembered."""
    prompt: Prompt | None = None
    """For a source that brings no requests: what is asked. `{predictions}` stands for what another pipeline has found,
    `{labels}` for the labels alone, `{readings}` for what a sensor has measured; `{pipeline}`, `{device_id}` and
    `{time}` for themselves."""
    min_interval: Seconds = Field(10.0, ge=0, le=86400)
    """For `prompt`: ask no more often than this. Of predictions, what comes sooner is left out; of readings, each
    question is about all since the one before."""
    queue: int = Field(8, ge=1, le=100)
    """Most requests that wait; one more is refused."""
    options: Generation = Generation()
    """What holds where a request does not state it."""


class Language(Frozen):
    """How a language model is run."""

    context: int = Field(2048, ge=16, le=131072)
    """Tokens of a prompt and its answer together; the model's own limit holds besides. More takes more memory."""
    cache_size: Bytes = Field(256_000_000, ge=1)
    """Bound on what the model keeps of prompts it has read, so that what begins alike is not read again."""
