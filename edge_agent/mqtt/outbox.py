"""Results on their way to the broker.

While the broker is there, results go straight out and nothing touches the disk. While it is away, they wait in a
`DiskQueue`; after it has come back they are sent in order, marked as replayed, at a bounded rate, beside the live ones.
One thread, the courier, owns all of this; everything reaches it through one queue.
"""

import contextlib
import json
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent import settings
from edge_agent.counters import Counters, Discarded
from edge_agent.mqtt.connection import Link
from edge_agent.mqtt.disk_queue import DiskQueue, Row
from edge_agent.samples import ReplyTo

log = logging.getLogger(__name__)

# Results that may be under way to the broker or to the disk at a time; whoever brings one more waits.
MAX_IN_HAND = 64
# While the disk can't be written either, so many wait in memory before the first is given up.
MAX_IN_MEMORY = 48
COMMIT_EVERY = 0.2
COMMIT_AT = 32
DISK_RETRY = 5.0
REPLAY_TICK = 0.05
REPLAY_WINDOW = 32
REMOVE_AT = 100
# Room for a PUBLISH packet's header, topic and properties.
_PACKET_OVERHEAD = 1024


@dataclass(slots=True, eq=False)
class Delivery:
    """One result to be delivered.

    Attributes:
        document: the result document.
        expires_at: seconds since the epoch after which nobody wants it; None: never.
        reply_to: where a copy goes.
        settle: called once the result is safe: with the broker, on the disk, or given up for good.
        row_id: its place on the disk, while it is sent from there; None while it is in hand.
    """

    pipeline: str
    topic: str
    document: dict[str, Any]
    qos: int = 1
    retain: bool = False
    expires_at: float | None = None
    reply_to: ReplyTo | None = None
    settle: Callable[[], None] | None = None
    row_id: int | None = None
    copies_under_way: int = 0
    refusal: str = ""


