"""A worker process that does what each message says: the name of one of these functions, and its argument."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from edge_agent.system.worker_process import MAX_MESSAGE, Channel


def echo(value: Any) -> Any:
    return value


def write(lines: list[str]) -> None:
    for line in lines:
        print(line)
        print(line, file=sys.stderr)
    sys.stdout.flush()


def end_with(code: int) -> None:
    os._exit(code)


def end_by(number: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(os.getpid(), number)


def fail(text: str) -> None:
    raise RuntimeError(text)


def hang(kind: str) -> None:
    """Does not come back; `natively`: without giving Python's lock back."""
    if kind == "natively":
        ctypes.PyDLL(None).sleep(1000)
    time.sleep(1000)


def descriptors(_: None) -> dict[int, str]:
    found = {}
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the folder itself
            found[int(file.name)] = str(file.readlink())
    return found


def read_from(descriptor: int) -> str:
    return os.pread(descriptor, 100, 0).decode()


def limits(_: None) -> dict[str, Any]:
    return {"session": os.getsid(0), "pid": os.getpid(), "path": sys.path}


def start_child(_: None) -> int:
    return subprocess.Popen(["sleep", "1000"]).pid


def large(size: int) -> str:
    return "x" * size


def too_large(_: None) -> str:
    return "x" * MAX_MESSAGE


def main(channel: Channel) -> None:
    while True:
        name, argument = channel.receive()
        if name == "return":
            break
        if name == "half":
            os.write(argument, b"\0\0\1\0half of it")
        else:
            channel.send(globals()[name](argument))
