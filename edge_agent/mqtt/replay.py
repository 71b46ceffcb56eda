"""Results that have waited on the disk, taken from there in order and at a bounded rate."""

import time
from collections import Counter, deque

from edge_agent.mqtt.delivery import Delivery, from_row
from edge_agent.mqtt.disk_queue import DiskQueue

# Results read from the disk at a time.
_BATCH = 32
# Delivered results are taken off the disk when there are so many, or no more to deliver.
_REMOVE_AT = 100
# How far the rate may be caught up with after a late turn, in seconds.
_LEEWAY = 0.05
_AFTER_FAILURE = 1.0
# The id of a result whose place on the disk is lost.
_NOWHERE = 0


class Replay:
    """Which of the results on the disk come next, are under way, or are done with.

    Args:
        disk: where they are.
        rate: most results a second.
    """

    def __init__(self, disk: DiskQueue, rate: float) -> None:
        self._disk = disk
        self._interval = 1 / rate
        self._next_at = 0.0
        self._read_up_to = 0
        self._read: deque[Delivery] = deque()
        self._under_way: dict[int, Delivery] = {}
        self._done: dict[int, str] = {}

    def due_at(self, window: int) -> float | None:
        """When the next result may be taken, on the monotonic clock; None if that hangs on something else.

        Args:
            window: most results under way at a time.
        """
        waiting = len(self._disk) - len(self._done) - len(self._under_way)
        return self._next_at if waiting > 0 and len(self._under_way) < window else None

    def take(self, window: int) -> Delivery | None:
        """The next result, if it is due; it is under way then.

        Raises:
            OSError: the disk is failing.
        """
        now, due_at = time.monotonic(), self.due_at(window)
        if due_at is None or now < due_at:
            return None
        if not self._read and not self._read_more():
            return None
        delivery = self._read.popleft()
        self._under_way[delivery.row_id or _NOWHERE] = delivery
        self._next_at = max(self._next_at, now - _LEEWAY) + self._interval
        return delivery

    def _read_more(self) -> bool:
        """Whether there is more; if the disk fails, or has not what it should have, it is left alone for a while."""
        regular, self._next_at = self._next_at, time.monotonic() + _AFTER_FAILURE
        for row_id, row in self._disk.after(self._read_up_to, _BATCH):
            self._read_up_to = row_id
            if row_id not in self._done and row_id not in self._under_way:
                self._read.append(from_row(row_id, row))
        if not self._read:
            self._read_up_to = 0
            return False
        self._next_at = regular
        return True

    def done(self, delivery: Delivery) -> None:
        """The result is with the broker, or given up."""
        if delivery.row_id:
            self._under_way.pop(delivery.row_id, None)
            self._done[delivery.row_id] = delivery.pipeline

    def again(self, delivery: Delivery) -> bool:
        """The broker has not taken the result: it will come again, in its place; False if it has no place any more."""
        self._read_up_to = 0
        self._read.clear()
        return self._under_way.pop(delivery.row_id or _NOWHERE, None) is not None

    def under_way(self) -> list[int]:
        """The ids of the results that are under way."""
        return list(self._under_way)

    def remove_done(self, *, all_of_them: bool = False) -> None:
        """Takes what is done off the disk: now, or when it is worth the while.

        Raises:
            OSError: the disk is failing; the results are still there, and will be tried again.
        """
        if self._done and (all_of_them or len(self._done) >= _REMOVE_AT or len(self._done) == len(self._disk)):
            self._disk.remove(self._done)
            self._done.clear()
            if not len(self._disk):
                self._read_up_to = 0  # the next file numbers its rows anew

    def forget(self, lost: Counter[str]) -> Counter[str]:
        """The disk queue is lost.

        Args:
            lost: how many results of each pipeline were in it.

        Returns:
            How many of those are lost indeed: not what is done, nor what is under way and may still arrive.
        """
        known = [*self._done.values(), *(delivery.pipeline for delivery in self._under_way.values())]
        for delivery in self._under_way.values():
            delivery.row_id = _NOWHERE
        self._under_way.clear()
        self._done.clear()
        self._read_up_to = 0
        self._read.clear()
        return lost - Counter(known)
