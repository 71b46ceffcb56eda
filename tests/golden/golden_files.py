"""Golden files: what another version has put out, held against what this one puts out.

They are recorded again, by this checkout or by another one, with

    EDGE_AGENT_RECORD_GOLDEN=PATH_OF_A_CHECKOUT python -m pytest tests/golden

The tests start edge-agent as a process only, so the checkout that it comes from may be another than theirs. Review the
difference (`git diff tests/golden`) before it is committed: it is a change of the public interface.
"""

import difflib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parent
PROJECT = FOLDER.parents[1]
RECORD_FROM = os.environ.get("EDGE_AGENT_RECORD_GOLDEN")
# Of the processes: the package comes from there, and not from the folder that they are started in.
ENVIRONMENT = {"PYTHONPATH": str(Path(RECORD_FROM or PROJECT).absolute()), "PYTHONSAFEPATH": "1"}


def edge_agent(*arguments: str | Path, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command of edge-agent to its end."""
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | ENVIRONMENT | variables,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def check(name: str, text: str, approximated: Callable[[str], str] | None = None) -> None:
    """Compares a text with the golden file of that name, or records it.

    Args:
        name: of the file.
        text: what is put out now.
        approximated: the same text with what may differ a little taken from the one on record, its argument.

    Raises:
        AssertionError: they differ; it shows where.
    """
    file = FOLDER / name
    if RECORD_FROM:
        file.write_text(text)
    expected = file.read_text()
    if approximated is not None:
        text = approximated(expected)
    difference = difflib.unified_diff(expected.splitlines(), text.splitlines(), name, "now", lineterm="", n=2)
    assert text == expected, "\n".join(difference)
