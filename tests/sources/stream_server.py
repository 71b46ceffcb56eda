"""An MJPEG camera on the network: `multipart/x-mixed-replace` over HTTP, with every way in which one can fail."""

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import cv2
import numpy as np

from tests.broker import free_port

FRAME_EVERY_S = 0.01


class StreamServer:
    """Serves pictures that all differ, 100 a second, to whoever asks, until told otherwise.

    Attributes:
        sent: number of pictures sent so far, over all connections; picture n shows n as its colour and pattern.
        connections: how many have been accepted so far.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/camera.mjpg"
        self.sent = 0
        self.connections = 0
        self._playing = threading.Event()
        self._playing.set()
        self._frozen = False
        self._alive = True
        self._open: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        stage = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stage._serve(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class calls it
                pass

        self._alive = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def die(self) -> None:
        """As when power fails: every connection breaks, new ones are refused. `start` brings it back."""
        self._alive = False
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Connections stand, and nothing comes any more."""
        self._playing.clear()

    def freeze(self) -> None:
        """The same picture again and again."""
        self._frozen = True

    def play(self) -> None:
        """All is well again."""
        self._frozen = False
        self._playing.set()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        self.connections += 1
        self._open.add(request.connection)
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        try:
            while self._alive:
                if self._playing.wait(FRAME_EVERY_S):
                    request.wfile.write(self._part())
                    threading.Event().wait(FRAME_EVERY_S)
        except OSError:
            pass
        finally:
            self._open.discard(request.connection)

    def _part(self) -> bytes:
        if not self._frozen:
            self.sent += 1
        picture = np.full((48, 64, 3), self.sent % 251, np.uint8)
        picture[:, : self.sent % 64] ^= 255
        encoded, jpeg = cv2.imencode(".jpg", picture)
        assert encoded
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        return head.encode() + jpeg.tobytes() + b"\r\n"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
