"""What a bundle says about the commands that its model recognizes: the file `intents.json`."""

from pathlib import Path

from pydantic import Field

from edge_agent.config.validation import validate
from edge_agent.config.yaml_lines import Problems
from edge_agent.errors import ModelError
from edge_agent.settings.base import Frozen
from edge_agent.settings.intents import Device, Place
from edge_agent.system.text import TextError, parse_json, read_text

FILE = "intents.json"
MAX_SIZE = 200_000


class Vocabulary(Frozen):
    """The words that the model was trained with, and the names that commands may hold without a configuration."""

    words: tuple[str, ...] = Field(min_length=1, max_length=5000)
    """Words that the model knows; all others are replaced by a mark."""
    devices: tuple[Device, ...] = Field(max_length=200)
    """Devices that are usual in a home or workshop."""
    places: tuple[Place, ...] = Field(max_length=200)
    """Places."""


def read(folder: Path | None) -> Vocabulary | None:
    """The vocabulary of a bundle; None if its model does not recognize commands.

    Args:
        folder: of the bundle; None: it is none.

    Raises:
        ModelError: the file can't be read, or is wrong.
    """
    if folder is None or not (file := folder / FILE).exists():
        return None
    problems = Problems(file)
    try:
        found = validate(Vocabulary, parse_json(read_text(file, MAX_SIZE)), problems)
    except (TextError, OSError) as error:
        raise ModelError(f"{file}: {error}") from None
    if found is None:
        raise ModelError("; ".join(problems.texts()))
    return found
