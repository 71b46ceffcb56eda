"""A stand-in for systemctl: the service is a process of what is installed below $EDGE_AGENT_ROOT."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(os.environ.get("EDGE_AGENT_ROOT", "/"))
PID = ROOT / "run" / "pid"
READY_WITHIN = 90


def pid() -> int | None:
    """The service's process, if it lives."""
    try:
        number = int(PID.read_text())
        alive = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, ValueError):
        return None
    return number if alive else None


def stop() -> None:
    """SIGTERM, and SIGKILL after twenty seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if (process := pid()) is not None:
            os.kill(process, number)
        until = time.monotonic() + 20
        while pid() is not None and time.monotonic() < until:
            time.sleep(0.05)


def start() -> int:
    """Starts the service and waits until it says that it is ready; returns the exit code."""
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = f"edge-agent-service-{os.getpid()}"
    notified.bind(f"\0{address}")
    notified.settimeout(0.2)
    state = ROOT / "var" / "lib" / "edge-agent"
    with (ROOT / "log").open("a") as log:
        process = subprocess.Popen(
            [ROOT / "opt/edge-agent/current/bin/edge-agent", "run", "-c", ROOT / "etc/edge-agent/agent.yaml"],
            env=os.environ | {"NOTIFY_SOCKET": f"@{address}", "STATE_DIRECTORY": str(state)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    PID.write_text(str(process.pid))
    until = time.monotonic() + READY_WITHIN
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(TimeoutError):
            if b"READY=1" in notified.recv(4096).split(b"\n"):
                return 0
    return 1


def main(command: str) -> int:
    """Does one command of systemctl's."""
    if command == "restart":
        stop()
        return start()
    if command == "is-active":
        return 0 if pid() is not None else 3
    if command == "stop":
        stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
