"""Where in a JSON Schema the trouble is, and what it is, in the words of JSON Schema."""

import json
from collections.abc import Callable, Iterator
from typing import Any

# How often parts of a schema are tried at most, to find the place.
MAX_TRIALS = 100
# Keywords with a schema, with schemas by name, and with a list of schemas:
# https://json-schema.org/draft/2020-12/json-schema-core#section-10
_ONE = ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else")
_DEFINITIONS = ("$defs", "definitions")
_NAMED = ("properties", "patternProperties", *_DEFINITIONS)
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")


def problem(schema: Any, message: str, error_of: Callable[[Any], str]) -> str:
    """What is wrong with a schema.

    Args:
        schema: that was refused.
        message: of llguidance 1.9, about it.
        error_of: the same for another schema; empty if that can be used.
    """
    place = _place(schema, message, error_of)
    return (f"at {place}: " if place else "") + _meaning(message)


def _place(schema: Any, message: str, error_of: Callable[[Any], str]) -> str:
    """The smallest part that gives the same message by itself, as a JSON pointer; empty for the whole."""
    shared = {key: schema[key] for key in _DEFINITIONS if isinstance(schema, dict) and key in schema}
    place, part, trials = "", schema, 0
    while isinstance(part, dict):
        for key, inner in _parts(part):
            trials += 1
            if trials > MAX_TRIALS:
                return place
            # References within the part lead to what is defined at the top.
            if (
                isinstance(inner, dict)
                and error_of(shared | inner if "$ref" in json.dumps(inner) else inner) == message
            ):
                place, part = place + key, inner
                break
        else:
            return place
    return place


def _parts(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    # What is defined for many places is blamed before the places.
    for key, value in sorted(schema.items(), key=lambda item: item[0] not in _DEFINITIONS):
        if key in _ONE:
            yield f"/{key}", value
        elif key in _NAMED and isinstance(value, dict):
            yield from (
                (f"/{key}/{name.replace('~', '~0').replace('/', '~1')}", inner) for name, inner in value.items()
            )
        elif key in _LISTS and isinstance(value, list):
            yield from ((f"/{key}/{number}", inner) for number, inner in enumerate(value))


def _meaning(message: str) -> str:
    begin = next((begin for begin in _MEANINGS if message.startswith(begin)), None)
    return message if begin is None else _MEANINGS[begin](message.removeprefix(begin).strip())


def _not_supported(names: str) -> str:
    try:
        keys = [f"`{name}`" for name in json.loads(names)]
    except (ValueError, TypeError):
        keys = [names]
    return f"{keys[0]} is not supported" if len(keys) == 1 else f"{' and '.join(keys)} are not supported"


# How messages of llguidance begin -> the meaning, made of the rest.
_MEANINGS: dict[str, Callable[[str], str]] = {
    "oneOf constraints are not supported": lambda _: "`oneOf` is not supported where several may fit: use `anyOf`",
    "Unimplemented keys: ": _not_supported,
    "regex parse error:": lambda rest: f"`pattern` can't be used: {rest.rpartition('error: ')[2]}",
    "Unknown format: ": lambda rest: f"the `format` {rest!r} is not supported",
    "Unsatisfiable schema: Regex is empty": (
        lambda _: "nothing can fit: `pattern`, `format` and the lengths contradict each other"
    ),
    "Unsatisfiable schema: ": lambda rest: f"nothing can fit: {rest}",
    "Resource '": lambda _: "a `$ref` to another document: only those within the schema (#/$defs/…) are supported",
    "Pointer '": lambda rest: f"a `$ref` leads to {rest.partition(chr(39))[0]!r}, which is not there",
}
