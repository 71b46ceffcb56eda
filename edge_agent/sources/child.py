"""Runs a program for its output: starts it, reads from it, and ends it together with its child processes."""

import logging
import os
import re
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from edge_agent.errors import SourceError
from edge_agent.system.address import without_credentials
from edge_agent.system.terminal import printable
from edge_agent.system.text import decode_lenient
from edge_agent.system.units import counted

log = logging.getLogger(__name__)

# How often a quiet program is checked for `over`, and a stopping program for its end.
_POLL_MS, _POLL_AT_END_MS = 200, 20
# Seconds from SIGTERM to SIGKILL.
GRACE = 2.0
_CHUNK = 65536
# Of a line on standard error: characters that are logged, and bytes that are searched for credentials.
_MAX_LOGGED, _MAX_SEARCHED = 400, 4096
# At most this many lines are logged in this many seconds.
_MAX_LINES, _LINES_SECONDS = 10, 10.0
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s'\"<>]+")
# Variables that programs need to find their files, their sound server and, on phones, Android. No others are passed on:
# the environment may hold passwords.
_ENVIRONMENT = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|XDG_RUNTIME_DIR|PULSE_SERVER|ALSA_CONFIG_\w+|PREFIX|LD_PRELOAD"
    r"|LD_LIBRARY_PATH|TERMUX_\w+|ANDROID_\w+|BOOTCLASSPATH|DEX2OATBOOTCLASSPATH|EXTERNAL_STORAGE"
)
# Marks all that a program starts, directly or not: what has left the process group (a daemon that forks twice) is found
# by its environment. PR_SET_CHILD_SUBREAPER would find it as well, but make the agent the parent of every orphan.
_MARK = "EDGE_AGENT_RUN"
# How often what is found is killed: something may start another process meanwhile.
_MAX_SEARCHES = 10
# Leads the process group that the program joins. It outlives the agent if that is killed, and then ends the group and
# what has left it: the pipe that it reads from breaks. A line on the pipe means that there is nothing left to end.
_GUARD = f"""
trap '' TERM
read -r _ && exit
kill -s TERM 0
sleep 2
for file in $(grep -lsF "{_MARK}=${_MARK}" /proc/[0-9]*/environ); do
    file=${{file#/proc/}}
    [ "${{file%%/*}}" = $$ ] || kill -s KILL "${{file%%/*}}"
done
kill -s KILL 0
"""


