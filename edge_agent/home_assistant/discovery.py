"""Publishes the MQTT discovery message of this device for Home Assistant, over a connection of its own.

Home Assistant removes a component only when a message has that component with nothing but its platform; a component
that is merely missing stays. So the previous message, which the broker retains on the same topic, is read first.
"""

import json
import logging
import random
import threading
from typing import Any

from paho.mqtt.client import MQTTMessage

from edge_agent import settings
from edge_agent.home_assistant.ids import safe
from edge_agent.mqtt import client_ids
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session, Subscription
from edge_agent.mqtt.reasons import Refusal
from edge_agent.system.text import parse_json

log = logging.getLogger(__name__)

# Seconds between a reason to publish and the message: after connecting, the retained message arrives in that time;
# after a start of Home Assistant, not all devices publish at once.
DELAY = (0.5, 2.0)
PLATFORMS = ("sensor", "binary_sensor", "image", "button", "event", "update", "switch", "number")
MAX_PAYLOAD = 4_000_000


class Discovery:
    """Keeps the discovery message of this device up to date.

    Args:
        endpoint: of the broker.
        mqtt: options of the connection.
        prefix: of Home Assistant's discovery topics.
        device_id: as configured.
    """

    def __init__(self, endpoint: Endpoint, mqtt: settings.Mqtt, prefix: str, device_id: str) -> None:
        self._birth = f"{prefix}/status"
        self._topic = f"{prefix}/device/{safe(device_id)}/config"
        self._lock = threading.Lock()
        self._document: dict[str, Any] | None = None
        self._published: dict[str, str] = {}  # platforms of the last message, by component
        self._timer: threading.Timer | None = None
        self._stopped = False
        session = Session(
            client_id=client_ids.of_home_assistant(device_id),
            device_id=device_id,
            protocol=mqtt.protocol,
            keepalive=mqtt.keepalive,
            max_packet_size=MAX_PAYLOAD,
            subscriptions=(Subscription(self._birth, 0), Subscription(self._topic, 0)),
        )
        self._connection = Connection(
            endpoint,
            session,
            on_up=lambda _: self._schedule(),
            on_message=self._received,
            on_acknowledged=self._acknowledged,
        )

    def start(self) -> None:
        """Starts to connect, in the background."""
        self._connection.start()

    def publish(self, document: dict[str, Any]) -> None:
        """Publishes a message, and again when Home Assistant starts.

        Args:
            document: see `entities.document`.
        """
        with self._lock:
            self._document = document
        self._schedule()

    def stop(self, *, withdraw: bool = False) -> None:
        """Closes the connection.

        Args:
            withdraw: whether Home Assistant is to forget the device; otherwise it is shown as unavailable.
        """
        with self._lock:
            timer, self._stopped = self._timer, True
        if timer is not None:
            timer.cancel()
            timer.join()
        if withdraw:
            self._withdraw()
        self._connection.stop()

    def _withdraw(self) -> None:
        if (link := self._connection.link) is not None:
            link.publish(self._topic, b"", 1, retain=True)
        else:
            log.warning("%s: no connection: Home Assistant keeps this device until that topic is cleared", self._topic)

    def _schedule(self) -> None:
        """Publishes after a short delay; once, even if it is called again until then."""
        with self._lock:
            if self._timer is None and not self._stopped:
                self._timer = threading.Timer(random.uniform(*DELAY), self._publish)  # noqa: S311 - spreads load
                self._timer.daemon = True
                self._timer.start()

    def _publish(self) -> None:
        with self._lock:
            self._timer = None
            link, document = self._connection.link, self._document
            if link is None or document is None:
                return  # `on_up` calls again
            components, before = document["components"], self._published
            removed = {name: {"platform": platform} for name, platform in before.items() if name not in components}
            self._published = {name: component["platform"] for name, component in components.items()}
        # Without the lock, for which the network thread may wait.
        log.debug("%s: publishing %d components, removing %d", self._topic, len(components), len(removed))
        if removed:
            self._send(link, document | {"components": components | removed})
        self._send(link, document)

    def _send(self, link: Link, document: dict[str, Any]) -> None:
        payload = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        if (size := len(payload.encode())) > link.max_packet_size:
            limit = link.max_packet_size
            log.warning("%s: not published: the message has %d bytes, the broker takes %d", self._topic, size, limit)
            return
        link.publish(self._topic, payload, 1, retain=True)

    def _received(self, _link: Link, message: MQTTMessage) -> None:
        if message.topic == self._birth:
            # A retained birth message is outdated.
            if message.payload == b"online" and not message.retain:
                self._schedule()
        elif message.retain:
            with self._lock:
                self._published = _platforms(message.payload) | self._published

    def _acknowledged(self, _message_id: int, refusal: Refusal | None) -> None:
        if refusal is not None:
            log.warning("%s: the broker refuses the discovery message: %s", self._topic, refusal.why)


def _platforms(payload: bytes | bytearray) -> dict[str, str]:
    """The platforms of an earlier message, by component; only those that this agent may have published itself."""
    try:
        components = parse_json(payload)["components"]
        return {name: one["platform"] for name, one in components.items() if one["platform"] in PLATFORMS}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
