"""A small HTTP server in threads of its own: waitress, with limits on connections, sizes and times."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from edge_agent.errors import EdgeAgentError, MissingExtraError
from edge_agent.settings.monitoring import split_address

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application (https://peps.python.org/pep-3333/)."""

THREADS = 2
# Those that wait for answers of language models. Pipelines refuse what is too much for them long before.
CHAT_THREADS = 16
# Seconds after which a connection without traffic is closed.
IDLE_TIMEOUT = 30
MAX_HEADERS, MAX_BODY = 16_384, 65_536
# Of a conversation. It is kept in memory.
MAX_CHAT = 256_000


class WebError(EdgeAgentError):
    """An address can't be bound."""


class Web:
    """Serves an application at an address, from `start` to `stop`; requests before that wait.

    Args:
        app: the application.
        address: `HOST:PORT`.
        key: of the configuration, for messages.
        extra: the extra of the package that installs the server.
        before: serves the same address until now; both accept connections until it is stopped.
        chats: whether language models can be asked, which takes larger requests, and longer.

    Raises:
        MissingExtraError: the server is not installed.
        WebError: the address can't be bound.
    """

    def __init__(
        self, app: App, address: str, key: str, extra: str, before: "Web | None" = None, *, chats: bool = False
    ) -> None:
        try:
            from edge_agent.monitoring.bounded_server import BoundedServer
        except ImportError as error:
            raise MissingExtraError(f"serving {key.partition('.')[0]}", extra, error) from None
        self.key, self.address = key, address
        # waitress logs a warning for each request that waits for a thread.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self.listener: socket.socket = _listen(address, key) if before is None else before.listener.dup()
        self._connections: dict[int, Any] = {}
        self._server = BoundedServer(
            app,
            self.listener,
            self._connections,
            THREADS,
            CHAT_THREADS if chats else 0,
            channel_timeout=IDLE_TIMEOUT,
            max_request_header_size=MAX_HEADERS,
            max_request_body_size=MAX_CHAT if chats else MAX_BODY,
            channel_request_lookahead=int(chats),  # else it is not seen that a client has gone
            ident=None,
            clear_untrusted_proxy_headers=True,
        )
        self._thread = threading.Thread(target=self._server.run, name=key, daemon=True)

    def start(self) -> None:
        """Starts to answer requests."""
        self._thread.start()

    def close(self) -> None:
        """Releases the address; for a server that is not started."""
        self._server.close()
        self._server.shutdown()
        self.listener.close()

    def stop(self) -> None:
        """Closes all connections and releases the address."""
        from waitress.wasyncore import close_all

        with contextlib.suppress(OSError):  # another wake-up has run it already, and closed the trigger too
            self._server.trigger.pull_trigger(lambda: close_all(self._connections, ignore_all=True))
        self._thread.join(1.0)
        self._server.shutdown()
        self.listener.close()


def _listen(address: str, key: str) -> socket.socket:
    host, port = split_address(address)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise WebError(f"{key}: {address} can't be listened at: {error.strerror}: choose another address") from None
    return listener
