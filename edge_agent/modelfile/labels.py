"""Label files: one label a line, in the order of the model's outputs, or each with the number of its class."""

from collections.abc import Sequence
from pathlib import Path

from edge_agent.errors import ModelError
from edge_agent.system.text import TextError, lines, read_text
from edge_agent.system.units import counted

MAX_FILE_SIZE = 4_000_000
MAX_CLASS = 99_999
# Names of COCO's classes, and the classes of models that keep its numbers.
_COCO = ((80, 90), (80, 91))
# Behind the number of a numbered list.
_SEPARATORS = " \t:,"


def read_labels(path: Path) -> tuple[str, ...]:
    """Reads a label file.

    Raises:
        ModelError: not a readable text file.
    """
    try:
        content = read_text(path, MAX_FILE_SIZE)
    except TextError as error:
        raise ModelError(f"labels {path}: {error}: expected a text file in UTF-8, one label a line") from None
    except (OSError, ValueError) as error:  # ValueError: a name with U+0000 in it
        raise ModelError(f"labels {path}: can't be read: {getattr(error, 'strerror', error)}") from None
    return parse_labels(content)


def parse_labels(text: str) -> tuple[str, ...]:
    """The labels in a text.

    In a numbered list (`16 cat`), the number is that of the class, and not part of the label. Classes that a numbered
    list leaves out have their number as their label.
    """
    found = [line.strip() for line in lines(text.rstrip())]
    numbered = _numbered([line for line in found if line])
    if numbered is None:
        return tuple(found)
    return tuple(numbered.get(number, str(number)) for number in range(max(numbered) + 1))


def _numbered(found: Sequence[str]) -> dict[int, str] | None:
    """Class -> label of a numbered list; None where the numbers are part of the labels, as in `5 euro`, `10 euro`."""
    numbered: dict[int, str] = {}
    for line in found:
        digits = line[: len(line) - len(line.lstrip("0123456789"))]
        label = line[len(digits) :].lstrip(_SEPARATORS)
        separated = len(label) < len(line) - len(digits)
        if not (digits and separated and label and len(digits) <= len(str(MAX_CLASS))):
            return None
        if numbered.setdefault(int(digits), label) is not label:
            return None
    # Names may repeat where a class is not in use: `n/a`, `???`.
    names = [label for label in numbered.values() if any(map(str.isalnum, label)) and label.lower() != "n/a"]
    return numbered if numbered and len(set(names)) == len(names) else None


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
    # Classes that a numbered list leaves out have their number as their label.
    left_out = [label for number, label in enumerate(labels) if label == str(number)]
    if len(labels) == classes + 1 and left_out == ["0"]:
        hint = ": its numbers begin at 1: number its lines from 0, or remove the numbers"
    elif len(labels) > classes and 0 < len(left_out) < len(labels):
        hint = f": its numbers go up to {len(labels) - 1}: if its lines are in the order of the classes, remove them"
    elif len(labels) == classes + 1:
        hint = f": if the first line ({labels[0]!r}) is a background class, this model has none: remove the line"
    elif len(labels) == classes - 1:
        hint = ": if class 0 is a background class, put a first line `background` into the file"
    elif (len(labels), classes) in _COCO:
        hint = ": COCO numbers its 80 classes up to 90, with gaps: give the list that has a line for each number"
    raise ModelError(f"labels {where}: {counted(len(labels), 'label')} for {classes} classes{hint}")
