"""Members of a shared subscription take over the inputs of members that are away, where `stand_in` names their devices.

A broker keeps for each member the inputs that it has not acknowledged. It may keep them until the session of an absent
member expires; Mosquitto does, and even assigns new inputs to that session. So each member with `stand_in` publishes,
retained and with its last will, whether it is online. While one is offline, one of the others connects with its client
id, removes its shared subscription, and processes the inputs that the broker holds for it. When the member comes back,
it takes its session over again, as MQTT specifies.

Any client that may write a member's topic can say that the member is away. So nobody stands in for a device that the
configuration does not name, and there is at most one connection for each name.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace

from paho.mqtt.client import MQTTMessage

from edge_agent.mqtt import client_ids
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.inbox import Inbox, Take
from edge_agent.mqtt.link import Link, Session, Subscription, Will
from edge_agent.system.text import parse_json

log = logging.getLogger(__name__)

# Will delay, in seconds: nobody stands in for a member that comes back sooner, after a restart (MQTT 5).
PATIENCE = 5
MAX_PAYLOAD = 4096


class Group:
    """One member's view of its group.

    Args:
        topic: the beginning of the topics of the member's pipeline: prefix/device/pipeline.
        subscription: topic filter of the shared subscription.
        devices: the members; their pipelines have the same name.
        endpoint: the broker.
        take: called with the inputs of members that are away.
    """

    def __init__(self, topic: str, subscription: str, devices: Sequence[str], endpoint: Endpoint, take: Take) -> None:
        prefix, device, self._pipeline = topic.rsplit("/", 2)
        self._subscription = subscription
        self._endpoint = endpoint
        self._take = take
        self._own = self._session_of(device)
        self._own_topic = f"{topic}/share"
        # The topics of the others, and the client ids of their sessions.
        self._members = {
            f"{prefix}/{other}/{self._pipeline}/share": self._session_of(other) for other in devices if other != device
        }
        self._online: dict[str, bool] = {}
        self._stand_ins: dict[str, Connection] = {}
        self._closed = False

    def session(self, session: Session) -> Session:
        """Adds the last will and the topics of the other members to the member's session."""
        will = Will(self._own_topic, self._document(online=False), PATIENCE)
        others = (Subscription(topic, 1, retained_again=True) for topic in self._members)
        self._plan = replace(session, subscriptions=(), unsubscriptions=(self._subscription,))
        return replace(session, will=will, subscriptions=(*session.subscriptions, *others))

    def up(self, link: Link) -> None:
        """The member is connected."""
        link.publish(self._own_topic, self._document(online=True), 1, retain=True)

    def takes(self, link: Link, message: MQTTMessage) -> bool:
        """Whether a message is a member's state, not an input; it has been processed then."""
        member = self._members.get(message.topic)
        if member is None:
            return False
        link.ack(message.mid, message.qos)
        self._state_changed(member, message.payload)
        return True

    def close(self) -> None:
        """Disconnects from the sessions of other members."""
        self._closed = True
        for connection in list(self._stand_ins.values()):
            connection.stop(0)

    def _session_of(self, device: str) -> str:
        return client_ids.of_source(device, self._pipeline, self._subscription)

    def _state_changed(self, member: str, payload: bytes | bytearray) -> None:
        online = self._read(payload)
        if online is None:
            self._online.pop(member, None)
        else:
            self._online[member] = online
        self._stand_in()

    def _stand_in(self) -> None:
        """Stands in for the members that are away, if this member's client id is the first of those that are online."""
        away = {member for member, online in self._online.items() if not online}
        first = min({member for member, online in self._online.items() if online} | {self._own})
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

    def _document(self, *, online: bool) -> bytes:
        return json.dumps({"subscription": self._subscription, "there": online}).encode()

    def _read(self, payload: bytes | bytearray) -> bool | None:
        """Whether a member is online; None if it is of another group, or the payload is invalid."""
        try:
            document = parse_json(payload) if len(payload) <= MAX_PAYLOAD else None
        except ValueError:
            return None
        if not isinstance(document, dict) or document.get("subscription") != self._subscription:
            return None
        there = document.get("there")
        return there if isinstance(there, bool) else None
