"""What can be made again, kept on this machine: models that have passed their trial, bundles."""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

from edge_agent.system import atomic_file
from edge_agent.system.home import home
from edge_agent.system.text import TextError, parse_json, read_attribute, read_text

# Keys of passed self-tests that are kept; the oldest are dropped first.
MAX_PASSED = 64
MAX_NOTE = 4096
_PROCESSOR = re.compile(r"^(?:model name|CPU part|flags|Features)\s*:.*", re.MULTILINE)
_LINE_BYTES = 66 + MAX_NOTE


def cache_dir() -> Path:
    """The folder of the cache.

    For a service of systemd $STATE_DIRECTORY/cache; else the user's $XDG_CACHE_HOME/edge-agent
    (https://specifications.freedesktop.org/basedir-spec/).
    """
    if state := os.environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0]) / "cache"
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else home() / ".cache") / "edge-agent"


def processor() -> list[str]:
    """Model and features of the processor: a memory card may have moved to another machine."""
    try:
        return sorted(set(_PROCESSOR.findall(read_attribute(Path("/proc/cpuinfo")))))
    except OSError:
        return []


def has_passed(key: str) -> bool:
    """Whether `note_passed` has been called with this key, and the key is still kept."""
    return key in _passed()


def noted(key: str) -> dict[str, Any] | None:
    """What was noted with a key; None if it has not passed."""
    return _passed().get(key)


def note_passed(key: str, note: dict[str, Any] | None = None) -> None:
    """Remembers a key of 64 hexadecimal digits, and what the self-test has found out besides.

    Without a writable cache folder, and for a note that is too long, this has no effect.
    """
    passed = _passed()
    passed.pop(key, None)
    passed[key] = note or {}
    lines = (f"{known} {json.dumps(one)}" if one else known for known, one in [*passed.items()][-MAX_PASSED:])
    content = "".join(f"{line}\n" for line in lines if len(line) < _LINE_BYTES)
    with contextlib.suppress(OSError):
        cache_dir().mkdir(parents=True, exist_ok=True)
        atomic_file.write(_file(), content.encode())


def _file() -> Path:
    return cache_dir() / "passed"


def _passed() -> dict[str, dict[str, Any]]:
    """The kept keys, the oldest first, with what was noted."""
    try:
        content = read_text(_file(), MAX_PASSED * _LINE_BYTES)
    except (OSError, TextError):
        return {}
    lines = re.findall(r"^([0-9a-f]{64})(?: (\{.*\}))?$", content, re.MULTILINE)
    passed: dict[str, dict[str, Any]] = {}
    for key, note in lines:
        with contextlib.suppress(TextError):
            passed[key] = parse_json(note) if note else {}
    return passed
