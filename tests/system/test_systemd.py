import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.system import systemd


@pytest.fixture(params=["file", "abstract"])
def service_manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """What systemd listens on, both kinds of it."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name if request.param == "file" else f"\0{name}")
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name if request.param == "file" else f"@{name}")
        yield listening


def received(listening: socket.socket) -> str:
    return listening.recv(65536).decode()


def fill(sending: socket.socket) -> None:
    for _ in range(100_000):
        sending.send(b"x")


def test_each_state_is_one_datagram(service_manager: socket.socket) -> None:
    systemd.notify_ready()
    assert received(service_manager) == "READY=1"
    systemd.notify_stopping()
    assert received(service_manager) == "STOPPING=1"
    systemd.notify_watchdog()
    assert received(service_manager) == "WATCHDOG=1"


def test_reloading_carries_the_monotonic_time(service_manager: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    systemd.notify_reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    first, second = received(service_manager).split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= after


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("2 pipelines, 5.0 results/s", "STATUS=2 pipelines, 5.0 results/s"),
        ("größer", "STATUS=größer"),
        ("a\nREADY=1\r\0\u2028b", "STATUS=a READY=1   b"),
        ("\ud800", "STATUS= "),
        ("x" * 1_000_000, "STATUS=" + "x" * 200),
    ],
)
def test_the_status_is_one_bounded_line(service_manager: socket.socket, text: str, line: str) -> None:
    systemd.notify_status(text)
    assert received(service_manager) == line


@pytest.mark.parametrize("address", ["", "/no/such/socket", "@no-such-name", "vsock:2:1", "/" + "x" * 200])
def test_without_a_listening_service_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.notify_ready()
    monkeypatch.delenv("NOTIFY_SOCKET")
    systemd.notify_ready()


def test_a_service_manager_that_reads_nothing_holds_nothing_up(service_manager: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        flood.connect(service_manager.getsockname())
        with pytest.raises(BlockingIOError):
            fill(flood)
    sending = threading.Thread(target=systemd.notify_watchdog, daemon=True)
    sending.start()
    sending.join(10)
    assert not sending.is_alive()


def test_without_a_file_left_to_open_nothing_happens(service_manager: socket.socket) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        systemd.notify_status("busy")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    systemd.notify_ready()
    assert received(service_manager) == "READY=1"


@pytest.mark.parametrize(
    ("limit_us", "pid", "interval_s"),
    [
        ("30000000", "this process", 15.0),
        ("30000000", None, 15.0),
        ("30000000", "another process", None),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_the_watchdog_interval_is_half_the_limit_of_this_process(
    monkeypatch: pytest.MonkeyPatch, limit_us: str | None, pid: str | None, interval_s: float | None
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if limit_us is not None:
        monkeypatch.setenv("WATCHDOG_USEC", limit_us)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() if pid == "this process" else os.getppid()))
    assert systemd.watchdog_interval() == interval_s
