"""Tells Home Assistant of this device, over a connection of its own.

Home Assistant does not forget a component that is missing from a later message: it wants to see it once with nothing
but its platform. What this device has said before stands on the topic itself, retained by the broker, so it is read
from there, over restarts too.
"""

import json
import logging
import random
import threading
from typing import Any

from paho.mqtt.client import MQTTMessage

from edge_agent import settings
from edge_agent.home_assistant.entities import safe
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session, Subscription
from edge_agent.mqtt.reasons import Refusal

log = logging.getLogger(__name__)

# After connecting, until what the broker has retained has come; and after Home Assistant has started, so that not all
# devices answer it at once. Seconds.
SOON = (0.5, 2.0)
PLATFORMS = ("sensor", "binary_sensor", "image", "button")
MAX_PAYLOAD = 4_000_000


class Discovery:
    """Keeps the discovery message of this device where Home Assistant looks for it.

    Args:
        endpoint: the broker.
        mqtt: how it is spoken to.
        prefix: of Home Assistant's discovery topics.
        device_id: as configured.
    """

    def __init__(self, endpoint: Endpoint, mqtt: settings.Mqtt, prefix: str, device_id: str) -> None:
        self._birth = f"{prefix}/status"
        self._topic = f"{prefix}/device/{safe(device_id)}/config"
        self._lock = threading.Lock()
        self._document: dict[str, Any] | None = None
        self._said: dict[str, str] = {}  # by component its platform
        self._timer: threading.Timer | None = None
        self._stopped = False
        session = Session(
            client_id=f"edge-agent-{device_id}-home-assistant",
            protocol=mqtt.protocol,
            keepalive=mqtt.keepalive,
            max_packet_size=MAX_PAYLOAD,
            subscriptions=(Subscription(self._birth, 0), Subscription(self._topic, 0)),
        )
        self._connection = Connection(
            endpoint,
            session,
            on_up=lambda _: self._soon(),
            on_message=self._heard,
            on_acknowledged=self._answered,
        )

    def start(self) -> None:
        """Connects, in the background."""
        self._connection.start()

    def publish(self, document: dict[str, Any]) -> None:
        """Says this from now on.

        Args:
            document: see `entities.document`.
        """
        with self._lock:
            self._document = document
        self._soon()

    def stop(self, *, withdraw: bool = False) -> None:
        """Ends the connection.

        Args:
            withdraw: whether Home Assistant is to forget the device; else it is shown as away.
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
            log.warning("%s: no broker: Home Assistant keeps this device until that topic is cleared", self._topic)

    def _soon(self) -> None:
        """Says it in a moment; once, however often that is asked for until then."""
        with self._lock:
            if self._timer is None and not self._stopped:
                self._timer = threading.Timer(random.uniform(*SOON), self._say)  # noqa: S311 - spreads load, hides nothing
                self._timer.daemon = True
                self._timer.start()

    def _say(self) -> None:
        with self._lock:
            self._timer = None
            link, document = self._connection.link, self._document
            if link is None or document is None:
                return  # it is said when there is one
            components = document["components"]
            gone = {name: {"platform": platform} for name, platform in self._said.items() if name not in components}
            self._said = {name: component["platform"] for name, component in components.items()}
        # Without the lock, for which the network thread may wait.
        if gone:
            self._publish(link, document | {"components": components | gone})
        self._publish(link, document)

    def _publish(self, link: Link, document: dict[str, Any]) -> None:
        payload = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        if (size := len(payload.encode())) > link.max_packet_size:
            most = link.max_packet_size
            log.warning("Home Assistant discovery is not published: it takes %d bytes, the broker takes %d", size, most)
            return
        link.publish(self._topic, payload, 1, retain=True)

    def _heard(self, _link: Link, message: MQTTMessage) -> None:
        if message.topic == self._birth:
            # One that the broker has kept is old.
            if message.payload == b"online" and not message.retain:
                self._soon()
        elif message.retain:
            with self._lock:
                self._said = _platforms(message.payload) | self._said

    def _answered(self, _message_id: int, refusal: Refusal | None) -> None:
        if refusal is not None:
            log.warning("%s: the broker refuses to tell Home Assistant of this device: %s", self._topic, refusal.why)


def _platforms(payload: bytes | bytearray) -> dict[str, str]:
    """By component its platform, from an earlier message. Only components that this agent may have published."""
    try:
        components = json.loads(payload)["components"]
        return {name: one["platform"] for name, one in components.items() if one["platform"] in PLATFORMS}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
