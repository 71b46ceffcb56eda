"""Reads image files as samples."""

import time
from pathlib import Path

from edge_agent.errors import InputError
from edge_agent.samples import Sample
from edge_agent.system import text

MAX_FILE_SIZE = 200_000_000


def read_file(path: Path) -> Sample:
    """Reads an image file. If it can't be read, the sample holds the error."""
    return Sample(_content(path), captured_at=time.time(), captured=time.monotonic(), origin={"path": str(path)})


def _content(path: Path) -> bytes | InputError:
    try:
        return text.read_file(path, MAX_FILE_SIZE, pipes=True)
    except text.TextError as error:
        return InputError(f"{path}: {error}")
    except OSError as error:
        return InputError(f"{path}: can't be read: {error.strerror}")
