"""Reason codes of the broker as sentences, with what to do about them.

The codes are those of MQTT 5 (https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html, 2.4); paho maps those of
MQTT 3.1.1 to them.
"""

from typing import NamedTuple

from paho.mqtt.reasoncodes import ReasonCode

# Reason codes from here on are failures.
_FAILURE = 0x80
UNSUPPORTED_PROTOCOL = 0x84
SESSION_TAKEN_OVER = 0x8E
_PACKET_IDENTIFIER_IN_USE = 0x91
_QUOTA_EXCEEDED = 0x97
RETAIN_NOT_SUPPORTED = 0x9A
QOS_NOT_SUPPORTED = 0x9B

_HINTS = {
    0x84: "set mqtt.protocol: auto",
    0x85: "the broker does not accept this device_id as part of a client id",
    0x86: "check mqtt.username and mqtt.password_file",
    0x87: "check mqtt.username, mqtt.password_file and the broker's access rules",
    0x8A: "the broker has banned this client",
    0x8C: "the broker wants another way to log in than user name and password",
    0x8E: "another client uses the same client id: is device_id unique?",
    0x90: "check mqtt.topic_prefix and device_id",
    0x95: "raise the broker's maximum packet size",
    0x97: "raise the broker's quota for this client",
    0x9A: "`status` and `info` are retained messages: allow them at the broker",
    0x9B: "allow QoS 1 at the broker",
    0x9C: "put the other server's address into mqtt.url",
    0x9D: "put the new address into mqtt.url",
    0x9E: "the broker has no shared subscriptions: leave out `share`",
    0xA2: "the broker allows no wildcards in topics",
}


class Refusal(NamedTuple):
    """Why the broker refused a message.

    Attributes:
        why: the reason, and what to do.
        for_now: whether it may accept the message later.
    """

    why: str
    for_now: bool


def failed(reason: ReasonCode) -> bool:
    """Whether the reason code is a failure."""
    return reason.value >= _FAILURE


def refusal(reason: ReasonCode) -> Refusal | None:
    """The refusal that a reason code means; None if it is a success."""
    if not failed(reason):
        return None
    return Refusal(sentence(reason), reason.value in (_QUOTA_EXCEEDED, _PACKET_IDENTIFIER_IN_USE))


def sentence(reason: ReasonCode) -> str:
    """The reason as text, with a hint if there is one."""
    hint = _HINTS.get(reason.value)
    return f"{reason}: {hint}" if hint else str(reason)
