"""Results on their way to the broker.

While the broker is there, results go straight out and nothing touches the disk. While it is away, they wait in the
backlog, on disk; after it has come back they are sent in order, marked as replayed, at a bounded rate, beside the live
ones. One thread, the courier, owns all of this; everything reaches it through one queue, so that no lock is ever held
while something is published, and an acknowledgement can't come before what it acknowledges is on record.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.properties import Properties

from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.mqtt.backlog import Backlog
from edge_agent.mqtt.delivery import MAX_HEADER, Copy, Delivery, json_properties
from edge_agent.mqtt.link import Link
from edge_agent.mqtt.reasons import Refusal
from edge_agent.mqtt.retry import PoisonMessageDetector, QuotaBackoff

log = logging.getLogger(__name__)

# Results that may be under way to the broker or to the disk at a time; whoever brings one more waits.
MAX_IN_HAND = 64
# What waits for the broker is written to the disk after so many seconds, or when there are so many.
COMMIT_EVERY = 0.5
COMMIT_AT = 32
# A broker that is connected but has answered nothing for so long is treated as away.
STALLED_AFTER = 2.0
# At most so many replayed results are under way, and never more than half of what the broker allows: a live result
# waits behind no more of them than that.
REPLAY_WINDOW = 32
# Bytes of notices that wait; more can come together only while a broker is connected and does not answer.
MAX_NOTICES_SIZE = 4_000_000


class Notice(NamedTuple):
    """A message that is of no use later: not kept while the broker is away."""

    topic: str
    payload: bytes | str
    retain: bool = False
    correlation_data: bytes | None = None

    def properties(self) -> Properties | None:
        """Its MQTT 5 properties."""
        return json_properties(self.correlation_data) if self.correlation_data else None

    def answered(self, refusal: Refusal | None) -> None:
        """The broker has acknowledged it, or refused it."""
        if refusal is not None:
            log.warning("%s: the broker refuses a message about this device: %s", self.topic, refusal.why)


class Outbox:
    """Takes results and sees to it that each is acknowledged by the broker, waits, or is counted as discarded.

    Args:
        options: of the configuration.
        path: of the database file.
        counters: of a pipeline, by its name.
    """

    def __init__(self, options: settings.Outbox, path: Path, counters: Callable[[str], Counters]) -> None:
        self._counters = counters
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._hands = threading.Condition()
        self._in_hand = 0
        self._backlog = Backlog(options, path, counters, self._finished)
        self._notices: deque[Notice] = deque()
        self._link: Link | None = None
        # The copies that are still to be sent of the latest result; and by message id what the broker has not
        # acknowledged yet.
        self._copies: deque[Copy] = deque()
        self._in_flight: dict[int, Notice | Copy] = {}
        # Whether the broker has answered anything over this link; and when it last did, or was last given something
        # after it had answered everything.
        self._heard = False
        self._heard_at = 0.0
        self._overtaken: set[str] = set()
        self._quota = QuotaBackoff()
        self._poison = PoisonMessageDetector()
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self, *, restore: bool = True) -> None:
        """Takes up results that were left on the disk, and begins to work.

        Args:
            restore: count them; False when they are from this run and so are counted already.
        """
        self._backlog.open(restore=restore)
        self._thread.start()

    def put(self, delivery: Delivery) -> None:
        """Accepts a result, which has been counted as produced. Waits while too many are in hand."""
        with self._hands:
            self._hands.wait_for(lambda: self._in_hand < MAX_IN_HAND)
            self._in_hand += 1
        self._events.put(lambda: self._accept(delivery))

    def notify(
        self, topic: str, payload: bytes | str, *, retain: bool = False, correlation_data: bytes | None = None
    ) -> None:
        """Publishes what is of no use later, at QoS 1; it is dropped if the broker is away. Never waits."""
        notice = Notice(topic, payload, retain, correlation_data)
        self._events.put(lambda: self._add_notices([notice]))

    def facts(self) -> dict[str, Any]:
        """How many results are in hand and on the disk, and what is wrong with the disk, if anything."""
        return {"in_hand": self._in_hand, **self._backlog.facts()}

    def drain(self, timeout: float) -> bool:
        """Waits until nothing is in hand any more: delivered, on the disk, or given up; False if that takes too long.

        Args:
            timeout: seconds.
        """
        with self._hands:
            return self._hands.wait_for(lambda: self._in_hand == 0, timeout)

    def link_up(self, link: Link, notices: Iterable[Notice] = ()) -> None:
        """The broker is there.

        Args:
            link: the connection.
            notices: what it is told before anything else.
        """
        self._events.put(lambda: self._connected(link, notices))

    def link_down(self) -> None:
        """The broker is gone."""
        self._events.put(self._disconnected)

    def acknowledged(self, message_id: int, refusal: Refusal | None) -> None:
        """The broker has answered a message, by taking it or with a refusal."""
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
        while self._deadline is None or (self._busy() and time.monotonic() < self._deadline):
            try:
                with contextlib.suppress(queue.Empty):
                    self._events.get(timeout=self._patience())()
                self._step()
            except Exception:
                log.exception("a defect in edge-agent: results may be late")
                time.sleep(1.0)  # it may be met again at once
        self._disconnected()
        self._backlog.close()

    def _busy(self) -> bool:
        """Whether something can still be delivered that is not on the disk."""
        if not self._events.empty():
            return True
        under_way = (*self._notices, *self._copies, *self._in_flight.values())
        from_memory = any(isinstance(item, Notice) or item.completion.delivery.row_id is None for item in under_way)
        return self._link is not None and (from_memory or bool(self._backlog.in_memory))

    def _patience(self) -> float | None:
        """Seconds until there is something to do without an event; None: nothing."""
        moments = [] if self._deadline is None else [self._deadline]
        if self._backlog.in_memory:
            moments.append(self._save_at())
        if self._backlog.problem:
            moments.append(self._backlog.retry_at)
        if self._link is not None and self._room(self._link):
            replay_at = self._backlog.replay_at(_replay_window(self._link))
            moments += [] if replay_at is None else [max(replay_at, self._quota.until)]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _step(self) -> None:
        """Does what can be done now."""
        now = time.monotonic()
        if self._link is None:
            self._notices.clear()
        elif now >= self._quota.until:
            self._send_what_fits(self._link)
        if self._backlog.problem and now >= self._backlog.retry_at:
            self._backlog.retry()
        elif self._backlog.in_memory and now >= self._save_at():
            self._backlog.save()

    def _save_at(self) -> float:
        """When what waits in memory goes to the disk."""
        backlog = self._backlog
        if backlog.problem:
            return backlog.retry_at
        full = backlog.waiting_since + (COMMIT_EVERY if len(backlog.in_memory) < COMMIT_AT else 0.0)
        away = self._link is None or self._quota.active
        return full if away else max(full, self._heard_at + STALLED_AFTER)

    def _accept(self, delivery: Delivery) -> None:
        delivery.replayed = self._link is None
        self._backlog.accept(delivery)
        if self._backlog.problem and self._link is None:
            self._backlog.trim()

    def _add_notices(self, notices: Iterable[Notice]) -> None:
        self._notices.extend(notices)
        while sum(len(notice.payload) for notice in self._notices) > MAX_NOTICES_SIZE:
            self._notices.popleft()

    def _send_what_fits(self, link: Link) -> None:
        while self._link is link and (room := self._room(link)):
            if self._notices:
                notice = self._notices.popleft()
                self._publish(link, notice, 1, retain=notice.retain)
            elif self._copies:
                self._send_copy(link, self._copies[0])
            else:
                # The last place is for what has waited long, so that a busy pipeline can't keep it waiting for ever.
                last_place = room == 1 < link.receive_maximum
                delivery = self._backlog.next(_replay_window(link), replay_first=last_place)
                if delivery is None:
                    return
                self._begin(link, delivery)

    def _room(self, link: Link) -> int:
        """How many messages the broker takes now."""
        return max(0, (1 if self._quota.active or self._poison.active else link.receive_maximum) - len(self._in_flight))

    def _begin(self, link: Link, delivery: Delivery) -> None:
        """Has a result sent, copy by copy, unless that would be in vain."""
        if delivery.expired():
            self._backlog.give_up(delivery, "expired")
            return
        copies = delivery.copies(self._completed)
        may_be_too_large = len(copies[0].payload) + MAX_HEADER > link.max_packet_size
        if may_be_too_large and (size := max(copy.packet_size() for copy in copies)) > link.max_packet_size:
            why = f"{size} bytes, the broker takes {link.max_packet_size}: raise its maximum packet size"
            self._refused(delivery, why)
            return
        self._copies.extend(copies)

    def _send_copy(self, link: Link, copy: Copy) -> None:
        delivery = copy.completion.delivery
        retain = copy.retain and not (delivery.replayed and copy.topic in self._overtaken)
        if retain and not delivery.replayed:
            self._overtaken.add(copy.topic)
        if self._publish(link, copy, delivery.qos, retain=retain):
            self._copies.popleft()

    def _publish(self, link: Link, message: Notice | Copy, qos: int, *, retain: bool) -> bool:
        """Returns whether the link is still up."""
        try:
            message_id = link.publish(
                message.topic, message.payload, qos, retain=retain, properties=message.properties()
            )
        except ValueError as error:  # a response topic that nobody can publish to
            message.answered(Refusal(str(error), for_now=False))
            return True
        if message_id is None:  # the event that says so is on its way
            self._disconnected()
            return False
        if not self._in_flight:
            self._heard_at = time.monotonic()
        self._in_flight[message_id] = message
        return True

    def _answered(self, message_id: int, refusal: Refusal | None) -> None:
        if (message := self._in_flight.pop(message_id, None)) is not None:
            self._heard, self._heard_at = True, time.monotonic()
            message.answered(refusal)

    def _completed(self, delivery: Delivery, refusal: Refusal | None) -> None:
        """The broker has answered every copy of a result."""
        self._poison.acknowledged()
        if refusal is None:
            self._counters(delivery.pipeline).acknowledge()
            self._finished(delivery)
            self._quota.acknowledged()
        elif refusal.for_now:
            self._quota.refused(refusal)
            delivery.replayed = True
            self._backlog.put_back([delivery])
        else:
            self._refused(delivery, refusal.why)

    def _refused(self, delivery: Delivery, why: str) -> None:
        log.warning("%s: a result is given up: the broker refuses it: %s", delivery.topic, why)
        self._backlog.give_up(delivery, "refused")

    def _connected(self, link: Link, notices: Iterable[Notice]) -> None:
        self._disconnected()
        self._link = link
        self._add_notices(notices)
        # After a short absence, what waits in memory goes out now and never touches the disk. After a longer one it
        # has to queue up behind what is on the disk.
        if self._backlog.on_disk and not self._backlog.problem:
            self._backlog.save()

    def _disconnected(self) -> None:
        self._link = None
        self._quota.reset()
        self._overtaken.clear()
        self._notices.clear()
        sent = (*self._in_flight.values(), *self._copies)
        lost = list(dict.fromkeys(item.completion.delivery for item in sent if isinstance(item, Copy)))
        self._in_flight.clear()
        self._copies.clear()
        for delivery in lost:
            delivery.replayed = True
        if lost and self._poison.disconnected(lost[0], worked=self._heard):
            size = len(lost[0].payload())
            self._refused(lost.pop(0), f"it hangs up on it ({size} bytes): is that more than it takes?")
        self._heard = False
        self._backlog.put_back(lost)
        self._backlog.remove_done()

    def _finished(self, delivery: Delivery) -> None:
        """A result is safe, or given up for good."""
        if delivery.row_id is not None:
            self._backlog.done(delivery)
            return
        if delivery.on_done is not None:
            delivery.on_done()
        with self._hands:
            self._in_hand -= 1
            self._hands.notify_all()


def _replay_window(link: Link) -> int:
    return max(1, min(REPLAY_WINDOW, link.receive_maximum // 2))
