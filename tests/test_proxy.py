import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.proxy import Proxy


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65536):
                self.request.sendall(data)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with Proxy(server.server_address[1]) as proxy:
            yield proxy
        server.shutdown()
        thread.join()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def ends(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_it_passes_on(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"


def test_it_delays(proxy: Proxy) -> None:
    proxy.delay = 0.2
    with connect(proxy) as connection:
        began = time.monotonic()
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        assert time.monotonic() - began > 0.4


def test_it_cuts(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        connection.sendall(b"hello")
        connection.recv(100)
        proxy.cut()
        assert ends(connection)


def test_it_cuts_in_the_middle(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        connection.sendall(b"hello")
        connection.recv(100)
        proxy.cut_after(3)
        connection.sendall(b"hello")
        assert ends(connection) or connection.recv(100) in (b"", b"el")


def test_it_half_opens_and_passes_on_later_what_came_meanwhile(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        proxy.freeze()
        connection.sendall(b"hello")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        proxy.thaw()
        connection.settimeout(5)
        assert connection.recv(100) == b"hello"


def test_it_accepts_and_says_nothing(proxy: Proxy) -> None:
    proxy.mode = "silent"
    with connect(proxy) as connection:
        connection.sendall(b"hello")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(100)


def test_it_refuses(proxy: Proxy) -> None:
    proxy.mode = "refuse"
    with connect(proxy) as connection:
        assert ends(connection)
