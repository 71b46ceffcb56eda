"""A process for work that may crash, hang or take all memory: a module of this package, and messages to and from it.

The parent makes a `WorkerProcess`; in the process, `main(channel)` of the module runs. A message is anything that JSON
can hold. Nothing is unpickled, and what the module prints does not get among the messages.
"""

import contextlib
import fcntl
import importlib
import json
import logging
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Self

from edge_agent.system.text import decode_lenient

log = logging.getLogger(__name__)

# Bytes of a message. A prompt of a language model has up to 1 MB, and each of its characters may be escaped.
MAX_MESSAGE = 16_000_000
# Seconds for which a message may stop halfway: it is larger than the buffer, and the other side does not go on.
STALL_TIMEOUT = 25.0
# Seconds between two calls of the caller while a message is waited for.
WAITING_EVERY = 0.5
# Characters of the last line of standard error that an error quotes.
MAX_LAST_LINE = 200

# The process imports what its parent would import; -P: not what happens to lie in the current folder.
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from edge_agent.system.worker_process import run
from edge_agent.system.text import decode_lenient
run(*sys.argv[2:])
"""
# Another interpreter has packages of its own; of ours, it can import this one alone.
_START_ELSEWHERE = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
folder = sys.argv[1]
spec = spec_from_file_location("edge_agent", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["edge_agent"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["edge_agent"])
from edge_agent.system.worker_process import run
run(*sys.argv[2:])
"""
_PACKAGE = Path(__file__).parents[1]


class WorkerHungError(Exception):
    """The process gave no answer in time, and has been killed.

    Attributes:
        seconds: for which it was waited.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer for {seconds:g} s")
        self.seconds = seconds


class WorkerEndedError(Exception):
    """The process has ended; as text: the signal or the exit code, and the last line of its standard error.

    Attributes:
        signal: name of the signal that ended it; empty if it ended by itself.
    """

    def __init__(self, code: int, last_line: str) -> None:
        self.signal = next((one.name for one in signal.Signals if one == -code), f"signal {-code}") if code < 0 else ""
        how = self.signal or f"exit code {code}"
        super().__init__(f"{how}: {last_line}" if last_line else how)


class Channel:
    """JSON messages over a connection, in both directions."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._readable = select.poll()  # an order of magnitude faster than `Connection.poll`
        self._readable.register(connection, select.POLLIN)

    def send(self, message: Any) -> None:
        """Sends a message.

        Raises:
            OSError: the other side has closed the connection; BlockingIOError: it does not read.
        """
        self._connection.send_bytes(json.dumps(message).encode())

    def receive(self) -> Any:
        """The next message; waits for it.

        Raises:
            EOFError: the other side has closed the connection.
            OSError: the message is longer than `MAX_MESSAGE`, or stops halfway.
        """
        return json.loads(self._connection.recv_bytes(MAX_MESSAGE))

    def has_message(self, timeout: float = 0.0) -> bool:
        """Whether `receive` would return, or raise, at once; waits for that for up to `timeout` seconds."""
        return bool(self._readable.poll(timeout * 1000))


