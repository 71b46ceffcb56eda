"""A Debian 12 under a real systemd, in a container: at the speed of this machine, whose kernel and network it shares.

As root, with debootstrap and systemd-nspawn. It begins as a system that is made once; its changes are thrown away.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Self

import pytest

from tests.broker import wait_until
from tests.devices.debian import BUILD, debian

BOOT_TIMEOUT_S = 120.0
COMMAND_TIMEOUT_S = 600.0
_BOOT = (
    'mount -t overlay -o "lowerdir=$1,upperdir=changes,workdir=work" device root && '
    # No machined here to register it with; the console is not a terminal.
    "exec systemd-nspawn --quiet --register=no --keep-unit --boot --console=pipe --directory=root"
)


class Container:
    """The container; a context manager, which boots it.

    Args:
        name: of its folder under build/devices.
    """

    def __init__(self, name: str) -> None:
        if not shutil.which("systemd-nspawn"):
            pytest.skip("needs systemd-nspawn: apt-get install systemd-container")
        self._system = debian("bookworm", "amd64", "systemd-sysv", "dbus", kind="systemd")
        self._folder = BUILD / "devices" / name

    def __enter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)
        for part in ("changes", "work", "root"):
            (self._folder / part).mkdir(parents=True)
        with (self._folder / "console").open("wb") as console:
            self._holder = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "sh", "-c", _BOOT, "sh", self._system],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        try:
            self._pid = wait_until(self._systemd, BOOT_TIMEOUT_S, "systemd runs")
            up = ("running", "degraded")
            wait_until(lambda: self.says("systemctl", "is-system-running") in up, BOOT_TIMEOUT_S, "it is up")
        except BaseException:
            self._end()
            raise
        return self

    def _systemd(self) -> int:
        """The process of its systemd; 0 until that runs."""
        holder = self._holder.pid
        for child in Path(f"/proc/{holder}/task/{holder}/children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return int(child)
        return 0

    def __exit__(self, *_: object) -> None:
        # pytest shows what was printed for the tests that fail, and only for those.
        for unit in ("edge-agent", "edge-agent-update"):
            print(self.says("journalctl", "-u", unit, "-n", "100", "--no-pager"))
        self._end()

    def _end(self) -> None:
        self._holder.kill()
        self._holder.wait()
        shutil.rmtree(self._folder)

    def run(self, *command: str, given: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in it, as root."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--ipc", "--uts", "--root", "--wd"]
        done = subprocess.run(
            [*enter, *command],
            input=given,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout} {done.stderr}"
        return done

    def says(self, *command: str) -> str:
        """What a command prints in it."""
        return self.run(*command, check=False).stdout.strip()

    def put(self, source: Path, path: str) -> None:
        """Copies a file or a folder to an absolute path in it."""
        target = Path(f"/proc/{self._pid}/root{path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
