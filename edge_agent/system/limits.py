"""Limits that the system sets this process: open files, threads, memory. A limit that is hit is no defect of ours.

`explained` is the one place where the exceptions that they lead to become a sentence.
"""

import errno
import os
import resource
from pathlib import Path

from edge_agent.errors import EdgeAgentError
from edge_agent.system.text import read_attribute

# The network loop waits with select(2), which takes no descriptor from this number on.
SELECT_LIMIT = 1024
# Below this the libraries do not fit into the address space: some crash then instead of reporting it.
MIN_ADDRESS_SPACE = 600_000_000
# Main thread, outbox, connection, and one pipeline: two workers, its source.
MIN_THREADS = 6
_RAISE_FILES = "raise LimitNOFILE= of the service, or `ulimit -n`"
_RAISE_THREADS = "raise TasksMax= and LimitNPROC= of the service, or `ulimit -u`"


class LimitError(EdgeAgentError):
    """A limit of the system is too low; the message names it."""


def explained(error: BaseException) -> str:
    """Which limit has led to an exception, and how to raise it; empty if none has."""
    match error:
        case OSError(errno=errno.EMFILE):
            return f"{_of('open files', resource.RLIMIT_NOFILE, 'RLIMIT_NOFILE')}: {_RAISE_FILES}"
        case OSError(errno=errno.ENFILE):
            return "the whole system has no open file left (fs.file-max): end other programs, or raise it with sysctl"
        case OSError(errno=errno.EAGAIN) | RuntimeError(args=("can't start new thread",)):
            return f"{_of('threads and processes', resource.RLIMIT_NPROC, 'RLIMIT_NPROC')}: {_RAISE_THREADS}"
        case OSError(errno=errno.ENOMEM) | MemoryError():
            return _no_memory()
        case ImportError() if "failed to map segment" in str(error) or "cannot allocate memory" in str(error).lower():
            return _no_memory()
    return ""


def in_words(error: BaseException) -> str:
    """What to report of an exception that nothing else explains: a limit that has led to it, or an internal error."""
    return explained(error) or f"internal error: {error!r}"


def _of(what: str, kind: int, name: str) -> str:
    soft = resource.getrlimit(kind)[0]
    bound = f"{name}: {soft}" if soft != resource.RLIM_INFINITY else f"{name}: none, so it is one of the system's"
    return f"this process may have no more {what} ({bound})"


def _no_memory() -> str:
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft != resource.RLIM_INFINITY:
        why = f"its address space is limited to {soft // 1_000_000} MB (RLIMIT_AS): raise LimitAS= or `ulimit -v`"
        return f"this process gets no more memory: {why}"
    return "this process gets no more memory: use smaller models or fewer pipelines, or raise MemoryMax= of the service"


def check() -> None:
    """Refuses limits under which the agent can't start. Called before its libraries are loaded, which may crash.

    Raises:
        LimitError: the limit and what is needed.
    """
    address_space = _limit(resource.RLIMIT_AS)
    if address_space < MIN_ADDRESS_SPACE:
        needed, allowed = MIN_ADDRESS_SPACE // 1_000_000, address_space // 1_000_000
        raise LimitError(
            f"the address space is limited to {allowed} MB (RLIMIT_AS), and the runtimes reserve {needed} MB and more:"
            " raise LimitAS= or `ulimit -v`; MemoryMax= limits what is used"
        )
    check_threads(MIN_THREADS, "the agent")


def check_threads(needed: int, what: str) -> None:
    """Refuses a limit on threads that is certainly too low; those of the user's other processes count as well.

    Raises:
        LimitError: the limit and what is needed.
    """
    allowed = min(_limit(resource.RLIMIT_NPROC) if os.geteuid() else needed, _tasks_of_service() or needed)
    if needed > allowed:
        raise LimitError(
            f"{what} needs at least {needed} threads, and {allowed} threads and processes are allowed (RLIMIT_NPROC,"
            f" TasksMax): {_RAISE_THREADS}"
        )


def check_files(needed: int, what: str) -> None:
    """Refuses a limit on open files that is certainly too low.

    Raises:
        LimitError: the limit and what is needed.
    """
    soft = _limit(resource.RLIMIT_NOFILE)
    if needed > SELECT_LIMIT:
        raise LimitError(f"{what} needs at least {needed} open files, and the network loop has room for {SELECT_LIMIT}")
    if needed > soft:
        raise LimitError(
            f"{what} needs at least {needed} open files, and {soft} are allowed (RLIMIT_NOFILE): {_RAISE_FILES}"
        )


def _limit(kind: int) -> int:
    soft = resource.getrlimit(kind)[0]
    return soft if soft != resource.RLIM_INFINITY else 1 << 62


def _tasks_of_service() -> int | None:
    """The limit of the service's control group; None: none, or it can't be read."""
    try:
        path = read_attribute(Path("/proc/self/cgroup")).rpartition(":")[2]
        found = read_attribute(Path(f"/sys/fs/cgroup{path}/pids.max"))
    except OSError:
        return None
    return int(found) if found.isdigit() else None
