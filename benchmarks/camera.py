"""A camera on the network: a JPEG thirty times a second over HTTP, as `multipart/x-mixed-replace`."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

FPS = 30


class Camera:
    """Serves until it is closed; a context manager.

    Args:
        folder: its frames, JPEG files that are shown again and again.

    Attributes:
        url: to open it at.
        sent: when each frame was sent over the latest connection, seconds since the epoch.
    """

    def __init__(self, folder: Path) -> None:
        camera = self
        self.sent: list[float] = []
        self._jpegs = [file.read_bytes() for file in sorted(folder.iterdir())]
        self._closed = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.serve(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/camera.mjpg"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """One connection, for as long as it stands."""
        self.sent = []
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        due = time.monotonic()
        try:
            while not self._closed.wait(max(0.0, due - time.monotonic())):
                due += 1 / FPS
                jpeg = self._jpegs[len(self.sent) % len(self._jpegs)]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.sent.append(time.time())
                request.wfile.write(head.encode() + jpeg + b"\r\n")
        except OSError:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
