"""Text from outside: files, environment variables, messages and the output of programs, all read in the same way.

Text is UTF-8. A byte order mark before it, which editors on Windows write, is removed, and lines may end in LF, CRLF or
CR. What is read from a file is bounded before it is read.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_agent.system.regular_file import open_regular
from edge_agent.system.terminal import printable

BOM = "\ufeff"
# Longest secret in bytes of UTF-8: MQTT states the length of a user name and of a password in 16 bits.
MAX_SECRET = 65535
# Of a file of the kernel: most hold a line, /proc/cpuinfo some for each processor.
_MAX_ATTRIBUTE = 1_000_000
_TAB, _SPACE, _DELETE = "\t", " ", "\x7f"


class TextError(ValueError):
    """The text can't be used. The message says what it is, without the place: `not text in UTF-8`."""


def read_file(path: Path, limit: int, *, pipes: bool = False) -> bytes:
    """The content of a file.

    Args:
        path: of the file.
        limit: in bytes.
        pipes: whether it may be a pipe, whose writer may let this wait.

    Raises:
        OSError: it can't be read, or is not a file.
        ValueError: its name has U+0000 in it.
        TextError: it is larger.
    """
    with path.open("rb") if pipes else open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # Files of the kernel have no size, and a file may grow.
        content = b"" if size > limit else file.read(limit + 1)
    if max(len(content), size) > limit:
        raise TextError(f"larger than {limit} bytes")
    return content


def read_text(path: Path, limit: int, *, pipes: bool = False) -> str:
    """The text of a file: see `read_file` and `decode`."""
    return decode(read_file(path, limit, pipes=pipes))


def read_attribute(path: Path) -> str:
    """The text of a file of the kernel (sysfs, procfs), without the spaces around it.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        return decode_lenient(file.read(_MAX_ATTRIBUTE)).strip("\0 \t\r\n")


def decode(data: bytes | bytearray) -> str:
    """The text in these bytes.

    Raises:
        TextError: they are not UTF-8.
    """
    try:
        return data.decode("utf-8").removeprefix(BOM)
    except UnicodeDecodeError:
        raise TextError("not text in UTF-8") from None


def decode_lenient(data: bytes | bytearray) -> str:
    """The text in the output of a program or a device, U+FFFD in place of what is not UTF-8."""
    return data.decode("utf-8", "replace").removeprefix(BOM)


def lines(text: str) -> list[str]:
    """The lines of a text, without their ends; an end behind the last line makes no further one.

    Unlike `str.splitlines`, it does not split at characters that no editor shows as line ends.
    """
    found = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return found[:-1] if not found[-1] else found


def parse_json(data: bytes | bytearray | str, *, constant: Callable[[str], Any] | None = None) -> Any:
    """The JSON document in these bytes, or in this text.

    Args:
        data: the text.
        constant: makes values of `NaN`, `Infinity` and `-Infinity`, which Python reads as JSON; None: numbers.

    Raises:
        TextError: they are not UTF-8, not JSON, or nested too deeply; or a text in it can't be written as UTF-8.
    """
    text = data.removeprefix(BOM) if isinstance(data, str) else decode(data)
    try:
        document = json.loads(text, parse_constant=constant)
        if "\\ud" in text or "\\uD" in text:  # the escapes of surrogates, which may be halves of pairs
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise TextError("JSON that is nested too deeply") from None
    except UnicodeEncodeError:
        raise TextError("JSON with half of a surrogate pair in a text") from None
    except ValueError as error:
        raise TextError(f"not valid JSON: {error}") from None
    return document


def variable(name: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """The value of an environment variable, without line ends behind it; None if it is not set.

    Raises:
        TextError: it is not text in UTF-8.
    """
    if name not in environ:
        return None
    return decode(os.fsencode(environ[name])).rstrip("\r\n")


def secret(text: str) -> str:
    """The secret in a text: its first line, without the line end. Spaces are part of it.

    Raises:
        TextError: it is too long, or holds control characters. The message does not hold the secret.
    """
    first = next(iter(lines(text)), "")
    if (size := len(first.encode())) > MAX_SECRET:
        raise TextError(f"{size} bytes: at most {MAX_SECRET} can be sent")
    for place, character in enumerate(first, 1):
        if (character < _SPACE and character != _TAB) or character == _DELETE:
            raise TextError(f"the control character {printable(character)} at place {place}")
    return first
