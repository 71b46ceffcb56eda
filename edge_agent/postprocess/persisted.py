"""A small JSON document of a pipeline that outlasts a restart, and that it can do without."""

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.system import atomic_file
from edge_agent.system.text import parse_json, read_file

log = logging.getLogger(__name__)

_MAX_FILE = 100_000


def read(file: Path | None) -> dict[str, Any]:
    """The document; empty if there is none, or none that can be read."""
    document: Any = None
    if file is not None:
        with contextlib.suppress(OSError, ValueError):
            document = parse_json(read_file(file, _MAX_FILE))
    return document if isinstance(document, dict) else {}


def write(file: Path | None, document: Mapping[str, Any], name: str, what: str) -> None:
    """Replaces the document as a whole; a disk that refuses it is a line in the log.

    Args:
        file: None: nowhere.
        document: to write.
        name: of the pipeline.
        what: it keeps, for the message: "the totals of its lines".
    """
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_file.write(file, json.dumps(document).encode())
    except OSError as error:
        log.warning("%s: %s can't be kept across a restart: %s", name, what, error)
