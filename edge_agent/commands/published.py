"""What is taken from messages that any client of the broker may have written: sizes, names and numbers are bounded."""

import re
from typing import Any

from edge_agent.settings.base import TOPIC_LEVEL
from edge_agent.system.terminal import printable
from edge_agent.system.text import parse_json

MAX_PAYLOAD = 256_000
MAX_NAME = 64
MAX_TEXT = 60
LARGEST_NUMBER = 1e12
_NAME = re.compile(TOPIC_LEVEL)


def document(payload: bytes) -> dict[str, Any] | None:
    """The JSON object in a payload; None for anything else."""
    try:
        found = parse_json(payload)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def mapping(document: dict[str, Any], key: str) -> dict[str, Any]:
    """The object under a key; an empty one in place of anything else."""
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def text(value: object, most: int = MAX_TEXT) -> str:
    """A text as `cut` has it; "" for anything else."""
    return cut(value, most) if isinstance(value, str) else ""


def cut(line: str, most: int = MAX_TEXT) -> str:
    """One line of bounded length without control characters."""
    line = printable(line[: most + 1])
    return line if len(line) <= most else f"{line[: most - 1]}…"


def number(value: object) -> float | None:
    """A finite number within bounds; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -LARGEST_NUMBER <= value <= LARGEST_NUMBER else None


def is_name(level: str) -> bool:
    """Whether it can be the name of a device or a pipeline."""
    return len(level) <= MAX_NAME and _NAME.match(level) is not None
