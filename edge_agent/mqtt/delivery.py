"""One result on its way, and the forms that it takes: messages to the broker, a row on the disk."""

import json
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.mqtt.disk_queue import Row
from edge_agent.mqtt.reasons import Refusal
from edge_agent.samples import ReplyTo

log = logging.getLogger(__name__)

# Fixed header, length of the topic, packet id.
_PACKET_OVERHEAD = 9
# All that can stand before a payload: a topic and correlation data, of 64 KiB each at most, and the rest.
MAX_HEADER = 2 * 65_535 + 100

# To make an encoder takes longer than to use it.
_encode = json.JSONEncoder(separators=(",", ":")).encode


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
        row_id: its row on the disk, while it is sent from there; None while it is in memory.
        number: its place in the order of results in memory.
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

    def payload(self) -> bytes:
        """The document as JSON."""
        if isinstance(self.document, bytes):
            return self.document
        return _encode(self.document | {"replayed": self.replayed}).encode()

    def expired(self) -> bool:
        """Whether nobody wants it any more."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def copies(self, on_done: Callable[["Delivery", Refusal | None], None]) -> "list[Copy]":
        """The PUBLISH packets of one attempt to send it, that on the result topic first.

        Args:
            on_done: called once, when the broker has answered all of them, with why it has refused the one on the
                result topic, or None. Whether it refuses the others makes no difference.
        """
        completion, payload = Completion(self, on_done), self.payload()
        copies = [Copy(completion, payload, self.topic, self.retain, decisive=True)]
        if self.extra_topic is not None:
            copies.append(Copy(completion, payload, self.extra_topic, self.retain))
        if self.reply_to is not None:
            copies.append(Copy(completion, payload, self.reply_to.topic, False, self.reply_to.correlation_data))
        completion.outstanding = len(copies)
        return copies


@dataclass(slots=True, eq=False)
class Completion:
    """What the copies of a result share: it counts their PUBACKs.

    Attributes:
        on_done: see `Delivery.copies`.
        outstanding: copies that the broker has not answered yet.
        refusal: why the broker has refused the copy on the result topic.
    """

    delivery: Delivery
    on_done: Callable[[Delivery, Refusal | None], None]
    outstanding: int = 0
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """One PUBLISH packet of a result.

    Attributes:
        decisive: whether the result is refused when this copy is.
    """

    completion: Completion
    payload: bytes
    topic: str
    retain: bool
    correlation_data: bytes | None = None
    decisive: bool = False

    def properties(self) -> Properties:
        """The MQTT 5 properties, when it is sent now."""
        deadline = self.completion.delivery.deadline
        if deadline is None and self.correlation_data is None:
            return _usual_properties()
        properties = json_properties(self.correlation_data)
        if deadline is not None:
            properties.MessageExpiryInterval = max(1, round(deadline - time.monotonic()))
        return properties

    def packet_size(self) -> int:
        """Bytes of the packet."""
        properties = self.properties().pack()  # type: ignore[no-untyped-call]  # paho leaves this one untyped
        return _PACKET_OVERHEAD + len(self.topic.encode()) + len(properties) + len(self.payload)

    def answered(self, refusal: Refusal | None) -> None:
        """The broker has acknowledged it, or refused it."""
        completion = self.completion
        if self.decisive:
            completion.refusal = refusal
        elif refusal is not None:
            log.warning("%s: a copy of a result is refused: %s", self.topic, refusal.why)
        completion.outstanding -= 1
        if completion.outstanding == 0:
            completion.on_done(completion.delivery, completion.refusal)


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
