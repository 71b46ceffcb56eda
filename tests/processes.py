"""Processes of which only the number is known."""

from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process exists and has not ended, if perhaps its parent has not noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
