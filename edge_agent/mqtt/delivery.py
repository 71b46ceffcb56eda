"""One result on its way, and the forms that it takes: messages to the broker, a row on the disk."""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.mqtt.disk_queue import Row
from edge_agent.mqtt.reasons import Refusal
from edge_agent.samples import ReplyTo

# Fixed header, length of the topic, packet id.
_PACKET_OVERHEAD = 9
# All that can stand before a payload: a topic and correlation data, of 64 KiB each at most, and the rest.
MAX_HEADER = 2 * 65_535 + 100

# To make an encoder takes longer than to use it.
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Copy(NamedTuple):
    """One of the messages in which a result goes out."""

    topic: str
    retain: bool
    correlation_data: bytes | None


@dataclass(slots=True, eq=False)
class Delivery:
    """One result to be delivered.

    Attributes:
        pipeline: whose counters count it.
        topic: the pipeline's result topic.
        document: the result document; once it has waited on the disk, its JSON.
        qos: of all its copies.
        retain: whether the broker keeps it for later subscribers, on its own topic and on `extra_topic`.
        extra_topic: where a copy goes.
        reply_to: where a copy goes that was asked for.
        deadline: on the monotonic clock: after it nobody wants the result; None: always wanted.
        on_done: called once the result is safe: with the broker, on the disk, or given up for good.
        replayed: whether it could not be delivered at once (and so may arrive twice).
        row_id: its place on the disk, while it is sent from there; None while it is in hand.
        number: its place in the order of results in hand.
        sent: how many copies have been handed to the broker.
        answered: how many of those it has answered.
        refusal: why the broker did not take the first copy.
    """

    pipeline: str
    topic: str
    document: dict[str, Any] | bytes
    qos: int = 1
    retain: bool = False
    extra_topic: str | None = None
    reply_to: ReplyTo | None = None
    deadline: float | None = None
    on_done: Callable[[], None] | None = None
    replayed: bool = False
    row_id: int | None = None
    number: int = 0
    sent: int = field(default=0, init=False)
    answered: int = field(default=0, init=False)
    refusal: Refusal | None = field(default=None, init=False)

    def copies(self) -> list[Copy]:
        """The messages, that on the result topic first."""
        copies = [Copy(self.topic, self.retain, None)]
        if self.extra_topic is not None:
            copies.append(Copy(self.extra_topic, self.retain, None))
        if self.reply_to is not None:
            copies.append(Copy(self.reply_to.topic, False, self.reply_to.correlation_data))
        return copies

    def payload(self) -> bytes:
        """The document as JSON."""
        if isinstance(self.document, bytes):
            return self.document
        return _encode(self.document | {"replayed": self.replayed}).encode()

    def expired(self) -> bool:
        """Whether nobody wants it any more."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def properties(self, copy: Copy) -> Properties:
        """What MQTT 5 tells the receiver besides."""
        if self.deadline is None and copy.correlation_data is None:
            return _usual_properties()
        properties = json_properties(copy.correlation_data)
        if self.deadline is not None:
            properties.MessageExpiryInterval = max(1, round(self.deadline - time.monotonic()))
        return properties

    def packet_size(self, payload: bytes) -> int:
        """Bytes of its largest PUBLISH packet."""
        return len(payload) + max(map(self._header_size, self.copies()))

    def _header_size(self, copy: Copy) -> int:
        properties = self.properties(copy).pack()  # type: ignore[no-untyped-call]  # paho leaves this one untyped
        return len(copy.topic.encode()) + len(properties) + _PACKET_OVERHEAD

    def begin_again(self) -> None:
        """Forgets what has been sent: it is not safe with the broker."""
        self.sent = self.answered = 0
        self.refusal = None
        self.replayed = True


def json_properties(correlation_data: bytes | None) -> Properties:
    """What MQTT 5 tells of a JSON document, and of the request that it answers."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
    properties.ContentType = "application/json"
    if correlation_data is not None:
        properties.CorrelationData = correlation_data
    return properties


def to_row(delivery: Delivery) -> Row:
    """A result as it waits on the disk.

    The deadline holds by the monotonic clock for as long as the machine is up. After a reboot only the wall clock is
    left, and if that was not right when the result was made, the result does not expire.
    """
    delivery.replayed = True
    deadline, expires_at = delivery.deadline, None
    if deadline is not None and isinstance(delivery.document, dict) and delivery.document["clock_synced"]:
        expires_at = time.time() + deadline - time.monotonic()
    return Row(
        pipeline=delivery.pipeline,
        topic=delivery.topic,
        payload=delivery.payload(),
        qos=delivery.qos,
        retain=delivery.retain,
        extra_topic=delivery.extra_topic,
        reply_topic=delivery.reply_to.topic if delivery.reply_to else None,
        correlation_data=delivery.reply_to.correlation_data if delivery.reply_to else None,
        deadline=deadline,
        boot=_boot() if deadline is not None else None,
        expires_at=expires_at,
    )


def from_row(row_id: int, row: Row) -> Delivery:
    """A result that has waited on the disk."""
    deadline = row.deadline
    if row.boot != _boot() and deadline is not None:
        deadline = row.expires_at and row.expires_at - time.time() + time.monotonic()
    return Delivery(
        pipeline=row.pipeline,
        topic=row.topic,
        document=row.payload,
        qos=row.qos,
        retain=bool(row.retain),
        extra_topic=row.extra_topic,
        reply_to=ReplyTo(row.reply_topic, row.correlation_data) if row.reply_topic else None,
        deadline=deadline,
        replayed=True,
        row_id=row_id,
    )


@cache
def _usual_properties() -> Properties:
    """Of nearly all results. To make them anew for each one takes longer than to make its JSON."""
    return json_properties(None)


@cache
def _boot() -> str:
    """Names the current boot of this machine; where the kernel does not tell, this process."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return uuid.uuid4().hex
