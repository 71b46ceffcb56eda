"""Agents that share a topic's load look after each other's inputs.

A broker holds for each member of a group what it has not answered. It may keep that for a member that is away for as
long as the session lasts, and Mosquitto does; it even goes on dealing inputs to that member. So the others do not wait:
each member says, retained and with its will, whether it is there, and when one is away, one of those that are there
takes up its session, ends its share, and answers what the broker holds for it. If it comes back, it takes its session
back, as MQTT lets it.
"""

import json
import logging
import zlib
from dataclasses import replace

from paho.mqtt.client import MQTTMessage

from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.inbox import Inbox, Take
from edge_agent.mqtt.link import Link, Session, Subscription, Will

log = logging.getLogger(__name__)

# A member that comes back within so many seconds (a restart) is not stood in for (MQTT 5).
PATIENCE = 5
MAX_MEMBERS = 1000
MAX_PAYLOAD = 4096


class Group:
    """One member's view of its group.

    Args:
        topic: what the topics of the member's pipeline begin with: prefix, device, pipeline.
        subscription: the shared subscription.
        endpoint: the broker.
        take: takes the inputs of members that are away.
    """

    def __init__(self, topic: str, subscription: str, endpoint: Endpoint, take: Take) -> None:
        self._prefix, self._device, self._pipeline = topic.rsplit("/", 2)
        self._subscription = subscription
        self._endpoint = endpoint
        self._take = take
        self._own = session_name(self._device, self._pipeline, subscription)
        self._there: dict[str, bool] = {}
        self._stand_ins: dict[str, Connection] = {}
        self._closed = False

    def session(self, session: Session) -> Session:
        """The member's session, with what makes it a member."""
        will = Will(self._own_topic, self._document(there=False), PATIENCE)
        others = Subscription(f"{self._prefix}/+/+/share", 1, retained_again=True)
        self._plan = replace(session, subscriptions=(), unsubscriptions=(self._subscription,))
        return replace(session, will=will, subscriptions=(*session.subscriptions, others))

    def up(self, link: Link) -> None:
        """The member is connected."""
        link.publish(self._own_topic, self._document(there=True), 1, retain=True)

    def takes(self, link: Link, message: MQTTMessage) -> bool:
        """Whether a message is a member's word, not an input; it has been dealt with then."""
        match message.topic.rsplit("/", 3):
            case [prefix, device, pipeline, "share"] if prefix == self._prefix:
                link.ack(message.mid)
                self._heard(session_name(device, pipeline, self._subscription), message.payload)
                return True
        return False

    def close(self) -> None:
        """Leaves what is held for others to others."""
        self._closed = True
        for connection in list(self._stand_ins.values()):
            connection.stop(0)

    def _heard(self, member: str, payload: bytes | bytearray) -> None:
        there = self._read(payload)
        if there is None:
            self._there.pop(member, None)
        elif member in self._there or len(self._there) < MAX_MEMBERS:
            self._there[member] = there
        self._stand_in()

    def _stand_in(self) -> None:
        """Stands in for whoever is away, if that falls to this member: to that with the first name of those there."""
        away = {member for member, there in self._there.items() if not there} - {self._own}
        first = min({member for member, there in self._there.items() if there} | {self._own})
        wanted = away if first == self._own and not self._closed else set[str]()
        for member in self._stand_ins.keys() - wanted:
            self._stand_ins.pop(member).stop(0)
        for member in wanted - self._stand_ins.keys():
            log.info("%s: %s is away: what the broker holds for it is answered here", self._pipeline, member)
            inbox, session = Inbox(self._take), replace(self._plan, client_id=member)
            connection = Connection(
                self._endpoint, session, on_up=inbox.up, on_down=inbox.down, on_message=inbox.received
            )
            self._stand_ins[member] = connection
            connection.start()

    @property
    def _own_topic(self) -> str:
        return f"{self._prefix}/{self._device}/{self._pipeline}/share"

    def _document(self, *, there: bool) -> bytes:
        return json.dumps({"subscription": self._subscription, "there": there}).encode()

    def _read(self, payload: bytes | bytearray) -> bool | None:
        """Whether a member is there; None if it is none of this group, or what it says can't be read."""
        try:
            document = json.loads(payload) if len(payload) <= MAX_PAYLOAD else None
        except (ValueError, RecursionError):
            return None
        if not isinstance(document, dict) or document.get("subscription") != self._subscription:
            return None
        there = document.get("there")
        return there if isinstance(there, bool) else None


def session_name(device: str, pipeline: str, subscription: str) -> str:
    """The client id of a pipeline's session for its inputs.

    A broker keeps the subscriptions of a session. Under another topic, inputs of the old one must not come: so the
    name is another one then.
    """
    return f"edge-agent-{device}-{pipeline}-{zlib.crc32(subscription.encode()):08x}"
