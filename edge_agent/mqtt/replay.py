"""Results on the disk, published in order and at a bounded rate."""

import logging
import time
from collections import Counter, deque

from edge_agent.mqtt.delivery import Delivery, from_row
from edge_agent.mqtt.disk_queue import DiskQueue

log = logging.getLogger(__name__)

# Rows read from the disk at a time.
_BATCH = 32
# Acknowledged results are removed from the disk when there are this many, or when nothing else is left.
_REMOVE_AT = 100
# How far the replay may catch up with its rate after a delay, in seconds.
_LEEWAY = 0.05
# Seconds until the disk is read again after a failure.
_AFTER_FAILURE = 1.0
# Row id of a result whose row is lost; SQLite's begin at 1.
_NO_ROW = 0


class Replay:
    """Knows which of the results on the disk comes next, which are in flight (without a PUBACK), and which are done.

    Args:
        disk: the results.
        rate: most results a second.
    """

    def __init__(self, disk: DiskQueue, rate: float) -> None:
        self._disk = disk
        self._interval = 1 / rate
        self._next_at = 0.0
        self._read_up_to = 0
        self._read: deque[Delivery] = deque()
        self._in_flight: dict[int, Delivery] = {}
        self._done: dict[int, str] = {}

    def due_at(self, window: int) -> float | None:
        """When the next result may be taken, on the monotonic clock; None: not before a PUBACK, or there is none.

        Args:
            window: most results in flight at a time.
        """
        waiting = len(self._disk) - len(self._done) - len(self._in_flight)
        return self._next_at if waiting > 0 and len(self._in_flight) < window else None

    def take(self, window: int) -> Delivery | None:
        """The next result, if it is due; it is in flight then.

        Raises:
            OSError: the disk is failing.
        """
        now, due_at = time.monotonic(), self.due_at(window)
        if due_at is None or now < due_at:
            return None
        if not self._read and not self._read_more():
            return None
        delivery = self._read.popleft()
        self._in_flight[delivery.row_id or _NO_ROW] = delivery
        self._next_at = max(self._next_at, now - _LEEWAY) + self._interval
        log.debug("%s: replayed from the disk", delivery)
        return delivery

    def _read_more(self) -> bool:
        """Whether there is more; if the disk fails, or lacks rows that it should have, it is read again later."""
        regular, self._next_at = self._next_at, time.monotonic() + _AFTER_FAILURE
        for row_id, row in self._disk.after(self._read_up_to, _BATCH):
            self._read_up_to = row_id
            if row_id not in self._done and row_id not in self._in_flight:
                self._read.append(from_row(row_id, row))
        if not self._read:
            self._read_up_to = 0
            return False
        self._next_at = regular
        return True

    def done(self, delivery: Delivery) -> None:
        """The result is acknowledged or discarded."""
        if delivery.row_id:
            self._in_flight.pop(delivery.row_id, None)
            self._done[delivery.row_id] = delivery.pipeline

    def put_back(self, delivery: Delivery) -> bool:
        """The result was not acknowledged: it comes again, in its order; False if its row is lost."""
        self._read_up_to = 0
        self._read.clear()
        return self._in_flight.pop(delivery.row_id or _NO_ROW, None) is not None

    def in_flight(self) -> list[int]:
        """The row ids of the results in flight."""
        return list(self._in_flight)

    def remove_done(self, *, now: bool = False) -> None:
        """Removes acknowledged results from the disk: now, or once there are `_REMOVE_AT`.

        Raises:
            OSError: the disk is failing; the rows are still there, and will be removed later.
        """
        if self._done and (now or len(self._done) >= _REMOVE_AT or len(self._done) == len(self._disk)):
            self._disk.remove(self._done)
            log.debug("%d acknowledged results removed from the disk", len(self._done))
            self._done.clear()
            if not len(self._disk):
                self._read_up_to = 0  # row ids start again in the next file

    def forget(self, lost: Counter[str]) -> Counter[str]:
        """The file is damaged and has been set aside.

        Args:
            lost: how many results of each pipeline were in it.

        Returns:
            How many of those are lost: without those that are acknowledged, or in flight and may still be.
        """
        known = [*self._done.values(), *(delivery.pipeline for delivery in self._in_flight.values())]
        for delivery in self._in_flight.values():
            delivery.row_id = _NO_ROW
        self._in_flight.clear()
        self._done.clear()
        self._read_up_to = 0
        self._read.clear()
        return lost - Counter(known)