class Outbox:
    """Takes results and sees to it that each is acknowledged by the broker, waits, or is counted as discarded.

    Args:
        options: of the configuration.
        path: of the database file.
        counters: of a pipeline, by its name.
    """

    def __init__(self, options: settings.Outbox, path: Path, counters: Callable[[str], Counters]) -> None:
        self._options = options
        self._counters = counters
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._in_hand = 0
        self._hands = threading.Condition()
        self._disk = DiskQueue(path, options.max_size)
        self._link: Link | None = None
        self._sent: dict[int, Delivery] = {}
        self._unsaved: deque[Delivery] = deque()
        self._save_at = 0.0
        self._disk_problem = ""
        self._replay_from = 0
        self._replay_at = 0.0
        self._delivered_rows: list[int] = []
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self, *, restore: bool = True) -> None:
        """Takes up results that were left on the disk, and begins to work.

        Args:
            restore: count them; False when they are from this run and so are counted already.
        """
        if restore:
            for pipeline, count in self._disk.counts().items():
                self._counters(pipeline).restore(count)
        self._thread.start()

    def put(self, delivery: Delivery) -> None:
        """Accepts a result, which has been counted as produced. Waits while too many are in hand."""
        with self._hands:
            self._hands.wait_for(lambda: self._in_hand < MAX_IN_HAND)
            self._in_hand += 1
        self._events.put(lambda: self._accept(delivery))

    def settle(self, timeout: float) -> bool:
        """Waits until nothing is in hand any more: delivered, on the disk, or given up; False if that takes too long.

        Args:
            timeout: seconds.
        """
        with self._hands:
            return self._hands.wait_for(lambda: self._in_hand == 0, timeout)

    def link_up(self, link: Link) -> None:
        """The broker is there."""
        self._events.put(lambda: self._connected(link))

    def link_down(self) -> None:
        """The broker is gone."""
        self._events.put(self._disconnected)

    def acknowledged(self, message_id: int, refusal: str) -> None:
        """The broker has answered a message, with a refusal or (if that is empty) by taking it."""
        self._events.put(lambda: self._answered(message_id, refusal))

    def stop(self, timeout: float) -> None:
        """Delivers what is in hand, or saves it; ends the thread.

        Args:
            timeout: seconds for the broker's acknowledgements; what lacks one then is saved.
        """
        deadline = time.monotonic() + timeout
        self._events.put(lambda: setattr(self, "_deadline", deadline))
        self._thread.join(timeout + 2)

    # Everything below runs in the courier's thread.

    def _run(self) -> None:
        while self._deadline is None or (self._in_flight() and time.monotonic() < self._deadline):
            with contextlib.suppress(queue.Empty):
                self._events.get(timeout=self._patience())()
            now = time.monotonic()
            if self._unsaved and now >= self._save_at:
                self._save()
            if self._link is not None and len(self._disk) and now >= self._replay_at:
                self._replay(self._link)
        self._disconnected()
        self._save()
        self._remove_delivered()
        self._disk.close()

    def _patience(self) -> float | None:
        """Seconds until there is something to do without an event; None: nothing."""
        moments = [] if self._deadline is None else [self._deadline]
        if self._unsaved:
            moments.append(self._save_at)
        if self._link is not None and len(self._disk):
            moments.append(self._replay_at)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _in_flight(self) -> bool:
        return not self._events.empty() or any(delivery.row_id is None for delivery in self._sent.values())

    def _accept(self, delivery: Delivery) -> None:
        if self._link is None:
            self._keep(delivery)
        else:
            self._send(self._link, delivery, replayed=False)

    def _send(self, link: Link, delivery: Delivery, *, replayed: bool) -> None:
        payload = _payload(delivery, replayed=replayed)
        if len(payload) + _PACKET_OVERHEAD > link.max_packet_size:
            self._give_up(delivery, "refused", f"{len(payload)} bytes, the broker takes {link.max_packet_size}")
            return
        copies = [(delivery.topic, delivery.retain, None)]
        if delivery.reply_to is not None:
            copies.append((delivery.reply_to.topic, False, delivery.reply_to.correlation_data))
        for topic, retain, correlation_data in copies:
            properties = _properties(delivery.expires_at, correlation_data)
            message_id = link.publish(topic, payload, delivery.qos, retain=retain, properties=properties)
            if message_id is None:
                # The link is down, and the event that says so is on the way.
                self._take_back([delivery])
                return
            delivery.copies_under_way += 1
            self._sent[message_id] = delivery

    def _answered(self, message_id: int, refusal: str) -> None:
        delivery = self._sent.pop(message_id, None)
        if delivery is None:
            return
        delivery.copies_under_way -= 1
        delivery.refusal = delivery.refusal or refusal
        if delivery.copies_under_way:
            return
        if delivery.refusal:
            self._give_up(delivery, "refused", delivery.refusal)
            return
        self._counters(delivery.pipeline).acknowledge()
        self._finished(delivery)

    def _connected(self, link: Link) -> None:
        self._disconnected()
        self._link = link
        self._replay_from = 0
        if len(self._disk) and not self._disk_problem:
            self._save()
            return
        # A short absence: what was not saved yet goes out now, in order, and never touches the disk.
        waiting, self._unsaved = self._unsaved, deque()
        for delivery in waiting:
            self._send(link, delivery, replayed=True)

    def _disconnected(self) -> None:
        self._link = None
        lost, self._sent = self._sent, {}
        self._take_back(dict.fromkeys(lost.values()))

    def _take_back(self, deliveries: Iterable[Delivery]) -> None:
        """What was sent over a connection that is gone, and not acknowledged, waits again."""
        for delivery in deliveries:
            delivery.copies_under_way = 0
            if delivery.row_id is None:
                self._keep(delivery)

    def _keep(self, delivery: Delivery) -> None:
        if not self._unsaved:
            self._save_at = max(self._save_at, time.monotonic() + COMMIT_EVERY)
        self._unsaved.append(delivery)
        if not self._disk_problem:
            if len(self._unsaved) >= COMMIT_AT:
                self._save()
        elif len(self._unsaved) > MAX_IN_MEMORY:
            oldest = self._options.when_full == "drop_oldest"
            self._give_up(self._unsaved.popleft() if oldest else self._unsaved.pop(), "outbox_full")

    def _save(self) -> None:
        """Moves what waits in memory to the disk."""
        batch, self._unsaved = list(self._unsaved), deque()
        rows = [_row(delivery) for delivery in batch]
        try:
            kept, dropped = self._disk.append(rows, drop_oldest=self._options.when_full == "drop_oldest")
        except OSError as error:
            self._unsaved.extend(batch)
            self._save_at = time.monotonic() + DISK_RETRY
            if not self._disk_problem:
                log.error("the outbox can't be written, the latest results wait in memory: %s", error)
            self._disk_problem = str(error)
            return
        if self._disk_problem:
            log.info("the outbox can be written again")
            self._disk_problem = ""
        for pipeline, count in dropped.items():
            self._counters(pipeline).discard("outbox_full", count)
        for delivery in batch[:kept]:
            self._finished(delivery)
        for delivery in batch[kept:]:
            self._give_up(delivery, "outbox_full")

    def _replay(self, link: Link) -> None:
        """Sends the next of the results on the disk, as many as the rate and the window allow."""
        under_way = sum(delivery.row_id is not None for delivery in self._sent.values())
        limit = min(REPLAY_WINDOW - under_way, max(1, int(self._options.replay_rate * REPLAY_TICK)))
        batch = self._disk.after(self._replay_from, limit)
        for row_id, row in batch:
            self._replay_from = row_id
            delivery = _delivery(row_id, row)
            if row.expires_at is not None and row.expires_at < time.time():
                self._give_up(delivery, "expired")
            else:
                self._send(link, delivery, replayed=True)
        if len(self._delivered_rows) >= REMOVE_AT or not under_way:
            self._remove_delivered()
        self._replay_at = time.monotonic() + max(REPLAY_TICK, len(batch) / self._options.replay_rate)

    def _remove_delivered(self) -> None:
        done, self._delivered_rows = self._delivered_rows, []
        try:
            self._disk.remove(done)
        except OSError as error:
            log.warning("delivered results stay in the outbox and may be sent again: %s", error)

    def _finished(self, delivery: Delivery) -> None:
        """The delivery is safe, or given up for good."""
        if delivery.row_id is not None:
            self._delivered_rows.append(delivery.row_id)
            return
        if delivery.settle is not None:
            delivery.settle()
        with self._hands:
            self._in_hand -= 1
            self._hands.notify_all()

    def _give_up(self, delivery: Delivery, reason: Discarded, why: str = "") -> None:
        if why:
            log.warning("%s: a result is given up: the broker refuses it: %s", delivery.topic, why)
        self._counters(delivery.pipeline).discard(reason)
        self._finished(delivery)


