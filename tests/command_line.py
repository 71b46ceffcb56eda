"""`edge-agent` as a process of its own, as somebody at a terminal runs it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).parents[1]
TIMEOUT_S = 60.0 * float(os.environ.get("EDGE_AGENT_TEST_PATIENCE", "1"))


def command(*arguments: str | Path) -> list[str]:
    """The command line for the checkout that the tests are in."""
    return [sys.executable, "-m", "edge_agent", *(str(argument) for argument in arguments)]


def environment(further: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for it; how wide this terminal is does not matter."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return {**inherited, "PYTHONPATH": str(PROJECT), **(further or {})}


def edge_agent(
    *arguments: str | Path, cwd: Path, further_environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Runs it to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(further_environment),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
