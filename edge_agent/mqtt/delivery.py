"""One result, and the forms that it takes: PUBLISH packets to the broker, a row on the disk."""

import json
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.counters import Settlement
from edge_agent.mqtt.disk_queue import Row
from edge_agent.mqtt.publish_properties import PublishProperties
from edge_agent.mqtt.reasons import Refusal
from edge_agent.samples import ReplyTo
from edge_agent.system.text import read_attribute

log = logging.getLogger(__name__)

# Bytes of the fixed header, the length of the topic and the packet id.
_PACKET_OVERHEAD = 9
# Largest message expiry interval, in seconds.
_MAX_EXPIRY = 0xFFFFFFFF
# Most bytes before a payload: a topic, correlation data and the sender, of at most 64 KiB each, and the rest.
MAX_HEADER = 3 * 65_535 + 100

# Creating an encoder takes longer than using it.
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(slots=True, eq=False)
class Delivery:
    """One result to be delivered.

    Attributes:
        pipeline: name of the pipeline whose counters count it.
        topic: the pipeline's result topic.
        document: the result document; as JSON when it was read from the disk.
        qos: QoS of all copies.
        retain: whether the broker retains it, on `topic` and on `extra_topic`.
        extra_topic: topic of a second copy.
        reply_to: response topic of the request that it answers, for another copy.
        deadline: when the result expires, on the monotonic clock; None: never.
        settlement: of the input that it answers, which ends once the result is safe: acknowledged by the broker, on the
            disk, or discarded. None: it answers none, or has been read from the disk.
        replayed: whether it is not sent for the first time, or not at once (so it may arrive twice).
        senders: see `Sample`; of the input that it answers. Not kept on the disk.
        row_id: its row on the disk, when it was read from there.
        number: its place in the order of the results in memory.
    """

    pipeline: str
    topic: str
    document: dict[str, Any] | bytes
    qos: int = 1
    retain: bool = False
    extra_topic: str | None = None
    reply_to: ReplyTo | None = None
    deadline: float | None = None
    settlement: Settlement | None = None
    replayed: bool = False
    senders: tuple[str, ...] = ()
    row_id: int | None = None
    number: int = 0

    def __str__(self) -> str:
        """For debug output: the pipeline, and the result's number or row."""
        if isinstance(self.document, bytes):
            return f"{self.pipeline}: row {self.row_id}"
        return f"{self.pipeline}: result {self.document.get('seq')}"

    def payload(self) -> bytes:
        """The document as JSON."""
        if isinstance(self.document, bytes):
            return self.document
        return _encode(self.document | {"replayed": self.replayed}).encode()

    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def copies(self, on_done: Callable[["Delivery", Refusal | None], None]) -> "list[Copy]":
        """The PUBLISH packets of one attempt to send it, that on the result topic first.

        Args:
            on_done: called once, when all of them are acknowledged or refused, with the refusal of the one on the
                result topic, or None. Refusals of the others are logged only.
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
        outstanding: copies without a PUBACK.
        refusal: why the broker has refused the copy on the result topic.
    """

    delivery: Delivery
    on_done: Callable[[Delivery, Refusal | None], None]
    outstanding: int = 0
    refusal: Refusal | None = None


@dataclass(slots=True, eq=False)
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

    def __str__(self) -> str:
        """For debug output: the result."""
        return str(self.completion.delivery)

    def properties(self) -> PublishProperties:
        """The MQTT 5 properties of its PUBLISH, when it is sent now."""
        deadline, expiry = self.completion.delivery.deadline, None
        if deadline is not None:
            # A deadline of before a reboot can be far away: it is from a clock that was wrong then.
            expiry = min(max(1, round(deadline - time.monotonic())), _MAX_EXPIRY)
        return PublishProperties(True, self.correlation_data, expiry, self.completion.delivery.senders)

    def packet_size(self, device_id: str) -> int:
        """Bytes of the packet, which names this device as its sender."""
        properties = self.properties().of(device_id).pack()  # type: ignore[no-untyped-call]  # paho leaves this one untyped
        return _PACKET_OVERHEAD + len(self.topic.encode()) + len(properties) + len(self.payload)

    def acknowledged(self, refusal: Refusal | None) -> None:
        """The PUBACK has come; `refusal`: its reason code is a failure."""
        completion = self.completion
        if self.decisive:
            completion.refusal = refusal
        elif refusal is not None:
            log.warning("%s: a copy of a result is refused: %s", self.topic, refusal.why)
        completion.outstanding -= 1
        if completion.outstanding == 0:
            completion.on_done(completion.delivery, completion.refusal)


class Notice(NamedTuple):
    """A message that is of no use later: dropped while the broker is away.

    Attributes:
        senders: see `Sample`; of the input that it is about.
    """

    topic: str
    payload: bytes | str
    retain: bool = False
    correlation_data: bytes | None = None
    senders: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For debug output, without the payload."""
        return "notice"

    def properties(self) -> PublishProperties:
        """The MQTT 5 properties of its PUBLISH."""
        is_json = self.correlation_data is not None
        return PublishProperties(is_json, self.correlation_data, senders=self.senders)

    def acknowledged(self, refusal: Refusal | None) -> None:
        """The PUBACK has come; `refusal`: its reason code is a failure."""
        if refusal is not None:
            log.warning("%s: the broker refuses a message about this device: %s", self.topic, refusal.why)


def to_row(delivery: Delivery) -> Row:
    """The row for a result; marks it as replayed.

    The deadline is kept on the monotonic clock, which is valid until the next reboot. For after that it is kept on the
    wall clock as well, if that was synchronized when the result was produced; otherwise the result does not expire.
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
    """The result of a row."""
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
def _boot() -> str:
    """Identifies the current boot of this machine; where the kernel has no id for it, this process."""
    try:
        return read_attribute(Path("/proc/sys/kernel/random/boot_id"))
    except OSError:
        return uuid.uuid4().hex
