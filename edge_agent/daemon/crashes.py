"""What happens after an exception that nothing handles: a traceback in the log, and the end of the process.

A thread that ends unnoticed leaves an agent that looks alive and does nothing, so the process ends with it, at once and
with exit code 1, and the service manager starts it again. The broker publishes the last will, unacknowledged inputs are
delivered again, and a version of a model that is on trial is counted as a suspect (`update.store`).

Covered are the main thread and all threads of `threading`: those of this package, its timers, and those that libraries
start that way. Not covered, on purpose, are exceptions that a library catches around a callback of ours: waitress
answers a request that fails with status 500, asyncio logs a task of the embedded broker that fails, and paho-mqtt has
no threads of its own here (`mqtt.connection` runs its loop, and connects again after an exception). Threads of native
libraries run no Python; when they crash, `faulthandler` writes what every thread was doing.
"""

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
from types import TracebackType

log = logging.getLogger(__name__)

FAILED = 1


def install() -> None:
    """Ends the process after any unhandled exception; SIGUSR1 writes the stacks of all threads to standard error."""
    threading.excepthook = _thread_failed
    sys.excepthook = _main_thread_failed
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # standard error is closed, or is no file
        # A descriptor of its own, never closed: the usual one is replaced while a runtime is kept from writing to it.
        descriptor = os.dup(sys.stderr.fileno())
        faulthandler.enable(descriptor)
        faulthandler.register(signal.SIGUSR1, descriptor)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is None or isinstance(failure.exc_value, SystemExit):  # which ends a thread in order
        return
    _end(failure.thread.name if failure.thread is not None else "a thread", failure.exc_value)


def _main_thread_failed(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    _end("main", error)


def _end(thread: str, error: BaseException) -> None:
    try:
        log.critical("thread %s: a defect in edge-agent: the process ends", thread, exc_info=error)
    finally:
        os._exit(FAILED)  # no clean-up, which could wait for the thread that has ended
