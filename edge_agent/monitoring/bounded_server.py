"""waitress, with a deadline for requests and for answers, limits on connections, and health and chats apart.

waitress itself closes connections that are silent. A client that sends a byte now and then, or that reads nothing,
would keep its connection, and with a few of them everybody else out.
"""

import time
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

# Connections in all, and of one address. A further one takes the place of the one that has been asking for longest.
MOST_CONNECTIONS = 32
MOST_OF_AN_ADDRESS = 16
# Seconds from the start of a request to its end, and without a byte of an answer being taken.
REQUEST_DEADLINE = 10.0
ANSWER_DEADLINE = 10.0
# Seconds between two looks at the deadlines; without connections, only events wake the loop.
LOOK_EVERY = 1
LOOP_TIMEOUT = 30.0
HEALTH = ("/healthz", "/readyz")
CHATS = "/v1/"


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """One connection.

    Attributes:
        asking_since: when its current request began, or when it was opened.
    """

    def __init__(self, server: Any, sock: Any, addr: Any, adj: Any, map: Any = None) -> None:  # noqa: A002 - as waitress calls it
        super().__init__(server, sock, addr, adj, map=map)
        self.asking_since = self.creation_time

    def received(self, data: bytes) -> bool:
        """Takes what the client has sent."""
        if self.request is None:
            self.asking_since = time.time()
        return bool(super().received(data))

    @property
    def is_answered(self) -> bool:
        """Whether a request is worked on, or its answer sent."""
        return bool(self.requests or self.total_outbufs_len)

    def is_late(self, now: float) -> bool:
        """Whether the client takes too long, with a request or with an answer."""
        if self.total_outbufs_len:
            return bool(now - self.last_activity > ANSWER_DEADLINE)
        has_begun = self.request is not None or self.asking_since == self.creation_time
        return has_begun and not self.requests and now - self.asking_since > REQUEST_DEADLINE


class BoundedServer(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """The server of one listening socket.

    Args:
        app: a WSGI application.
        listener: the socket.
        connections: filled with what it waits for, by number of the file.
        threads: that answer requests; health has one of its own.
        chat_threads: that answer requests to language models, which take long.
        adjustments: of waitress.
    """

    channel_class = Channel

    def __init__(
        self, app: Any, listener: Any, connections: Any, threads: int, chat_threads: int, **adjustments: Any
    ) -> None:
        dispatcher, self._health, self._chats = (ThreadedTaskDispatcher() for _ in range(3))
        dispatcher.set_thread_count(threads)
        self._health.set_thread_count(1)
        self._chats.set_thread_count(chat_threads)
        self._has_chats = chat_threads > 0
        place = (listener.family, listener.type, listener.proto, listener.getsockname())
        # Above what is kept here, so that its own limit, which stops accepting, is never reached.
        limit = MOST_CONNECTIONS + 16
        adj = Adjustments(sockets=[listener], connection_limit=limit, cleanup_interval=LOOK_EVERY, **adjustments)
        options = {"dispatcher": dispatcher, "adj": adj, "bind_socket": False, "sockinfo": place}
        super().__init__(app, connections, _sock=listener, **options)

    def run(self) -> None:
        """Serves until all is closed. While there are connections, their deadlines are looked at each second."""
        while self._map:
            timeout = LOOK_EVERY if self.active_channels else LOOP_TIMEOUT
            wasyncore.loop(timeout=timeout, map=self._map, use_poll=True, count=1)

    def shutdown(self) -> None:
        """Ends the threads that answer requests."""
        self.task_dispatcher.shutdown(timeout=1)
        self._health.shutdown(timeout=1)
        self._chats.shutdown(timeout=1)

    def add_task(self, task: Channel) -> None:
        """Has a request answered: its channel, with the request first in line."""
        path = getattr(task.requests[0], "path", "")
        if path in HEALTH:
            self._health.add_task(task)
        elif self._has_chats and path.startswith(CHATS):
            self._chats.add_task(task)
        else:
            self.task_dispatcher.add_task(task)

    def handle_accept(self) -> None:
        """Accepts a connection, and closes another one where there are too many."""
        super().handle_accept()
        channels = list(self.active_channels.values())
        if not channels:
            return
        newest = max(channels, key=lambda channel: channel.creation_time)
        neighbours = [channel for channel in channels if channel.addr[0] == newest.addr[0]]
        for group, most in ((neighbours, MOST_OF_AN_ADDRESS), (channels, MOST_CONNECTIONS)):
            if len(group) > most and newest.connected:
                waiting = [one for one in group if one is not newest and not one.is_answered]
                min(waiting, key=lambda one: one.asking_since, default=newest).handle_close()

    def maintenance(self, now: float) -> None:
        """Closes the connections of clients that take too long."""
        super().maintenance(now)
        for channel in [one for one in self.active_channels.values() if one.is_late(now)]:
            channel.handle_close()
