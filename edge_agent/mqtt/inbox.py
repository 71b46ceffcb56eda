"""The inputs of one session that the broker still wants an answer for."""

import threading
from collections.abc import Callable

from paho.mqtt.client import MQTTMessage

from edge_agent.mqtt.link import Link

# Takes an input, and what is to be called when it is answered for good.
Take = Callable[[MQTTMessage, Callable[[], None]], None]


class Inbox:
    """Passes inputs on and acknowledges them when they are answered.

    When a connection has broken, the broker delivers again what is not acknowledged. What is still being worked on here
    is not begun anew then, and what was answered meanwhile only acknowledged: nobody else knows, and packet ids stay
    what they are, as long as the broker has kept the session.

    Args:
        take: takes an input; may wait.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._lock = threading.Lock()
        self._link: Link | None = None
        # By packet id: what stands for an input that is being worked on, or None once it is answered.
        self._unacknowledged: dict[int, object | None] = {}

    def up(self, link: Link) -> None:
        """There is a connection."""
        with self._lock:
            self._link = link
            if not link.resumed:
                self._unacknowledged.clear()  # these ids will stand for other inputs

    def down(self) -> None:
        """The connection is gone."""
        with self._lock:
            self._link = None

    def received(self, link: Link, message: MQTTMessage) -> None:
        """An input has come."""
        message_id, work = message.mid, object()
        if message.qos and message.dup and self._knows(message_id, link):
            return
        if message.qos:
            with self._lock:
                self._unacknowledged[message_id] = work
        self._take(message, lambda: self._done(message_id, work))

    def _knows(self, message_id: int, link: Link) -> bool:
        with self._lock:
            known = message_id in self._unacknowledged
            done = known and self._unacknowledged[message_id] is None
            if done:
                del self._unacknowledged[message_id]
        if done:
            link.ack(message_id)
        return known

    def _done(self, message_id: int, work: object) -> None:
        with self._lock:
            if self._unacknowledged.get(message_id) is not work:
                return  # QoS 0, or of a session that the broker has forgotten
            link = self._link
            if link is None:
                self._unacknowledged[message_id] = None
            else:
                del self._unacknowledged[message_id]
        if link is not None:
            link.ack(message_id)
