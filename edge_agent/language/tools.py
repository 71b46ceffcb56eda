"""Functions that a model may call: how they are described to it, and what its answer must be.

Models differ in how they have learned to write calls, and many small ones have not learned it. So functions are
described in the system message, and the answer is constrained: a JSON object that is a valid call of one of them, or
text that does not begin with `{`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Function = Mapping[str, Any]
"""`name`, `description`, and `parameters`, a JSON Schema."""


def description(functions: Sequence[Function], *, must_call: bool) -> str:
    """What the system message says of functions."""
    listed = "\n".join(json.dumps(function, ensure_ascii=False) for function in functions)
    form = 'answer with nothing but {"name": FUNCTION, "arguments": {PARAMETER: VALUE}}'
    if must_call:
        return f"Call one of these functions: {form}.\n{listed}"
    return f"You can call these functions. To call one, {form}. Else answer in words.\n{listed}"


def with_description(messages: Sequence[Mapping[str, str]], text: str, *, takes_system: bool) -> list[dict[str, str]]:
    """A conversation that begins with a description of functions.

    Args:
        messages: the conversation; not empty.
        text: the description.
        takes_system: whether the model takes a system message; else it is put before the first message.
    """
    first, *others = (dict(message) for message in messages)
    if takes_system and first["role"] != "system":
        return [{"role": "system", "content": text}, first, *others]
    parts = (first["content"], text) if first["role"] == "system" else (text, first["content"])
    return [{**first, "content": "\n\n".join(part for part in parts if part)}, *others]


def call_schema(functions: Sequence[Function]) -> dict[str, Any]:
    """The JSON Schema of a call of one of the functions."""
    calls = [
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["name", "arguments"],
            "properties": {
                "name": {"const": function["name"]},
                "arguments": function.get("parameters") or {"type": "object", "additionalProperties": False},
            },
        }
        for function in functions
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}