class Child:
    """One run of a program, in a process group of its own.

    Args:
        argv: the program and its arguments.
        folder: its working directory; a relative path of the program is relative to it.
        name: for messages.
        further: words in the arguments, each of which is replaced by the path of a further output.

    Raises:
        SourceError: it can't be started.
    """

    def __init__(self, argv: Sequence[str], folder: Path, name: str, further: Sequence[str] = ()) -> None:
        pipes = [os.pipe() for _ in further]
        self._further = [reading for reading, _ in pipes]
        for word, (_, writing) in zip(further, pipes, strict=True):
            argv = [part.replace(word, f"/dev/fd/{writing}") for part in argv]
        try:
            self._start(argv, folder, name, [writing for _, writing in pipes])
        except SourceError:
            self._close_further()
            raise
        finally:
            for _, writing in pipes:
                os.close(writing)

    def _start(self, argv: Sequence[str], folder: Path, name: str, passed: Sequence[int]) -> None:
        program = str(folder / argv[0]) if "/" in argv[0] else argv[0]
        environment = {key: value for key, value in os.environ.items() if _ENVIRONMENT.fullmatch(key)}
        environment[_MARK] = uuid.uuid4().hex
        self._mark = f"{_MARK}={environment[_MARK]}".encode()
        # Before the program: whenever the agent is killed, there is somebody who ends what it has started.
        try:
            self._guard = subprocess.Popen(  # noqa: S603 - our own script
                ["sh", "-c", _GUARD],  # noqa: S607 - where `sh` is differs on phones
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=environment,
                process_group=0,
            )
        except OSError as error:
            raise SourceError(f"{name}: its guard, sh, can't be started: {error.strerror}") from None
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the configuration says what to run
                [program, *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env=environment,
                process_group=self._guard.pid,
                pass_fds=passed,
            )
        except OSError as error:
            self._guard.communicate(b"\n")
            if isinstance(error, FileNotFoundError):
                raise SourceError(f"{name}: there is no program {argv[0]}: install it, or give its path") from None
            raise SourceError(f"{name}: can't be started: {error.strerror}") from None
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        assert self._process.stderr is not None  # noqa: S101 - it is a pipe
        self._out = self._process.stdout.fileno()
        self._outputs = {descriptor: number for number, descriptor in enumerate([self._out, *self._further])}
        self._open = {*self._outputs, self._process.stderr.fileno()}
        self._errors = _Errors(name)
        self._stopped = False

    @property
    def pid(self) -> int:
        """Number of its process."""
        return self._process.pid

    def read(self, over: Callable[[], bool]) -> Iterator[bytes]:
        """The bytes that it writes, as they arrive, until it closes its output or `over` returns True."""
        while not over() and self.writes:
            yield from (data for _, data in self.receive())

    @property
    def writes(self) -> bool:
        """Whether its standard output is open."""
        return self._out in self._open

    def receive(self) -> "Iterator[tuple[int, bytes]]":
        """What arrives next, or nothing within a moment: the number of the output (0: standard output), and bytes."""
        return self._receive(_POLL_MS)

    def stop(self, patience: float = 0.0) -> int | None:
        """Ends the program and its child processes. Further calls have no effect.

        Args:
            patience: seconds in which it may still end by itself.

        Returns:
            Its exit code, or minus the number of the signal, if it ended by itself; else None.
        """
        if self._stopped:
            return None
        self._stopped = True
        self._wait(patience)
        by_itself = self._process.poll()
        self._signal(signal.SIGTERM)
        self._signal_escaped(signal.SIGTERM)
        self._wait(GRACE)
        self._signal(signal.SIGKILL)  # the rest of the group
        self._process.wait()
        self._guard.communicate(b"\n")
        for _ in range(_MAX_SEARCHES):
            if not self._signal_escaped(signal.SIGKILL):
                break
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._close_further()
        return by_itself

    def _close_further(self) -> None:
        for descriptor in self._further:
            os.close(descriptor)

    def _receive(self, milliseconds: int) -> "Iterator[tuple[int, bytes]]":
        """The output that arrives within this time: see `receive`. Standard error goes to the log."""
        poller = select.poll()
        for descriptor in self._open:
            poller.register(descriptor, select.POLLIN)
        for descriptor, _ in poller.poll(milliseconds):
            data = os.read(descriptor, _CHUNK)
            if not data:
                self._open.discard(descriptor)
            if descriptor not in self._outputs:
                self._errors.take(data)
            elif data:
                yield self._outputs[descriptor], data

    def _wait(self, seconds: float) -> None:
        """Waits for its end and discards its output meanwhile: with a full pipe, it might never handle signals."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            for _ in self._receive(_POLL_AT_END_MS):
                pass

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._guard.pid, number)

    def _signal_escaped(self, number: signal.Signals) -> bool:
        """Signals what has left the process group; returns whether there was anything."""
        found = False
        for pid in _marked(self._mark):
            with suppress(ProcessLookupError, PermissionError):
                if os.getpgid(pid) != self._guard.pid:
                    os.kill(pid, number)
                    found = True
        return found


def in_words(code: int | None) -> str:
    """How a program ended, from the result of `Child.stop`."""
    if code is None:
        return "has closed its output"
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"


def _marked(mark: bytes) -> Iterator[int]:
    """The processes with this in their environment; of other users' processes it can't be read."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is another user's
            if mark in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


class _Errors:
    """Logs a program's standard error line by line, with limits on length and rate."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rest = b""
        self._since = 0.0
        self._logged = 0

    def take(self, data: bytes) -> None:
        """Takes what has arrived; empty at the end."""
        *lines, self._rest = re.split(rb"[\r\n]+", self._rest + data)
        if self._rest and (not data or len(self._rest) > _CHUNK):
            lines, self._rest = [*lines, self._rest], b""
        for line in filter(None, map(bytes.strip, lines)):
            self._log(line)

    def _log(self, line: bytes) -> None:
        now = time.monotonic()
        if now - self._since > _LINES_SECONDS:
            if self._logged > _MAX_LINES:
                log.info("%s: (%s, left out)", self._name, counted(self._logged - _MAX_LINES, "more line"))
            self._since, self._logged = now, 0
        self._logged += 1
        if self._logged <= _MAX_LINES:
            text = _URL.sub(lambda match: without_credentials(match[0]), decode_lenient(line[:_MAX_SEARCHED]))
            log.info("%s: %s", self._name, printable(text[:_MAX_LOGGED]))
