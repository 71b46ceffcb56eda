"""What can be made again, kept on this machine: models that have passed their trial, bundles unpacked from archives."""

import contextlib
import os
import re
from pathlib import Path

# Keys of trials that were passed; the oldest go.
MAX_PASSED = 64
_LINE_BYTES = 65


def cache_dir() -> Path:
    """Where edge-agent keeps it.

    For a service of systemd $STATE_DIRECTORY/cache; else the user's $XDG_CACHE_HOME/edge-agent
    (https://specifications.freedesktop.org/basedir-spec/).
    """
    if state := os.environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0]) / "cache"
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path(os.path.expanduser("~/.cache"))) / "edge-agent"  # noqa: PTH111 - Path.expanduser fails where there is no home


def has_passed(key: str) -> bool:
    """Whether `note_passed` has been called with this key, as far as is still known."""
    return key in _passed()


def note_passed(key: str) -> None:
    """Remembers a key of 64 hexadecimal digits; where there is no place to write to, it is forgotten at once."""
    keys = [*(known for known in _passed() if known != key), key][-MAX_PASSED:]
    with contextlib.suppress(OSError):
        cache_dir().mkdir(parents=True, exist_ok=True)
        part = _file().with_name(f"{_file().name}.part")
        part.write_text("".join(f"{known}\n" for known in keys), encoding="ascii")
        part.replace(_file())


def _file() -> Path:
    return cache_dir() / "passed"


def _passed() -> list[str]:
    """The keys that are known, the oldest first."""
    try:
        with _file().open("rb") as file:
            content = file.read(MAX_PASSED * _LINE_BYTES)
    except OSError:
        return []
    return re.findall(r"^[0-9a-f]{64}$", content.decode("latin-1"), re.MULTILINE)
