"""Limits of the system: each one is one sentence that names it, at the start, at a reload and while it runs."""

import errno
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.models.shipped import shipped
from edge_agent.system import limits, logs
from tests.broker import Mosquitto, wait_until
from tests.daemon_process import Daemon, configuration

MODEL = {"m": {"path": str(shipped("digits"))}}


def pipelines(count: int) -> dict[str, Any]:
    return {
        f"p{number}": {"model": "m", "source": {"type": "mqtt", "topic": f"in/{number}"}} for number in range(count)
    }


def run(folder: Path, limit: Callable[[], None], count: int = 1) -> tuple[int, str]:
    """Exit code and output of a start under a limit."""
    file = folder / "agent.yaml"
    file.write_text(
        yaml.safe_dump(configuration("mqtt://127.0.0.1:9", "limited", models=MODEL, pipelines=pipelines(count)))
    )
    command = [sys.executable, "-m", "edge_agent", "run", "-c", str(file)]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def limited(kind: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (value, value))


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [(resource.RLIMIT_NOFILE, 40, "RLIMIT_NOFILE"), (resource.RLIMIT_AS, 400_000_000, "RLIMIT_AS")],
)
def test_a_start_under_too_low_a_limit_is_one_sentence(tmp_path: Path, kind: int, value: int, name: str) -> None:
    code, output = run(tmp_path, limited(kind, value), count=41)
    assert code == 1
    [line] = output.splitlines()
    assert name in line


@pytest.mark.parametrize("threads", [1, 6])
def test_too_few_threads_are_one_sentence(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # the limit does not hold for root
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (threads, threads))
    with pytest.raises(limits.LimitError, match="RLIMIT_NPROC"):
        limits.check_threads(8, "the agent")
    limits.check_threads(threads, "the agent")


def test_more_sources_than_the_network_loop_has_room_for_are_refused() -> None:
    with pytest.raises(limits.LimitError, match="1024"):
        limits.check_files(2000, "the agent")


def test_a_reload_that_needs_more_files_is_refused_and_what_ran_goes_on(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Daemon(tmp_path, configuration(mosquitto, "limited", models=MODEL, pipelines=pipelines(1))) as daemon:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (40, 40))
        daemon.configure(configuration(mosquitto, "limited", models=MODEL, pipelines=pipelines(41)))
        daemon.reload()
        assert "RLIMIT_NOFILE" in daemon.log()
        assert "keeping the old one" in daemon.log()
        # Fewer than are needed for a new connection: it is said, and tried again.
        mosquitto.stop()
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (8, 40))
        mosquitto.start()
        wait_until(lambda: "RLIMIT_NOFILE: 8" in daemon.log(), 20, "the limit is named")
        before = daemon.log().count("connected to")
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (40, 40))
        wait_until(lambda: daemon.log().count("connected to") > before, 30, "it connects again")
    assert "defect" not in daemon.log()
    assert "Traceback" not in daemon.log()


EXPLAINED: list[tuple[BaseException, str]] = [
    (OSError(errno.EMFILE, "Too many open files"), "RLIMIT_NOFILE"),
    (OSError(errno.ENFILE, "Too many open files in system"), "fs.file-max"),
    (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "RLIMIT_NPROC"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "no more memory"),
    (RuntimeError("can't start new thread"), "RLIMIT_NPROC"),
    (MemoryError(), "no more memory"),
    (ImportError("libx.so: failed to map segment from shared object"), "no more memory"),
]


@pytest.mark.parametrize(("error", "name"), EXPLAINED)
def test_what_a_limit_leads_to_is_explained_and_logged_without_a_traceback(error: BaseException, name: str) -> None:
    assert name in limits.explained(error)
    failure = (type(error), error, None)
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, f"%s: {logs.DEFECT}: trying again", ("porch",), failure)
    assert logs._Limits().filter(record)
    assert record.exc_info is None
    assert name in record.getMessage()
    assert record.getMessage().startswith("porch: ")
    assert logs.DEFECT not in record.getMessage()


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), RuntimeError("x"), ValueError("x")])
def test_other_exceptions_are_no_limits(error: BaseException) -> None:
    assert limits.explained(error) == ""
    assert "internal error" in limits.in_words(error)
