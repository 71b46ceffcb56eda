"""What a broker's reason codes mean and what to do about them, in a sentence.

The codes are those of MQTT 5 (https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html, 2.4); paho translates the few
of MQTT 3.1.1 into them.
"""

from typing import NamedTuple

from paho.mqtt.reasoncodes import ReasonCode

# From here on a reason code is a failure.
_FAILURE = 0x80
UNSUPPORTED_PROTOCOL = 0x84
_PACKET_IDENTIFIER_IN_USE = 0x91
_QUOTA_EXCEEDED = 0x97

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
    """Why the broker did not take a message.

    Attributes:
        why: the reason, and what to do.
        for_now: whether it may take the message later.
    """

    why: str
    for_now: bool


def failed(reason: ReasonCode) -> bool:
    """Whether the broker has refused."""
    return reason.value >= _FAILURE


def refusal(reason: ReasonCode) -> Refusal | None:
    """Why a message was not taken; None if it was."""
    if not failed(reason):
        return None
    return Refusal(sentence(reason), reason.value in (_QUOTA_EXCEEDED, _PACKET_IDENTIFIER_IN_USE))


def sentence(reason: ReasonCode) -> str:
    """The reason in words, with what to do about it where there is something to do."""
    hint = _HINTS.get(reason.value)
    return f"{reason}: {hint}" if hint else str(reason)
