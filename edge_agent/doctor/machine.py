"""What the checks look at, this machine or one that a test has made up, and what they find."""

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

State = Literal["ok", "warning", "failure"]
MAX_READ = 65_536
# Loading a runtime from a slow card takes its time.
PROGRAM_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        text: what was found.
        fix: the command that fixes it; "" where nothing is to be fixed.
    """

    state: State
    text: str
    fix: str = ""


def ok(text: str) -> Finding:
    """As it should be."""
    return Finding("ok", text)


def warning(text: str, fix: str) -> Finding:
    """The agent runs, but something may be less good than it could be."""
    return Finding("warning", text, fix)


def failure(text: str, fix: str) -> Finding:
    """Something that is wanted does not work."""
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
    except KeyError:  # as in a container that was started with a number for a user
        return str(os.geteuid())


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as a user of it sees it.

    Attributes:
        root: above /sys, /dev, /etc.
        environ: the environment, with the PATH where programs are looked for.
        python_path: where packages are looked for.
        user: name of the user.
        groups: numbers of the groups that this session has.
        may_use: whether this user may read and write a file.
        file: the configuration file; None if none was given.
        config: what it holds; None if there is none or it can't be used.
        problems: why it can't be used.
        mqtt: the broker; None if none was named.
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
        """A path below the root as the machine itself has it."""
        return f"/{path.relative_to(self.root)}"

    def read(self, absolute: str | Path, limit: int = MAX_READ) -> str:
        """The text of a file, at most so many bytes of it; "" where it can't be read."""
        try:
            with self.path(str(absolute)).open("rb") as file:
                return file.read(limit).decode(errors="replace").strip("\0 \n")
        except OSError:
            return ""

    def attribute(self, folder: Path, name: str) -> str:
        """The text of a file in a folder below the root; "" where it can't be read."""
        return self.read(self.seen(folder / name))

    def group_name(self, number: int) -> str:
        """The name of a group; its number where it has none."""
        names = {fields[2]: fields[0] for fields in self._groups() if len(fields) > len(("name", "password"))}
        return names.get(str(number), str(number))

    def is_member(self, group: str) -> bool:
        """Whether the user is in a group, which a session that is older than the membership does not know."""
        return any(fields[0] == group and self.user in fields[-1].split(",") for fields in self._groups())

    def _groups(self) -> list[list[str]]:
        return [line.split(":") for line in self.read("/etc/group").splitlines()]

    def run(self, *command: str, further: Mapping[str, str] | None = None) -> Ran:
        """Runs a program to its end, or to its deadline.

        Raises:
            OSError: it can't be started.
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
        return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def python(self, code: str, *arguments: str) -> Ran:
        """Runs Python code in a process of its own, which a crash or a hang in a native library stays inside of."""
        path = {"PYTHONPATH": os.pathsep.join(part for part in self.python_path if part)}
        return self.run(sys.executable, "-P", "-c", code, *arguments, further=path)
