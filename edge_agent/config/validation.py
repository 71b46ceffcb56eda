"""From plain values to typed settings; problems are reported in plain words instead of those of Pydantic.

Pydantic's types of errors and their contexts: https://docs.pydantic.dev/latest/errors/validation_errors/.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edge_agent.config.yaml_lines import Key, Problems
from edge_agent.settings.base import TOPIC_LEVEL, TOPIC_PREFIX, Frozen
from edge_agent.settings.pipelines import TIME_OF_DAY
from edge_agent.settings.update import CHANNEL, URL
from edge_agent.system.units import parse_duration

MAX_NAMES = 20

T = TypeVar("T", bound=Frozen)

_BOUNDS = {"greater_than": (">", "gt"), "greater_than_equal": (">=", "ge"), "less_than_equal": ("<=", "le")}
_PATTERNS = {
    TIME_OF_DAY: "must be a time of day such as 00:00",
    CHANNEL: "must consist of letters, digits, '.', '_' and '-'",
    URL: "must be an http:// or https:// address",
    TOPIC_LEVEL: "must not contain / + # or control characters, nor begin with $",
    TOPIC_PREFIX: "must not contain + # or spaces, begin with $ or /, or end with /",
}
_WORDS = {
    "missing": "is required",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_type": "must be text",
    "string_unicode": "must be text",
    "literal_error": "must be {expected}",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "path_type": "must be a path",
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length} entry",
    "too_long": "must have at most {max_length} entries",
    "dict_type": "must be `name: …` lines",
    "model_type": "must be `key: value` lines",
    "model_attributes_type": "must be `key: value` lines",
    "union_tag_not_found": "is required, for example `type: mqtt`",
    "union_tag_invalid": "must be one of {expected_tags}",
}


def validate(settings: type[T], raw: object, problems: Problems) -> T | None:
    """Settings from the plain values of a file, or None and what is wrong added to the problems."""
    if not isinstance(raw, dict):
        if not problems.texts():
            problems.add((), "the file must contain settings as `key: value` lines")
        return None
    keys_of: dict[int, tuple[str, ...]] = {}
    try:
        return settings.model_validate(raw, context=keys_of)
    except ValidationError as error:
        _explain(error, raw, keys_of, problems)
        return None


def value_at(raw: Any, key: Key) -> Any:
    """The value of a key; None if there is none."""
    for part in key:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message: the known name that is most similar, or, if none is, all of them."""
    names = list(known)[:MAX_NAMES]
    nearest = difflib.get_close_matches(name.lower()[:64], names, n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; known: {', '.join(names)}"


def _explain(error: ValidationError, raw: object, keys_of: Mapping[int, tuple[str, ...]], problems: Problems) -> None:
    """Adds one problem for each key, also where its value fits none of several types."""
    found: dict[Key, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        key = _real_key(details, raw)
        if details["loc"][-1:] == ("[key]",):
            problems.add(key, f"the name {in_plain_words(details, None)}")
        elif key not in problems.unreadable:
            found.setdefault(key, []).append(details)
    around = {key[:length] for key in found for length in range(len(key))}
    for key, several in found.items():
        if key in around:
            continue  # a problem inside a value is more specific than one of the value
        if several[0]["type"] == "extra_forbidden":
            known = keys_of.get(id(value_at(raw, key[:-1])), ())
            problems.add(key, "unknown key" + did_you_mean(str(key[-1]), known))
            continue
        value = value_at(raw, key)
        first, *others = dict.fromkeys(in_plain_words(details, value) for details in several)
        message = first + "".join(f", or {other.removeprefix('must ')}" for other in others)
        quoted = (
            problems.quoted(key, value) if first.startswith(("must be", "must consist", "must not contain")) else ""
        )
        problems.add(key, f"{message} (got {quoted})" if quoted else message)


def _real_key(details: ErrorDetails, raw: object) -> Key:
    """The location of an error without the names of union members, which are not keys of the file."""
    *parts, last = details["loc"] or ("",)
    key: list[str | int] = []
    for part in parts:
        value = value_at(raw, (part,))
        if value is not None:
            key.append(part)
            raw = value
    # A default that is refused: the key is not in the file, and the message is about it.
    left_out = isinstance(raw, dict) and details["type"] == "value_error" and not isinstance(details["input"], dict)
    if details["type"] == "missing" or isinstance(last, int) or left_out or (isinstance(raw, dict) and last in raw):
        key.append(last)
    if details["type"].startswith("union_tag"):
        key.append("type")
    return tuple(key)


def in_plain_words(details: ErrorDetails, value: object) -> str:
    """What is wrong with a value.

    Args:
        details: of an error of Pydantic.
        value: as it is in the file; it tells the unit of a bound.
    """
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return _PATTERNS[context["pattern"]]
    if kind in _BOUNDS:
        sign, bound = _BOUNDS[kind]
        return f"must be {sign} {context[bound]:.15g}{_unit(value)}"
    return _WORDS[kind].format(**context).replace("'", "") if kind in _WORDS else details["msg"]


def _unit(value: object) -> str:
    """The unit of a bound, if the value has a unit."""
    if not isinstance(value, str) or not value[-1:].isalpha():
        return ""
    try:
        parse_duration(value)
    except ValueError:
        return " bytes"
    return " s"
