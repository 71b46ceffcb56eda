"""A web server on loopback that serves one file, well or badly."""

import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Request(BaseHTTPRequestHandler):
    """One GET request, and the means to answer it."""

    server: "FileServer"
    protocol_version = "HTTP/1.1"

    @property
    def offset(self) -> int:
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    def do_GET(self) -> None:
        self.close_connection = True
        answers, seen = self.server.answers, self.server.requests
        seen.append((self.path, self.offset))
        answers[min(len(seen), len(answers)) - 1](self)

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


Answer = Callable[[Request], None]


class FileServer(ThreadingHTTPServer):
    """Serves `content` under any path.

    Args:
        content: the file.
        answers: how the first, the second, … request is answered; the last one answers all that follow.
        tls: with it, it serves https.

    Attributes:
        requests: path and first byte asked for, of each request.
    """

    def __init__(self, content: bytes, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.content = content
        self.answers = answers or (in_ranges,)
        self.requests: list[tuple[str, int]] = []
        self.stopping = threading.Event()
        if tls:
            # The handshake is then part of the request's own thread, which also cleans up when it fails.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if tls else 'http'}://localhost:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopping.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what some tests are about."""


def in_ranges(request: Request) -> None:
    """As a good server does."""
    content, offset = request.server.content, request.offset
    if offset:
        full = f"bytes {offset}-{len(content) - 1}/{len(content)}"
        request.head(206, Content_Length=len(content) - offset, Content_Range=full)
    else:
        request.head(200, Content_Length=len(content))
    request.wfile.write(content[offset:])


def in_parts(length: int, *, total: bool = True) -> Answer:
    """Sends at most so many bytes at a time, as a server may; `total`: says how long the whole is."""

    def answer(request: Request) -> None:
        content, offset = request.server.content, request.offset
        part = content[offset : offset + length]
        of = len(content) if total else "*"
        headers = {"Content_Length": len(part), "Content_Range": f"bytes {offset}-{offset + len(part) - 1}/{of}"}
        request.head(206, **headers)
        request.wfile.write(part)

    return answer


def whole(request: Request) -> None:
    """As a server does that knows no ranges."""
    request.head(200, Content_Length=len(request.server.content))
    request.wfile.write(request.server.content)


def without_length(request: Request) -> None:
    request.head(200)
    request.wfile.write(request.server.content)


def cut_after(length: int) -> Answer:
    """Breaks off after so many bytes."""

    def answer(request: Request) -> None:
        content, offset = request.server.content, request.offset
        request.head(
            206 if offset else 200,
            Content_Length=len(content) - offset,
            Content_Range=f"bytes {offset}-{len(content) - 1}/{len(content)}",
        )
        request.wfile.write(content[offset : offset + length])

    return answer


def stall_after(length: int) -> Answer:
    """Says nothing more after so many bytes, and keeps the connection."""

    def answer(request: Request) -> None:
        cut_after(length)(request)
        request.wfile.flush()
        request.server.stopping.wait(60)

    return answer


def other_range(request: Request) -> None:
    content = request.server.content
    request.head(206, Content_Length=10, Content_Range=f"bytes 0-9/{len(content)}")
    request.wfile.write(content[:10])


def status(code: int, **headers: object) -> Answer:
    return lambda request: request.head(code, Content_Length=0, **headers)
