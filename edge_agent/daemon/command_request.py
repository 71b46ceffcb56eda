"""A command over MQTT, read with care: every key is known and has its type, or the command is refused as a whole."""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from edge_agent.errors import EdgeAgentError
from edge_agent.system.terminal import printable
from edge_agent.system.text import parse_json
from edge_agent.system.units import parse_duration

MAX_COMMAND = 10_000
# Seconds over which the devices that follow a command to all of them spread, unless it says otherwise; and the most.
SPREAD_S = 60.0
MAX_SPREAD_S = 86_400.0

# Executes a command. The answer consists of what it returns, or of the error that it raises.
Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Command(NamedTuple):
    """A command that this device knows.

    Attributes:
        run: executes it.
        keys: that it takes, all of them optional, and the type of each.
        slow: whether it has a thread of its own; one of them at a time.
    """

    run: Run
    keys: Mapping[str, type]
    slow: bool = False


class Request(NamedTuple):
    """A command that has come.

    Attributes:
        name: of the command.
        options: its own keys.
        labels, devices: whom it is for: devices with one of the labels, and these devices; None: not stated.
        spread: seconds within which to begin, at a random moment.
    """

    name: str
    options: Mapping[str, Any]
    labels: Sequence[str] | None = None
    devices: Sequence[str] | None = None
    spread: float = 0.0

    def is_for(self, device_id: str, labels: Sequence[str]) -> bool:
        """Whether it is for a device."""
        if self.labels is None and self.devices is None:
            return True
        return device_id in (self.devices or ()) or not set(labels).isdisjoint(self.labels or ())


def read(payload: bytes | bytearray, commands: Mapping[str, Command], *, to_all: bool) -> Request:
    """Reads a command.

    Args:
        payload: of the message.
        commands: the known ones, by name.
        to_all: whether it has come to all devices; such a command may say whom it is for.

    Raises:
        EdgeAgentError: it is no command, or one with an unknown key or a value of another type.
    """
    if len(payload) > MAX_COMMAND:
        raise EdgeAgentError(f"a command has at most {MAX_COMMAND} bytes, this one {len(payload)}")
    try:
        document = parse_json(payload)
    except ValueError:
        raise EdgeAgentError('not JSON: expected {"command": …}') from None
    # Both names of the key are documented.
    name = document.get("command", document.get("cmd")) if isinstance(document, dict) else None
    if not isinstance(name, str) or name not in commands:
        raise EdgeAgentError(f"no such command: {_shown(name)}; known here: {', '.join(commands)}")
    keys = commands[name].keys
    shared = ("labels", "devices", "spread") if to_all else ()
    for key in document:
        if key not in ("command", "cmd", *keys, *shared):
            raise EdgeAgentError(f"{name}: {_unknown(key, [*keys, *shared], to_all=to_all)}; nothing was done")
    options = {key: document[key] for key in keys if key in document}
    for key, value in options.items():
        if keys[key] is float and type(value) is int:
            options[key] = float(value)
        elif type(value) is not keys[key]:
            raise EdgeAgentError(f"{name}: {key}: expected {_TYPES[keys[key]]}, found {_shown(value)}")
    if not to_all:
        return Request(name, options)
    return Request(name, options, _texts(document, "labels"), _texts(document, "devices"), _spread(document))


_TYPES = {bool: "true or false", str: "a text", int: "a whole number", float: "a number"}


def _shown(value: object) -> str:
    return printable(repr(value)[:100])


def _unknown(key: str, known: Sequence[str], *, to_all: bool) -> str:
    text = f"unknown key {_shown(key)}"
    if not to_all and key in ("labels", "devices", "spread"):
        return f"{text}: only commands to all devices take it"
    near = difflib.get_close_matches(key.lower()[:64], known, n=1, cutoff=0.5)
    return f"{text}; did you mean {near[0]!r}?" if near else f"{text}; known: {', '.join(known) or 'none'}"


def _texts(document: Mapping[str, Any], key: str) -> list[str] | None:
    if key not in document:
        return None
    value = document[key]
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise EdgeAgentError(f"{key}: expected a list of one or more texts, found {_shown(value)}")
    return value


def _spread(document: Mapping[str, Any]) -> float:
    try:
        spread = float(parse_duration(document.get("spread", SPREAD_S)))
    except (ValueError, OverflowError):
        spread = math.nan
    if not 0 <= spread <= MAX_SPREAD_S:
        raise EdgeAgentError(
            f"spread: expected a duration such as 0, 30s or 1h, up to 1d, found {_shown(document['spread'])}"
        )
    return spread
