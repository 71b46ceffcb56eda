"""podman as an ordinary user, with containers of its own in a folder that is thrown away.

Started as root, tests are run as the first user who has subordinate numbers (/etc/subuid): rootless is what is tested.
"""

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

PROGRAMS = ("podman", "mmdebstrap", "newuidmap", "ip")
# crun refuses a system on which both versions of cgroups are in use.
RUNTIME = "runc" if Path("/sys/fs/cgroup/unified").exists() else "crun"
TIMEOUT_S = 1800.0


def _ordinary_user() -> pwd.struct_passwd | None:
    subordinate = Path("/etc/subuid")
    names = {line.partition(":")[0] for line in subordinate.read_text().splitlines()} if subordinate.exists() else set()
    if os.geteuid() == 0:
        return next((user for user in pwd.getpwall() if user.pw_name in names and user.pw_uid), None)
    own = pwd.getpwuid(os.geteuid())
    return own if own.pw_name in names else None


class Podman:
    """podman of an ordinary user; a context manager.

    Attributes:
        folder: the user's own, below which files for containers belong.
    """

    def __enter__(self) -> Self:
        user = _ordinary_user()
        if missing := [name for name in (*PROGRAMS, RUNTIME) if shutil.which(name) is None]:
            pytest.skip(f"needs {', '.join(missing)}: apt-get install podman mmdebstrap uidmap iproute2 {RUNTIME}")
        if user is None:
            pytest.skip("needs an ordinary user with subordinate numbers: adduser")
        self._user = user
        self.folder = Path(tempfile.mkdtemp(prefix="edge-agent-podman-", dir="/var/tmp"))
        settings = self.folder / ".config" / "containers"
        settings.mkdir(parents=True)
        (self.folder / "run").mkdir(mode=0o700)
        (settings / "storage.conf").write_text('[storage]\ndriver = "overlay"\n')
        engine = f'[engine]\nruntime = "{RUNTIME}"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        (settings / "containers.conf").write_text(engine)
        self.own(self.folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run("podman", "rm", "--force", "--all", "--time", "0")
        self.run("podman", "unshare", "rm", "-rf", self.folder / ".local")
        shutil.rmtree(self.folder, ignore_errors=True)

    def own(self, *paths: Path) -> None:
        """Gives files, and what is in folders, to the user."""
        for path in paths:
            for one in (path, *path.rglob("*")):
                os.chown(one, self._user.pw_uid, self._user.pw_gid)

    def command(self, *command: str | Path) -> list[str]:
        """A command as the user."""
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        environment = [f"HOME={self.folder}", f"XDG_RUNTIME_DIR={self.folder}/run", path, "LANG=C.UTF-8"]
        become = ["runuser", "-u", self._user.pw_name, "--"] if os.geteuid() == 0 else []
        return [*become, "env", "-i", *environment, *map(str, command)]

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs a command as the user, in the folder."""
        return subprocess.run(
            self.command(*command), cwd=self.folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )

    def do(self, *command: str | Path) -> str:
        """Runs a command as the user, and returns what it prints; it must not fail."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    def inspect(self, name: str) -> Any:
        """What podman knows of an image or a container."""
        return json.loads(self.do("podman", "inspect", name))[0]
