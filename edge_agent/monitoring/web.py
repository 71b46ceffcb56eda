"""A small HTTP server in threads of its own: waitress, which bounds what a client can hold up."""

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from edge_agent.errors import EdgeAgentError, MissingExtraError
from edge_agent.settings.monitoring import split_address

if TYPE_CHECKING:
    from waitress.server import TcpWSGIServer

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application (https://peps.python.org/pep-3333/)."""

THREADS = 2
# Further ones wait to be let in.
MOST_CONNECTIONS = 32
# A connection without traffic is closed after so many seconds.
IDLE_TIMEOUT = 30
MAX_REQUEST = 16_384
# The loop is woken by what happens; nothing has to be looked at in between.
LOOP_TIMEOUT = 30.0


class WebError(EdgeAgentError):
    """An address can't be listened at."""


class Web:
    """Serves an application at an address, from `start` to `stop`; whoever asks before that waits.

    Args:
        app: the application.
        address: `HOST:PORT`.
        key: of the configuration, for messages.
        extra: the optional part of edge-agent that brings the server.

    Raises:
        MissingExtraError: the server is not installed.
        WebError: the address can't be listened at.
    """

    def __init__(self, app: App, address: str, key: str, extra: str) -> None:
        try:
            from waitress.server import create_server
        except ImportError:
            raise MissingExtraError(f"serving {key.partition('.')[0]}", extra) from None
        self.key, self.address = key, address
        # It warns of each request that has to wait for a thread.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._listener = _listen(address, key)
        self._connections: dict[int, Any] = {}
        self._server: TcpWSGIServer = create_server(
            app,
            map=self._connections,
            sockets=[self._listener],
            threads=THREADS,
            connection_limit=MOST_CONNECTIONS,
            channel_timeout=IDLE_TIMEOUT,
            max_request_header_size=MAX_REQUEST,
            max_request_body_size=MAX_REQUEST,
            asyncore_loop_timeout=LOOP_TIMEOUT,
            asyncore_use_poll=True,
            ident=None,
            clear_untrusted_proxy_headers=True,
        )
        self._thread = threading.Thread(target=self._server.run, name=key, daemon=True)

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Closes all connections and lets go of the address."""
        from waitress.wasyncore import close_all

        self._server.trigger.pull_trigger(lambda: close_all(self._connections, ignore_all=True))
        self._thread.join(1.0)
        self._server.task_dispatcher.shutdown(timeout=1)
        self._listener.close()


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
