"""Label files: one label a line, in the order of the model's outputs."""

import re
from collections.abc import Sequence
from pathlib import Path

from edge_agent.errors import ModelError

MAX_FILE_SIZE = 4_000_000
_LINE_END = re.compile(r"\r\n|\n|\r")
_NUMBERED = re.compile(r"(\d+)[\s:,]+(\S.*)")


def read_labels(path: Path) -> tuple[str, ...]:
    """Reads a label file; the numbers of a numbered list (`0 person`) are removed.

    Raises:
        ModelError: not a readable text file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_SIZE + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with U+0000 in it
        raise ModelError(f"labels {path}: can't be read: {getattr(error, 'strerror', error)}") from None
    if len(content) > MAX_FILE_SIZE:
        raise ModelError(f"labels {path}: larger than {MAX_FILE_SIZE} bytes: not a label file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ModelError(f"labels {path}: not a text file in UTF-8: save it as one") from None
    # Not splitlines(), which also splits at characters that no editor shows as line ends.
    lines = [line.strip() for line in _LINE_END.split(text.rstrip())] if text.strip() else []
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(match and int(match[1]) == index for index, match in enumerate(numbered)):
        return tuple(match[2] for match in numbered if match)
    return tuple(lines)


def check_count(labels: Sequence[str], classes: int, where: str) -> None:
    """Checks that there is a label for each class.

    Args:
        labels: of the file.
        classes: number of classes of the model.
        where: the labels come from, for the error message.

    Raises:
        ModelError: there are more or fewer; with their numbers and the likely cause.
    """
    if len(labels) == classes:
        return
    hint = ""
    if len(labels) == classes + 1:
        hint = f": if the first line ({labels[0]!r}) is a background class, this model has none: remove the line"
    elif len(labels) == classes - 1:
        hint = ": if class 0 is a background class, put a first line `background` into the file"
    raise ModelError(f"labels {where}: {len(labels)} labels for {classes} classes{hint}")
