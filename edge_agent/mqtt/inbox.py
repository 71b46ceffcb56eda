"""The QoS 1 inputs of one session that have no PUBACK yet."""

import logging
import threading
from collections.abc import Callable

from paho.mqtt.client import MQTTMessage

from edge_agent.mqtt.link import Link

log = logging.getLogger(__name__)

# Called with an input, and with what is to be called when the input is done.
Take = Callable[[MQTTMessage, Callable[[], None]], None]


class Inbox:
    """Passes inputs on and acknowledges them when they are done.

    After a reconnect the broker redelivers inputs without a PUBACK (DUP flag). An input that is still being processed
    is not started again then, and one that was done meanwhile is only acknowledged. Both rely on the packet id, which
    stays the same while the broker keeps the session (session present).

    Args:
        take: takes an input; may block.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._lock = threading.Lock()
        self._link: Link | None = None
        # By packet id: an object that stands for the input while it is being processed, None once it is done.
        self._unacknowledged: dict[int, object | None] = {}

    def up(self, link: Link) -> None:
        """There is a connection."""
        with self._lock:
            self._link = link
            if not link.resumed:
                self._unacknowledged.clear()  # the new session uses these packet ids for other inputs

    def down(self) -> None:
        """The connection is lost."""
        with self._lock:
            self._link = None

    def received(self, link: Link, message: MQTTMessage) -> None:
        """An input has arrived."""
        message_id, work = message.mid, object()
        log.debug("%s: received as mid %d%s", message.topic, message_id, ", redelivered" if message.dup else "")
        if message.qos and message.dup and self._is_known(message_id, message.qos, link):
            return
        if message.qos:
            with self._lock:
                self._unacknowledged[message_id] = work
        self._take(message, lambda: self._done(message_id, message.qos, work))

    def _is_known(self, message_id: int, qos: int, link: Link) -> bool:
        with self._lock:
            known = message_id in self._unacknowledged
            done = known and self._unacknowledged[message_id] is None
            if done:
                del self._unacknowledged[message_id]
        if done:
            self._acknowledge(link, message_id, qos)
        return known

    def _done(self, message_id: int, qos: int, work: object) -> None:
        with self._lock:
            if self._unacknowledged.get(message_id) is not work:
                return  # QoS 0, or of an earlier session
            link = self._link
            if link is None:
                self._unacknowledged[message_id] = None
            else:
                del self._unacknowledged[message_id]
        if link is not None:
            self._acknowledge(link, message_id, qos)

    @staticmethod
    def _acknowledge(link: Link, message_id: int, qos: int) -> None:
        log.debug("mid %d: acknowledged", message_id)
        link.ack(message_id, qos)
