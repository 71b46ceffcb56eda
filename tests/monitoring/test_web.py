"""The HTTP server under clients that are slow on purpose."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from edge_agent.monitoring import bounded_server
from edge_agent.monitoring.hosts import guarded
from edge_agent.monitoring.web import THREADS, Web
from tests.broker import PATIENCE, free_port, wait_until

LARGE = bytes(30_000_000)


class App:
    """Answers at once, but for `/wait`, which waits for `go`, and `/large`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.waiting = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/wait":
            self.waiting += 1
            self.go.wait(20)
        body = LARGE if environ["PATH_INFO"] == "/large" else b"ok"
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body[at : at + 1_000_000] for at in range(0, len(body), 1_000_000)]


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def port(app: App) -> Iterator[int]:
    port = free_port()
    web = Web(app, f"127.0.0.1:{port}", "http.listen", "http")
    web.start()
    yield port
    app.go.set()
    web.stop()


def get(port: int, path: str = "/", host: str = "localhost") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status
    finally:
        connection.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def test_many_connections_that_send_a_byte_now_and_then_keep_nobody_out(port: int) -> None:
    slow = []
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            slow.append(stack.enter_context(connect(port)))
            slow[-1].sendall(b"GET / HTTP/1.1\r\nHost: local")
        for path in ("/healthz", "/", "/healthz", "/"):
            for client in slow:
                with contextlib.suppress(OSError):
                    client.sendall(b"h")
            began = time.monotonic()
            assert get(port, path) == 200
            assert time.monotonic() - began < 2 * PATIENCE


def is_closed(client: socket.socket) -> bool:
    client.settimeout(0.02)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHo"])
def test_a_request_has_to_end_before_its_deadline_however_it_trickles(
    begun: bytes, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_server, "REQUEST_DEADLINE", 0.3)
    with connect(port) as client:
        client.sendall(begun)

        def closed() -> bool:
            if begun:
                with contextlib.suppress(OSError):
                    client.sendall(b"s")
            return is_closed(client) if begun or get(port) == 200 else False

        wait_until(closed, 10, "it is closed")


def test_a_connection_between_two_requests_stays(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_server, "REQUEST_DEADLINE", 0.05)
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    kept.request("GET", "/")
    kept.getresponse().read()
    first = kept.sock
    until = time.monotonic() + 1.3  # longer than two looks at all connections
    wait_until(lambda: get(port) == 200 and time.monotonic() > until, 10, "time passes")
    kept.request("GET", "/")
    assert kept.getresponse().read() == b"ok"
    assert kept.sock is first
    kept.close()


def test_clients_that_take_no_answer_do_not_keep_the_threads(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_server, "ANSWER_DEADLINE", 0.3)
    with contextlib.ExitStack() as stack:
        for _ in range(THREADS):
            client = stack.enter_context(connect(port))
            client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert get(port) == 200


def test_health_is_told_while_all_threads_are_busy(port: int, app: App) -> None:
    busy = [threading.Thread(target=get, args=(port, "/wait")) for _ in range(THREADS + 1)]
    for thread in busy:
        thread.start()
    wait_until(lambda: app.waiting == THREADS, 10, "all threads are busy")
    assert get(port, "/healthz") == 200
    app.go.set()
    for thread in busy:
        thread.join()


def test_who_is_being_answered_is_not_put_out_by_others(port: int, app: App) -> None:
    found: list[int] = []
    asking = threading.Thread(target=lambda: found.append(get(port, "/wait")))
    asking.start()
    wait_until(lambda: app.waiting == 1, 10, "it is worked on")
    with contextlib.ExitStack() as stack:
        for _ in range(3 * bounded_server.MOST_CONNECTIONS):
            stack.enter_context(connect(port)).sendall(b"G")
        assert get(port) == 200
        app.go.set()
        asking.join()
    assert found == [200]


@pytest.mark.parametrize(
    ("host", "status"), [("localhost:9464", 200), ("10.0.0.7", 200), ("pi.lan", 200), ("evil.example", 403), ("", 403)]
)
def test_only_names_of_this_machine_are_answered(host: str, status: int, app: App) -> None:
    port = free_port()
    web = Web(guarded(app, ["pi.lan"], "metrics.hosts"), f"127.0.0.1:{port}", "metrics.listen", "metrics")
    web.start()
    try:
        assert get(port, "/metrics", host) == status
    finally:
        web.stop()
