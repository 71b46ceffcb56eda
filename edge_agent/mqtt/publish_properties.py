"""The MQTT 5 properties of what an agent publishes. All of it names the device, so that an agent knows its own.

Through a bridge, a rewriting rule or a topic alias, a message can come back on a topic on which it was not published.
Topics can't tell that; a user property can, since brokers must pass it on unchanged (MQTT 5, 3.3.2.3.7). What is made
of another agent's message names that one too, so that two agents do not answer each other without end.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

# Name of the user property; its value is the id of the device that has published the message.
SENDER = "edge-agent"


class _Packed(Properties):
    """Properties that are made into bytes once; paho's does it for each message, which takes as long as its JSON."""

    def __init__(self, properties: Properties) -> None:
        self.__dict__.update(vars(properties), _packed=properties.pack())  # type: ignore[no-untyped-call]  # untyped

    def pack(self) -> bytes:
        """As they are sent."""
        return bytes(vars(self)["_packed"])


class PublishProperties(NamedTuple):
    """What is stated of one message, besides its sender.

    Attributes:
        is_json: whether the payload is a JSON document.
        correlation_data: of the request that it answers.
        expiry: seconds after which the broker need not deliver it any more.
        senders: devices whose messages have led to it, besides its own sender.
    """

    is_json: bool = False
    correlation_data: bytes | None = None
    expiry: int | None = None
    senders: tuple[str, ...] = ()

    def of(self, device_id: str) -> Properties:
        """As paho takes them.

        Args:
            device_id: of the sender; empty: it is not named.
        """
        if self.correlation_data is None and self.expiry is None and not self.senders:
            return _usual(device_id, is_json=self.is_json)
        return _made(self, device_id)


def will_properties(delay: int, device_id: str) -> Properties:
    """Of a last will.

    Args:
        delay: will delay interval, seconds.
        device_id: of the sender; empty: it is not named.
    """
    properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
    properties.WillDelayInterval = delay
    if device_id:
        properties.UserProperty = (SENDER, device_id)
    return properties


def senders(message: MQTTMessage) -> tuple[str, ...]:
    """The device that has published a message, and those whose messages have led to it.

    None if it was no agent, or came over MQTT 3.1.1.
    """
    properties: dict[str, Any] = vars(message.properties) if message.properties else {}
    return tuple(value for name, value in properties.get("UserProperty", ()) if name == SENDER)


@lru_cache(maxsize=16)
def _usual(device_id: str, *, is_json: bool) -> Properties:
    """Those of nearly all messages. Creating them for each one takes longer than encoding its JSON."""
    return _Packed(_made(PublishProperties(is_json), device_id))


def _made(of: PublishProperties, device_id: str) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
    if of.is_json:
        properties.ContentType = "application/json"
    if of.correlation_data is not None:
        properties.CorrelationData = of.correlation_data
    if of.expiry is not None:
        properties.MessageExpiryInterval = of.expiry
    if named := [sender for sender in (device_id, *of.senders) if sender]:
        properties.UserProperty = [(SENDER, sender) for sender in dict.fromkeys(named)]
    return properties
