"""The numbers of JSON messages as sensors publish them, named by their dotted paths."""

from collections.abc import Sequence
from typing import Any

from edge_agent.errors import InputError
from edge_agent.system.terminal import printable
from edge_agent.system.text import TextError, parse_json

_LARGEST = 3.4e38  # about the largest of float32
# A message of a sensor is small; a larger one is something else.
MAX_MESSAGE = 1_000_000


def read_fields(data: bytes, fields: Sequence[str]) -> dict[str, float]:
    """The numbers of a JSON message at dotted paths, those that are there; true and false are 1 and 0.

    A bare number, as ESPHome sends it, is the only field. A field that is null is not there.

    Args:
        data: the message.
        fields: the paths; the key of an object may contain dots.

    Raises:
        InputError: none of the fields is there, or one is no number.
    """
    if len(data) > MAX_MESSAGE:
        raise InputError(f"expected a message of a sensor, found {len(data)} bytes, more than {MAX_MESSAGE}")
    try:
        document = parse_json(data)
    except TextError as error:
        raise InputError(f"expected JSON with {_listed(fields)}, found {error}") from None
    found: dict[str, float] = {}
    for field in fields:
        bare = not isinstance(document, dict) and len(fields) == 1
        value = document if bare else _at(document, field)
        if value is None:
            continue
        if not isinstance(value, int | float) or not abs(value) <= _LARGEST:
            raise InputError(f"expected a number at {field}, found {printable(repr(value)[:60])}")
        found[field] = float(value)
    if not found:
        keys = ", ".join(map(str, document)) if isinstance(document, dict) else repr(document)
        raise InputError(f"expected {_listed(fields)}, found {printable(keys[:100]) or 'nothing'}")
    return found


def _at(document: Any, path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    if not isinstance(document, dict):
        return None
    if path in document:
        return document[path]
    first, dot, rest = path.partition(".")
    while dot:
        if first in document:
            return _at(document[first], rest)
        more, dot, rest = rest.partition(".")
        first = f"{first}.{more}"
    return None


def _listed(fields: Sequence[str]) -> str:
    return "one of " * (len(fields) > 1) + ", ".join(fields)
