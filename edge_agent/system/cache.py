"""What can be made again, kept on this machine: models that have passed their trial, bundles."""

import contextlib
import os
import re
from pathlib import Path

from edge_agent.system import atomic_file
from edge_agent.system.home import home
from edge_agent.system.text import TextError, read_attribute, read_text

# Keys of passed self-tests that are kept; the oldest are dropped first.
MAX_PASSED = 64
MAX_SPEED_UP = 9999.0
_PROCESSOR = re.compile(r"^(?:model name|CPU part|flags|Features)\s*:.*", re.MULTILINE)
_LINE_BYTES = 65 + len(f" {MAX_SPEED_UP:.2f}")


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


def noted_speed_up(key: str) -> float | None:
    """The speed-up that was noted with a key; None if none was."""
    return _passed().get(key)


def note_passed(key: str, speed_up: float | None = None) -> None:
    """Remembers a key of 64 hexadecimal digits, and how many times as fast as the CPU the model's accelerator is.

    Without a writable cache folder this has no effect.
    """
    passed = [*((known, noted) for known, noted in _passed().items() if known != key), (key, speed_up)][-MAX_PASSED:]
    lines = (known if noted is None else f"{known} {min(noted, MAX_SPEED_UP):.2f}" for known, noted in passed)
    with contextlib.suppress(OSError):
        cache_dir().mkdir(parents=True, exist_ok=True)
        atomic_file.write(_file(), "".join(f"{line}\n" for line in lines).encode())


def _file() -> Path:
    return cache_dir() / "passed"


def _passed() -> dict[str, float | None]:
    """The kept keys, the oldest first, with their speed-ups."""
    try:
        content = read_text(_file(), MAX_PASSED * _LINE_BYTES)
    except (OSError, TextError):
        return {}
    lines = re.findall(r"^([0-9a-f]{64})(?: (\d{1,4}\.\d\d))?$", content, re.MULTILINE)
    return {key: float(noted) if noted else None for key, noted in lines}