class WorkerProcess:
    """The parent's side. It ends when this object does, and when this process does, whatever it is doing.

    One thread at a time may send and receive; `kill` may be called by any.

    Args:
        module: has the function `main(channel)`.
        pass_fds: descriptors that the process gets under the same numbers.
        keep_stderr: whether what it writes to standard error is kept for error messages; else it goes where that of
            this process goes.
        interpreter: another Python than this one, at least 3.11; there, the module and what it imports of this
            package must need no package that this interpreter lacks.

    Attributes:
        pid: of the process.

    Raises:
        OSError: it can't be started.
    """

    def __init__(
        self, module: str, *, pass_fds: Sequence[int] = (), keep_stderr: bool = False, interpreter: str = sys.executable
    ) -> None:
        connection, theirs = Pipe()
        lifeline, self._lifeline = Pipe(duplex=False)  # nothing is written to it: the process ends when it closes
        _bound_stalls(connection.fileno())
        self._stderr = None
        if keep_stderr:
            self._stderr = os.memfd_create("stderr")  # there may be no disk to write to
            weakref.finalize(self, os.close, self._stderr)
        output = 2 if self._stderr is None else self._stderr  # some runtimes write to standard output as well
        ends = (theirs.fileno(), lifeline.fileno())
        own = interpreter == sys.executable
        start = (_START, json.dumps(sys.path)) if own else (_START_ELSEWHERE, str(_PACKAGE))
        self._process = subprocess.Popen(  # noqa: S603 - this program itself
            [interpreter, "-P", "-c", *start, module, *map(str, ends)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(*ends, *pass_fds),
            start_new_session=True,  # a Ctrl-C is for its parent
        )
        self._end = weakref.finalize(self, _end, self._process)
        theirs.close()
        lifeline.close()
        self._channel = Channel(connection)
        self.pid = self._process.pid
        self._module = module
        log.debug("%s: started as process %d", module, self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def alive(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.poll() is None

    def send(self, message: Any) -> None:
        """Sends a message; it need not have been read when this returns.

        Raises:
            WorkerEndedError: the process has ended.
            WorkerHungError: it does not read its messages.
        """
        try:
            self._channel.send(message)
        except BlockingIOError:
            raise self._hung(STALL_TIMEOUT) from None
        except OSError:
            raise self._ended() from None

    def receive(self, timeout: float, waiting: Callable[[], None] = lambda: None) -> Any:
        """The next message.

        Args:
            timeout: seconds in which it must come.
            waiting: called about twice a second meanwhile; what it raises is passed on.

        Raises:
            WorkerEndedError: the process has ended, or sent what is no message.
            WorkerHungError: nothing came in time.
        """
        deadline = time.monotonic() + timeout
        while not self._channel.has_message(min(WAITING_EVERY, max(0.0, deadline - time.monotonic()))):
            waiting()
            if time.monotonic() >= deadline:
                raise self._hung(timeout)
        try:
            return self._channel.receive()
        except BlockingIOError:
            raise self._hung(STALL_TIMEOUT) from None
        except (EOFError, OSError, ValueError):
            raise self._ended() from None

    def kill(self) -> None:
        """Ends the process and all that it has started, whatever it is doing."""
        self._end()

    def _hung(self, seconds: float) -> WorkerHungError:
        self.kill()
        return WorkerHungError(seconds)

    def _ended(self) -> WorkerEndedError:
        self.kill()
        error = WorkerEndedError(self._process.wait(), "" if self._stderr is None else _last_line(self._stderr))
        log.debug("%s: process %d has ended: %s", self._module, self.pid, error)
        return error


def _bound_stalls(descriptor: int) -> None:
    """Bounds how long the kernel waits for the other side in the middle of a message."""
    with socket.socket(fileno=os.dup(descriptor)) as end:
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            wide = len(end.getsockopt(socket.SOL_SOCKET, option, 16)) == 16  # noqa: PLR2004 - a `struct timeval`
            end.setsockopt(socket.SOL_SOCKET, option, struct.pack("=qq" if wide else "=ii", int(STALL_TIMEOUT), 0))


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.returncode is None:  # until it has been waited for, its number belongs to no other process group
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(file: int) -> str:
    size = os.fstat(file).st_size
    text = decode_lenient(os.pread(file, 4 * MAX_LAST_LINE, max(0, size - 4 * MAX_LAST_LINE)))
    return next((line.strip()[:MAX_LAST_LINE] for line in reversed(text.split("\n")) if line.strip()), "")


def run(module: str, channel: str, lifeline: str) -> None:
    """The process itself: runs `main(channel)` of a module; the other arguments are numbers of descriptors."""
    for descriptor in (channel, lifeline):
        os.set_inheritable(int(descriptor), False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    parent: Connection[Any, Any] = Connection(int(lifeline))
    _end_with(parent)
    to_parent = Channel(Connection(int(channel)))  # open to the end: the parent kills a process that has closed it
    code = 0
    try:
        importlib.import_module(module).main(to_parent)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has gone
    except BaseException:  # noqa: BLE001 - its traceback is printed, as Python would
        traceback.print_exc()
        code = 1
    os._exit(code)  # without tidying up what a broken model has left in memory


def _end_with(parent: "Connection[Any, Any]") -> None:
    """Has the kernel kill this process when the other end of a pipe closes, be it in the middle of a native call.

    PR_SET_PDEATHSIG would kill it as soon as the thread ends that has started it.
    """
    fcntl.fcntl(parent, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(parent, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(parent, fcntl.F_SETFL, fcntl.fcntl(parent, fcntl.F_GETFL) | os.O_ASYNC)
    if parent.poll():  # it has closed already
        os._exit(1)
