"""Publishes results at QoS 1 and keeps each until the broker has acknowledged it.

While the broker is connected, results are published at once and nothing is written to the disk. While it is away, they
wait in the backlog, on the disk. After a reconnect they are replayed in order, marked as replayed, at a bounded rate,
beside the live ones.

All bookkeeping is done by one thread at a time, event by event (`EventQueue`): no thread waits for another one, and a
PUBACK can't be processed before the message that it belongs to is on record. While results are published at once, it is
the thread that brings the event. While the broker is away or results are on the disk, it is the outbox's own: no other
thread waits for the disk.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.mqtt.backlog import Backlog
from edge_agent.mqtt.delivery import MAX_HEADER, Copy, Delivery, Notice
from edge_agent.mqtt.event_queue import EventQueue
from edge_agent.mqtt.in_flight import InFlight
from edge_agent.mqtt.link import Link
from edge_agent.mqtt.reasons import Refusal
from edge_agent.mqtt.retry import PoisonMessageDetector, QuotaBackoff

log = logging.getLogger(__name__)

# Results that may be neither acknowledged nor on the disk; `put` blocks while there are this many.
MAX_PENDING = 64
# Results that wait for the broker are written to the disk after this many seconds, or when there are this many.
COMMIT_EVERY = 0.5
COMMIT_AT = 32
# Seconds without a PUBACK after which a connected broker is treated as away.
STALLED_AFTER = 2.0
# Replayed results without a PUBACK at a time, but never more than half of the broker's receive maximum: a live result
# waits behind no more of them than that.
REPLAY_WINDOW = 32
# Bytes of notices that wait; this is reached only while a broker is connected and does not acknowledge.
MAX_NOTICES_SIZE = 4_000_000


class Outbox:
    """Accepts results; each is acknowledged by the broker, stored on the disk, or counted as discarded.

    Args:
        options: settings of the outbox.
        path: the database file.
        counters: returns the counters of a pipeline, by its name.
    """

    def __init__(self, options: settings.Outbox, path: Path, counters: Callable[[str], Counters]) -> None:
        self._counters = counters
        self._events = EventQueue(
            may_handle=self._is_steady,
            handled=self._send,
            work=self._keep,
            due_at=self._due_at,
            is_over=self._is_over,
        )
        self._pending = 0
        self._pending_changed = threading.Condition()
        self._backlog = Backlog(options, path, counters, self._done)
        self._notices: deque[Notice] = deque()
        self._link: Link | None = None
        self._copies: deque[Copy] = deque()  # of one result, that are still to be published
        self._in_flight: InFlight[Notice | Copy] = InFlight()
        # Topics on which a live result was retained over this connection: an older one must not replace it.
        self._retained: set[str] = set()
        self._quota = QuotaBackoff()
        self._poison = PoisonMessageDetector()
        self._stop_at: float | None = None
        self._closed = False
        self._successor: Outbox | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self, *, restore: bool = True) -> None:
        """Opens what was left on the disk, and starts the thread.

        Args:
            restore: whether to count the results on the disk; False: they are from this run and counted already.
        """
        self._backlog.open(restore=restore)
        self._thread.start()

    def put(self, delivery: Delivery) -> None:
        """Accepts a result, which has been counted as produced. Blocks while `MAX_PENDING` are pending.

        After `stop`, it is passed on to the successor. Without one it can neither be delivered nor saved, and its
        input is left to its sender.
        """
        with self._pending_changed:
            while self._pending >= MAX_PENDING and not self._closed:
                self._pending_changed.wait()
            accepted = not self._closed
            if accepted:
                self._pending += 1
                self._events.add(lambda: self._accept(delivery))
        if accepted:
            self._events.handle()
        elif self._successor is not None:
            self._successor.put(delivery)
        else:
            log.error("%s: a result is lost: it has come after the end", delivery)
            self._lost(delivery)

    def notify(
        self,
        topic: str,
        payload: bytes | str,
        *,
        retain: bool = False,
        correlation_data: bytes | None = None,
        senders: tuple[str, ...] = (),
    ) -> None:
        """Publishes a notice (see there) at QoS 1; it is dropped if the broker is away. Never blocks."""
        if self._closed and self._successor is not None:
            self._successor.notify(topic, payload, retain=retain, correlation_data=correlation_data, senders=senders)
            return
        notice = Notice(topic, payload, retain, correlation_data, senders)
        self._handle(lambda: self._add_notices([notice]))

    def facts(self) -> dict[str, Any]:
        """How many results are pending and on the disk, and the disk's problem, if any; from any thread."""
        return {"in_hand": self._pending, **self._backlog.facts()}

    def drain(self, timeout: float) -> bool:
        """Waits until nothing is pending: all is acknowledged, on the disk or discarded.

        Args:
            timeout: seconds.

        Returns:
            False if that takes longer.
        """
        with self._pending_changed:
            return self._pending_changed.wait_for(lambda: self._pending == 0, timeout)

    def link_up(self, link: Link, notices: Iterable[Notice] = ()) -> None:
        """The broker is connected.

        Args:
            link: the connection.
            notices: published before anything else.
        """
        self._handle(lambda: self._connected(link, notices))

    def link_down(self) -> None:
        """The connection is lost."""
        self._handle(self._disconnected)

    def acknowledged(self, message_id: int, refusal: Refusal | None) -> None:
        """A PUBACK has come; `refusal`: its reason code is a failure."""
        self._handle(lambda: self._acknowledged(message_id, refusal))

    def stop(self, timeout: float, successor: "Outbox | None" = None) -> None:
        """Publishes what is pending, or stores it on the disk; ends the thread.

        Args:
            timeout: seconds to wait for PUBACKs; results without one are stored then.
            successor: takes what comes later, such as the result of an inference that is still running.
        """
        self._successor = successor
        self._stop_at = time.monotonic() + timeout
        self._events.wake()
        self._thread.join(timeout + 2)

    def _handle(self, event: Callable[[], None]) -> None:
        self._events.add(event)
        self._events.handle()

    def _run(self) -> None:
        self._events.run()
        with self._pending_changed:
            self._closed = True
            self._pending_changed.notify_all()
        with self._events.last():
            self._disconnected()
            self._backlog.close()
        for delivery in self._backlog.in_memory:  # the disk can't be written
            if self._successor is not None:
                self._successor.put(delivery)
            else:
                self._lost(delivery)

    # Everything below runs in one thread at a time.

    def _is_steady(self) -> bool:
        """Whether results are published at once, without the disk."""
        return self._link is not None and self._stop_at is None and not self._backlog.uses_disk

    def _is_over(self) -> bool:
        return self._stop_at is not None and (not self._busy() or time.monotonic() >= self._stop_at)

    def _busy(self) -> bool:
        """Whether something that is not on the disk can still be published or acknowledged."""
        if self._events:
            return True
        messages = (*self._notices, *self._copies, *self._in_flight.messages)
        unsaved = any(isinstance(item, Notice) or item.completion.delivery.row_id is None for item in messages)
        return self._link is not None and (unsaved or bool(self._backlog.in_memory))

    def _due_at(self) -> float:
        """When there is something to do without an event, on the monotonic clock; infinite: never."""
        moments = [] if self._stop_at is None else [self._stop_at]
        if self._backlog.in_memory:
            moments.append(self._save_at())
        if self._backlog.problem:
            moments.append(self._backlog.retry_at)
        if self._in_flight:
            moments.append(self._in_flight.overdue_at())
        if self._backlog.on_disk and self._link is not None and self._room(self._link):
            replay_at = self._backlog.replay_at(_replay_window(self._link))
            moments += [] if replay_at is None else [max(replay_at, self._quota.until)]
        return min(moments, default=math.inf)

    def _send(self) -> None:
        """Publishes what can be published now."""
        if self._link is None:
            self._notices.clear()
        elif time.monotonic() >= self._quota.until:
            self._send_what_fits(self._link)

    def _keep(self) -> None:
        """Moves results to the disk, and looks after those without a PUBACK."""
        now = time.monotonic()
        if self._link is not None and now >= self._in_flight.overdue_at():
            self._reconnect_if_overdue(self._link)
        if self._backlog.problem and now >= self._backlog.retry_at:
            self._backlog.retry()
        elif self._backlog.in_memory and now >= self._save_at():
            self._backlog.save()

    def _save_at(self) -> float:
        """When the results in memory go to the disk, on the monotonic clock."""
        backlog = self._backlog
        if backlog.problem:
            return backlog.retry_at
        full = backlog.waiting_since + (COMMIT_EVERY if len(backlog.in_memory) < COMMIT_AT else 0.0)
        away = self._link is None or self._quota.active
        return full if away else max(full, self._in_flight.quiet_since + STALLED_AFTER)

    def _accept(self, delivery: Delivery) -> None:
        delivery.replayed = self._link is None
        self._backlog.accept(delivery)
        log.debug("%s: queued", delivery)
        if self._backlog.problem and self._link is None:
            self._backlog.trim()

    def _add_notices(self, notices: Iterable[Notice]) -> None:
        self._notices.extend(notices)
        while sum(len(notice.payload) for notice in self._notices) > MAX_NOTICES_SIZE:
            self._notices.popleft()

    def _send_what_fits(self, link: Link) -> None:
        while self._waits() and self._link is link and (room := self._room(link)):
            if self._notices:
                notice = self._notices.popleft()
                self._publish(link, notice, 1, retain=notice.retain)
            elif self._copies:
                self._send_copy(link, self._copies[0])
            else:
                # The last free place is for the results on the disk, so that a busy pipeline can't block the replay.
                last_place = room == 1 < link.receive_maximum
                delivery = self._backlog.next(_replay_window(link), replay_first=last_place)
                if delivery is None:
                    return
                self._begin(link, delivery)

    def _waits(self) -> bool:
        """Whether there is something to publish."""
        return bool(self._notices or self._copies or self._backlog)

    def _room(self, link: Link) -> int:
        """How many messages may be published now: MQTT's receive maximum, less those without a PUBACK."""
        return max(0, (1 if self._quota.active or self._poison.active else link.receive_maximum) - len(self._in_flight))

    def _begin(self, link: Link, delivery: Delivery) -> None:
        """Makes the copies of a result, unless it is too old or too large."""
        if delivery.expired():
            self._backlog.discard(delivery, "expired")
            return
        copies = delivery.copies(self._completed)
        may_be_too_large = len(copies[0].payload) + MAX_HEADER > link.max_packet_size
        if (
            may_be_too_large
            and (size := max(copy.packet_size(link.device_id) for copy in copies)) > link.max_packet_size
        ):
            why = f"{size} bytes, the broker takes {link.max_packet_size}: raise its maximum packet size"
            self._refused(delivery, why)
            return
        self._copies.extend(copies)

    def _send_copy(self, link: Link, copy: Copy) -> None:
        delivery = copy.completion.delivery
        retain = copy.retain and not (delivery.replayed and copy.topic in self._retained)
        if retain and not delivery.replayed:
            self._retained.add(copy.topic)
        if self._publish(link, copy, delivery.qos, retain=retain):
            self._copies.popleft()

    def _publish(self, link: Link, message: Notice | Copy, qos: int, *, retain: bool) -> bool:
        """Returns whether the connection is still up."""
        try:
            message_id = link.publish(
                message.topic, message.payload, qos, retain=retain, properties=message.properties()
            )
        except ValueError as error:  # a response topic that can't be published to
            message.acknowledged(Refusal(str(error), for_now=False))
            return True
        if message_id is None:  # the event of the lost connection is still in the queue
            self._disconnected()
            return False
        log.debug("%s: published to %s as mid %d", message, message.topic, message_id)
        self._in_flight.published(message_id, message)
        return True

    def _reconnect_if_overdue(self, link: Link) -> None:
        """Has the connection made again if the broker has forgotten a PUBACK: all without one is sent again then."""
        if reason := self._in_flight.overdue(delivered=link.delivered()):
            link.reconnect(reason)

    def _acknowledged(self, message_id: int, refusal: Refusal | None) -> None:
        if (message := self._in_flight.acknowledged(message_id)) is not None:
            log.debug("%s: mid %d: PUBACK%s", message, message_id, f": {refusal.why}" if refusal else "")
            message.acknowledged(refusal)

    def _completed(self, delivery: Delivery, refusal: Refusal | None) -> None:
        """Every copy of a result is acknowledged or refused."""
        self._poison.acknowledged()
        if refusal is None:
            self._counters(delivery.pipeline).acknowledge()
            self._done(delivery)
            self._quota.acknowledged()
        elif refusal.for_now:
            self._quota.refused(refusal)
            delivery.replayed = True
            self._backlog.put_back([delivery])
        else:
            self._refused(delivery, refusal.why)

    def _refused(self, delivery: Delivery, why: str) -> None:
        log.warning("%s: a result is given up: the broker refuses it: %s", delivery.topic, why)
        self._backlog.discard(delivery, "refused")

    def _connected(self, link: Link, notices: Iterable[Notice]) -> None:
        self._disconnected()
        self._link = link
        self._add_notices(notices)
        # After a short interruption the results in memory are published now and never written to the disk. If there are
        # results on the disk, those in memory have to queue up behind them.
        if self._backlog.on_disk and not self._backlog.problem:
            self._backlog.save()

    def _disconnected(self) -> None:
        self._link = None
        self._quota.reset()
        self._retained.clear()
        self._notices.clear()
        messages = (*self._in_flight.messages, *self._copies)
        worked, by_us = self._in_flight.worked, self._in_flight.given_up
        lost = list(dict.fromkeys(item.completion.delivery for item in messages if isinstance(item, Copy)))
        self._in_flight.clear()
        self._copies.clear()
        for delivery in lost:
            delivery.replayed = True
        if lost and self._poison.disconnected(lost[0], worked=worked, by_us=by_us):
            size = len(lost[0].payload())
            self._refused(
                lost.pop(0), f"it hangs up on it, or never acknowledges it ({size} bytes): is that more than it takes?"
            )
        self._backlog.put_back(lost)
        self._backlog.remove_done()

    def _done(self, delivery: Delivery) -> None:
        """A result is acknowledged by the broker, on the disk, or discarded."""
        if delivery.row_id is not None:
            self._backlog.done(delivery)
            return
        if delivery.settlement is not None:
            delivery.settlement.done()
        with self._pending_changed:
            self._pending -= 1
            self._pending_changed.notify_all()

    def _lost(self, delivery: Delivery) -> None:
        """A result can neither be delivered nor saved; a sender that waits delivers its input again."""
        self._counters(delivery.pipeline).discard("outbox_full")
        if delivery.settlement is not None:
            delivery.settlement.return_to_sender()


def _replay_window(link: Link) -> int:
    return max(1, min(REPLAY_WINDOW, link.receive_maximum // 2))
