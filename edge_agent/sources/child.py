"""A program that is run for its output: started, read from, and ended with everything that it has started itself."""

import logging
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from edge_agent.errors import SourceError
from edge_agent.sources.video import without_credentials
from edge_agent.system.terminal import printable

log = logging.getLogger(__name__)

# So long, at most, it goes unnoticed that a quiet program is not wanted any more.
_LOOK_UP_MS = 200
# So long, at most, its end goes unnoticed.
_LOOK_AT_END_MS = 20
# From SIGTERM to SIGKILL.
GRACE = 2.0
_CHUNK = 65536
_MAX_SAID, _LONG_ENOUGH = 400, 4096  # characters told of a line, and bytes among which addresses are looked for
_SAID_BURST, _SAID_SECONDS = 10, 10.0
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s'\"<>]+")
# What programs need to find their files, their sound server and, on phones, Android. Nothing else of ours: the
# environment may hold passwords.
_ENVIRONMENT = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|XDG_RUNTIME_DIR|PULSE_SERVER|ALSA_CONFIG_\w+|PREFIX|LD_PRELOAD"
    r"|LD_LIBRARY_PATH|TERMUX_\w+|ANDROID_\w+|BOOTCLASSPATH|DEX2OATBOOTCLASSPATH|EXTERNAL_STORAGE"
)
# Outlives us if we are killed, and then ends the program's process group: the pipe breaks that it reads from. A line
# from us means that there is nothing left to end.
_WATCH = 'read -r _ || { kill -s TERM -- "-$1" && sleep 2 && kill -s KILL -- "-$1"; } 2>/dev/null'


class Child:
    """One run of a program, in a process group of its own.

    Args:
        argv: the program and its arguments.
        folder: where it is run; what a path of a program is relative to.
        name: for messages.

    Raises:
        SourceError: it can't be started.
    """

    def __init__(self, argv: Sequence[str], folder: Path, name: str) -> None:
        program = str(folder / argv[0]) if "/" in argv[0] else argv[0]
        environment = {key: value for key, value in os.environ.items() if _ENVIRONMENT.fullmatch(key)}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - to run what the configuration says is what this is for
                [program, *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise SourceError(f"{name}: there is no program {argv[0]}: install it, or give its path") from None
        except OSError as error:
            raise SourceError(f"{name}: can't be started: {error.strerror}") from None
        try:
            self._watch = subprocess.Popen(  # noqa: S603 - a script and a number of ours
                ["sh", "-c", _WATCH, "sh", str(self._process.pid)],  # noqa: S607 - where `sh` is differs on phones
                stdin=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError:
            self._signal(signal.SIGKILL)
            raise
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        assert self._process.stderr is not None  # noqa: S101 - it is a pipe
        self._out = self._process.stdout.fileno()
        self._open = {self._out, self._process.stderr.fileno()}
        self._errors = _Errors(name)
        self._stopped = False

    def read(self, over: Callable[[], bool]) -> Iterator[bytes]:
        """What it writes, as it comes, until it closes its output, or `over` says that it is enough."""
        while not over() and self._out in self._open:
            yield from self._come(_LOOK_UP_MS)

    def stop(self, patience: float = 0.0) -> int | None:
        """Ends it, and everything that it has started itself. Once is enough.

        Args:
            patience: seconds in which it may still end by itself.

        Returns:
            The exit code with which it ended by itself, or minus the signal that ended it; None if it did not.
        """
        if self._stopped:
            return None
        self._stopped = True
        self._wait(patience)
        by_itself = self._process.poll()
        self._signal(signal.SIGTERM)
        self._wait(GRACE)
        self._signal(signal.SIGKILL)  # whatever of the group is left
        self._process.wait()
        self._watch.communicate(b"\n")
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        return by_itself

    def _come(self, milliseconds: int) -> Iterator[bytes]:
        """What comes within this time to its output; what comes to its standard error goes to the log."""
        poller = select.poll()
        for descriptor in self._open:
            poller.register(descriptor, select.POLLIN)
        for descriptor, _ in poller.poll(milliseconds):
            data = os.read(descriptor, _CHUNK)
            if not data:
                self._open.discard(descriptor)
            if descriptor != self._out:
                self._errors.take(data)
            elif data:
                yield data

    def _wait(self, seconds: float) -> None:
        """Waits for its end. It may still write: one that can't be rid of its output might never look at signals."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            for _ in self._come(_LOOK_AT_END_MS):
                pass

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


class _Errors:
    """What a program writes to its standard error, line by line into our log: not too long, not too often."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rest = b""
        self._since = 0.0
        self._said = 0

    def take(self, data: bytes) -> None:
        """Takes what has come; nothing, at its end."""
        *lines, self._rest = re.split(rb"[\r\n]+", self._rest + data)
        if self._rest and (not data or len(self._rest) > _CHUNK):
            lines, self._rest = [*lines, self._rest], b""
        for line in filter(None, map(bytes.strip, lines)):
            self._say(line)

    def _say(self, line: bytes) -> None:
        now = time.monotonic()
        if now - self._since > _SAID_SECONDS:
            if self._said > _SAID_BURST:
                log.info("%s: (%d more lines, left out)", self._name, self._said - _SAID_BURST)
            self._since, self._said = now, 0
        self._said += 1
        if self._said <= _SAID_BURST:
            text = _URL.sub(lambda match: without_credentials(match[0]), line[:_LONG_ENOUGH].decode(errors="replace"))
            log.info("%s: %s", self._name, printable(text[:_MAX_SAID]))
