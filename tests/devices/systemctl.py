#!/usr/bin/python3
"""A stand-in for systemctl where systemd can't run: one service, run as its unit says, ready when it says so.

Knows User, SupplementaryGroups, StateDirectory, WorkingDirectory, LoadCredential, ExecStart; restarts nothing.
"""

import contextlib
import grp
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

NAME = "edge-agent.service"
OF_ADMINISTRATOR = Path("/etc/systemd/system")
UNITS = [OF_ADMINISTRATOR / NAME, Path("/usr/lib/systemd/system") / NAME]  # the first that exists counts
ENABLED = OF_ADMINISTRATOR / "multi-user.target.wants" / NAME
RUN = Path("/run/edge-agent-service")
STATE = Path("/var/lib/edge-agent")
CREDENTIALS = Path("/run/credentials/edge-agent.service")
NOBODY_READY = 3
START_TIMEOUT_S = 300  # TimeoutStartSec of the unit


def settings() -> dict[str, list[str]]:
    """The unit and what is dropped in beside it: key -> values, an empty one discards those before it."""
    found: dict[str, list[str]] = {}
    unit = next(unit for unit in UNITS if unit.exists())
    for file in [unit, *sorted((OF_ADMINISTRATOR / f"{NAME}.d").glob("*.conf"))]:
        for line in file.read_text().splitlines():
            key, is_setting, value = line.partition("=")
            if is_setting and not key.startswith("#"):
                found[key] = [*found.get(key, []), value] if value else []
    return found


def pid() -> int | None:
    """The service's process, if it lives."""
    try:
        number = int((RUN / "pid").read_text())
        alive = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, ValueError):
        return None
    return number if alive else None


def stop() -> None:
    """SIGTERM, and SIGKILL after ten seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if (process := pid()) is not None:
            os.kill(process, number)
        until = time.monotonic() + 10
        while pid() is not None and time.monotonic() < until:
            time.sleep(0.05)


def start() -> int:
    """Starts the service and waits until it says that it is ready; returns the exit code."""
    unit = settings()
    user = unit["User"][-1]
    for folder in (RUN, STATE, CREDENTIALS):
        folder.mkdir(parents=True, exist_ok=True)
    for name, _, secret in (value.partition(":") for value in unit.get("LoadCredential", [])):
        shutil.copy(secret, CREDENTIALS / name)
    for path in (STATE, CREDENTIALS, *CREDENTIALS.iterdir()):
        shutil.chown(path, user, user)
        path.chmod(0o700 if path.is_dir() else 0o400)
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with contextlib.suppress(FileNotFoundError):
        (RUN / "notify").unlink()
    notified.bind(str(RUN / "notify"))
    (RUN / "notify").chmod(0o666)
    notified.settimeout(0.2)
    environment = {
        "PATH": "/usr/bin:/bin",
        "NOTIFY_SOCKET": str(RUN / "notify"),
        "STATE_DIRECTORY": str(STATE),
        "CREDENTIALS_DIRECTORY": str(CREDENTIALS),
    } | {name: value for name, value in os.environ.items() if name == "QEMU_CPU"}
    with (RUN / "log").open("a") as log:
        process = subprocess.Popen(
            unit["ExecStart"][-1].split(),
            user=user,
            group=user,
            extra_groups=[grp.getgrnam(name).gr_gid for name in " ".join(unit["SupplementaryGroups"]).split()],
            env=environment,
            cwd=unit["WorkingDirectory"][-1],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (RUN / "pid").write_text(str(process.pid))
    until = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(TimeoutError):
            if b"READY=1" in notified.recv(4096).split(b"\n"):
                return 0
    return 1


def main(command: str) -> int:
    """Does one command of systemctl's."""
    match command:
        case "restart":
            stop()
            return start()
        case "is-active":
            return 0 if pid() is not None else NOBODY_READY
        case "is-enabled":
            print("enabled" if ENABLED.is_symlink() else "disabled")
        case "enable":
            ENABLED.parent.mkdir(parents=True, exist_ok=True)
            if not ENABLED.is_symlink():
                ENABLED.symlink_to(next(unit for unit in UNITS if unit.exists()))
        case "disable":
            ENABLED.unlink(missing_ok=True)
            stop()
        case "stop":
            stop()
        case "show":
            print(f"LoadState=loaded\nActiveState={'active' if pid() is not None else 'inactive'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(next(argument for argument in sys.argv[1:] if not argument.startswith("-"))))
