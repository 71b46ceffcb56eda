"""An HTTP proxy on loopback, as companies have one between their network and the internet."""

import base64
import http.client
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit


class HttpProxy:
    """Passes requests on: plain ones, and with CONNECT encrypted ones.

    Args:
        login: `USER:PASSWORD` that it wants; empty: none.

    Attributes:
        targets: what it was asked for: an address, or `HOST:PORT` to connect to.
    """

    def __init__(self, login: str = "") -> None:
        self.targets: list[str] = []
        proxy = self
        wanted = f"Basic {base64.b64encode(login.encode()).decode()}" if login else None

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self._accepted():
                    parts = urlsplit(self.path)
                    passed = {key: value for key, value in self.headers.items() if not key.startswith("Proxy-")}
                    upstream = http.client.HTTPConnection(parts.netloc, timeout=10)
                    upstream.request("GET", parts.path or "/", headers=passed)
                    answer = upstream.getresponse()
                    body = answer.read()
                    self.send_response(answer.status)
                    for key, value in answer.getheaders():
                        self.send_header(key, value)
                    self.end_headers()
                    self.wfile.write(body)
                    answer.close()
                    upstream.close()

            def do_CONNECT(self) -> None:
                if self._accepted():
                    host, _, port = self.path.rpartition(":")
                    with socket.create_connection((host, int(port)), 10) as upstream:
                        self.send_response(200)
                        self.end_headers()
                        _exchange(self.connection, upstream)

            def _accepted(self) -> bool:
                self.close_connection = True
                if wanted is not None and self.headers.get("Proxy-Authorization") != wanted:
                    self.send_response(407)
                    self.end_headers()
                    return False
                proxy.targets.append(self.path)
                return True

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _exchange(one: socket.socket, other: socket.socket) -> None:
    while True:
        for source in select.select([one, other], [], [], 10)[0]:
            data = source.recv(65536)
            if not data:
                return
            (other if source is one else one).sendall(data)
