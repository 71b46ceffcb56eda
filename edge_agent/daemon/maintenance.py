"""The remote commands `reload`, `restart`, `logs` and `doctor`, each where `remote_commands.allow` names it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_agent.daemon.command_request import Command
from edge_agent.errors import EdgeAgentError
from edge_agent.settings import RemoteCommands
from edge_agent.system import logs

LINES, MAX_LINES = 50, 200
DOCTOR_WITHIN = 120.0
MAX_REPORT = 200_000
# Seconds after the start of the agent within which no command restarts it: else a loop of them would keep it down.
RESTART_AFTER = 60.0


def commands_of(
    options: RemoteCommands, config_file: Path, reload: Callable[[], None], started: float
) -> dict[str, Command]:
    """The commands that are allowed, by name.

    Args:
        options: which.
        config_file: that the agent runs with.
        reload: requests a reload of it.
        started: when the agent was started, on the monotonic clock.
    """

    def reload_requested(_: Mapping[str, Any]) -> Mapping[str, Any]:
        reload()
        return {"requested": True}

    def restart(_: Mapping[str, Any]) -> Mapping[str, Any]:
        if "NOTIFY_SOCKET" not in os.environ:
            raise EdgeAgentError("restart: the agent is not run by systemd, so nothing would start it again")
        if (left := started + RESTART_AFTER - time.monotonic()) > 0:
            raise EdgeAgentError(f"restart: the agent has just been started: possible in {left:.0f} s")
        os.kill(os.getpid(), signal.SIGTERM)  # an end in order, after the answer has been sent
        return {"requested": True}

    def last_lines(request: Mapping[str, Any]) -> Mapping[str, Any]:
        count = request.get("lines", LINES)
        if not 1 <= count <= MAX_LINES:
            raise EdgeAgentError(f"lines: expected a number from 1 to {MAX_LINES}, found {count}")
        return {"lines": logs.RECENT.last(count)}

    def doctor(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"report": examine(config_file)}

    known = {
        "reload": Command(reload_requested, {}),
        "restart": Command(restart, {}),
        "logs": Command(last_lines, {"lines": int}),
        "doctor": Command(doctor, {}, slow=True),
    }
    return {name: known[name] for name in options.allow}


def examine(config_file: Path) -> dict[str, Any]:
    """What `edge-agent doctor --json` prints, in a process of its own.

    Raises:
        EdgeAgentError: it did not end in time, or has printed something else.
    """
    program = [sys.executable, "-m", "edge_agent", "doctor", "--json", "-c", str(config_file)]
    environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter, without a shell
            program, capture_output=True, timeout=DOCTOR_WITHIN, check=False, env=environment, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EdgeAgentError(f"doctor: {error}") from None
    try:
        report: dict[str, Any] = json.loads(done.stdout) if len(done.stdout) <= MAX_REPORT else {}
    except ValueError:
        report = {}
    if not report:
        raise EdgeAgentError(f"doctor: no report of up to {MAX_REPORT} bytes, exit code {done.returncode}")
    return report