def _payload(delivery: Delivery, *, replayed: bool) -> bytes:
    document = delivery.document | {"replayed": True} if replayed else delivery.document
    return json.dumps(document, separators=(",", ":")).encode()


def _properties(expires_at: float | None, correlation_data: bytes | None) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "application/json"
    if expires_at is not None:
        properties.MessageExpiryInterval = max(1, round(expires_at - time.time()))
    if correlation_data is not None:
        properties.CorrelationData = correlation_data
    return properties


def _row(delivery: Delivery) -> Row:
    reply_to = delivery.reply_to
    return Row(
        pipeline=delivery.pipeline,
        topic=delivery.topic,
        payload=_payload(delivery, replayed=True),
        qos=delivery.qos,
        retain=delivery.retain,
        expires_at=delivery.expires_at,
        reply_topic=reply_to.topic if reply_to else None,
        correlation_data=reply_to.correlation_data if reply_to else None,
    )


def _delivery(row_id: int, row: Row) -> Delivery:
    return Delivery(
        pipeline=row.pipeline,
        topic=row.topic,
        document=json.loads(row.payload),
        qos=row.qos,
        retain=row.retain,
        expires_at=row.expires_at,
        reply_to=ReplyTo(row.reply_topic, row.correlation_data) if row.reply_topic else None,
        row_id=row_id,
    )
