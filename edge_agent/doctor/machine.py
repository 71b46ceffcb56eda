"""The machine that the checks examine, a real one or one that a test has made up, and their findings."""

import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_agent.config.loader import Config
from edge_agent.settings import Mqtt
from edge_agent.system.text import decode_lenient

State = Literal["ok", "warning", "failure"]
MAX_READ = 65_536
# Seconds. Loading a runtime from a slow SD card takes long.
PROGRAM_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        text: what was found.
        fix: the command that fixes it; "" for `ok`.
    """

    state: State
    text: str
    fix: str = ""


def ok(text: str) -> Finding:
    """A finding without a problem."""
    return Finding("ok", text)


def warning(text: str, fix: str) -> Finding:
    """A finding with which the agent runs, but not as well as it could."""
    return Finding("warning", text, fix)


def failure(text: str, fix: str) -> Finding:
    """A finding that something required does not work."""
    return Finding("failure", text, fix)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended: its exit code (negative: the signal, None: not in time), and what it wrote."""

    code: int | None
    out: str
    err: str

    @property
    def reason(self) -> str:
        """Why it failed, in one line."""
        if self.code is None:
            return f"does not end within {PROGRAM_TIMEOUT:g} s"
        if self.code < 0:
            return f"crashes (signal {-self.code})"
        return next((line.strip() for line in reversed(self.err.splitlines()) if line.strip()), "fails")


def _groups() -> frozenset[int]:
    return frozenset({*os.getgroups(), os.getegid()})


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may run as a user id without a name
        return str(os.geteuid())


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, as one of its users sees it.

    Attributes:
        root: the folder that holds /sys, /dev and /etc.
        environ: the environment; its PATH is searched for programs.
        python_path: folders that are searched for packages.
        user: name of the user.
        groups: ids of the groups of this session.
        may_use: whether this user may read and write a file.
        file: the configuration file; None if none was given.
        config: the configuration; None if there is none or it is invalid.
        problems: why it is invalid.
        mqtt: options of the broker; None if none was named.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    python_path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    user: str = field(default_factory=_user)
    groups: frozenset[int] = field(default_factory=_groups)
    may_use: Callable[[Path], bool] = lambda path: os.access(path, os.R_OK | os.W_OK)
    file: Path | None = None
    config: Config | None = None
    problems: tuple[str, ...] = ()
    mqtt: Mqtt | None = None

    def path(self, absolute: str) -> Path:
        """A path below the root."""
        return self.root / absolute.lstrip("/")

    def seen(self, path: Path) -> str:
        """The absolute path, on the machine, of a path below the root."""
        return f"/{path.relative_to(self.root)}"

    def read(self, absolute: str | Path, limit: int = MAX_READ) -> str:
        """The text of a file, up to `limit` bytes; "" if it can't be read."""
        try:
            with self.path(str(absolute)).open("rb") as file:
                return decode_lenient(file.read(limit)).strip("\0 \r\n")
        except OSError:
            return ""

    def attribute(self, folder: Path, name: str) -> str:
        """The text of a file in a folder below the root; "" if it can't be read."""
        return self.read(self.seen(folder / name))

    def group_name(self, number: int) -> str:
        """The name of a group; its id if it has none."""
        names = {fields[2]: fields[0] for fields in self._groups() if len(fields) > len(("name", "password"))}
        return names.get(str(number), str(number))

    def is_member(self, group: str) -> bool:
        """Whether the user is in a group, even if this session was opened before and does not have it."""
        return any(fields[0] == group and self.user in fields[-1].split(",") for fields in self._groups())

    def _groups(self) -> list[list[str]]:
        return [line.split(":") for line in self.read("/etc/group").splitlines()]

    def run(self, *command: str, further: Mapping[str, str] | None = None) -> Ran:
        """Runs a program; it is killed after `PROGRAM_TIMEOUT`.

        Raises:
            OSError: the program can't be started.
        """
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter, or a camera tool, without a shell
                command,
                env={**self.environ, **(further or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROGRAM_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Ran(None, "", "")
        return Ran(done.returncode, decode_lenient(done.stdout), decode_lenient(done.stderr))

    def python(self, code: str, *arguments: str) -> Ran:
        """Runs Python code in a process of its own, so that a native library may crash or hang there."""
        path = {"PYTHONPATH": os.pathsep.join(part for part in self.python_path if part)}
        return self.run(sys.executable, "-P", "-c", code, *arguments, further=path)
