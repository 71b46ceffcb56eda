"""A stand-in of Home Assistant's ingress: what its Core and the Supervisor do with a request on its way to an add-on.

After https://developers.home-assistant.io/docs/apps/presentation#ingress and what both do: the path prefix is removed,
headers of connections and of users are replaced, `Host` stays the browser's.
"""

import contextlib
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

PREFIX = "/api/hassio_ingress/AbC-123_x"
USER = "ann"
NOT_PASSED_ON = {"content-length", "content-encoding", "transfer-encoding", "connection"}
# What a browser that shows an add-on finds around it.
FRAME = f'<!doctype html><title>Home</title><iframe src="{PREFIX}/"></iframe>'.encode()


class Ingress:
    """The proxy, on loopback; a context manager. Its root shows the add-on in a frame.

    Args:
        upstream: port of the add-on, on loopback.

    Attributes:
        prefix: of the paths of the add-on.
        strays: paths outside of it that were asked for.
    """

    prefix = PREFIX

    def __init__(self, upstream: int) -> None:
        self.strays: list[str] = []
        ingress = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/":
                    self._answer(200, {"Content-Type": "text/html"}, FRAME)
                elif not self.path.startswith(f"{PREFIX}/"):
                    ingress.strays.append(self.path)
                    self._answer(404, {}, b"")
                else:
                    with contextlib.suppress(ConnectionError):  # the browser has gone on, or the page has ended
                        self._pass_on()

            def do_POST(self) -> None:
                self.do_GET()

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                passed = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in NOT_PASSED_ON and not name.lower().startswith("x-remote-user-")
                }
                own = {
                    "X-Ingress-Path": PREFIX,
                    "X-Forwarded-For": self.client_address[0],
                    "X-Forwarded-Host": self.headers["Host"],
                    "X-Forwarded-Proto": "http",
                    "X-Remote-User-Id": "0123456789abcdef",
                    "X-Remote-User-Name": USER,
                    "X-Remote-User-Display-Name": USER.title(),
                }
                with contextlib.closing(HTTPConnection("127.0.0.1", upstream, timeout=20)) as connection:
                    connection.request(self.command, self.path.removeprefix(PREFIX), body, passed | own)
                    answer = connection.getresponse()
                    kept = {name: value for name, value in answer.headers.items() if name.lower() not in NOT_PASSED_ON}
                    self._answer(answer.status, kept, answer.read())

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
