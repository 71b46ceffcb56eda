"""Results that wait to be published: the latest in memory, older ones on the disk."""

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from edge_agent import settings
from edge_agent.counters import Counters, Discarded
from edge_agent.mqtt.delivery import Delivery, to_row
from edge_agent.mqtt.disk_queue import DamagedError, DiskQueue
from edge_agent.mqtt.replay import Replay
from edge_agent.system.units import counted

log = logging.getLogger(__name__)
T = TypeVar("T")

# Results that wait in memory while the disk can't be written; beyond that they are discarded.
MAX_IN_MEMORY = 48
# Seconds until the disk is tried again.
DISK_RETRY = 5.0


class Backlog:
    """Keeps results in order until they are published. Not thread-safe.

    Args:
        options: settings of the outbox.
        path: the database file.
        counters: returns the counters of a pipeline, by its name.
        done: called with each result that has been moved from memory to the disk, or discarded.

    Attributes:
        in_memory: results that are not on the disk, oldest first.
        waiting_since: when the first of them was added, on the monotonic clock.
        problem: why the disk can't be used; empty: it can.
        damaged_files: how many files have been set aside.
        retry_at: when the disk is tried again, on the monotonic clock.
    """

    def __init__(
        self,
        options: settings.Outbox,
        path: Path,
        counters: Callable[[str], Counters],
        done: Callable[[Delivery], None],
    ) -> None:
        self.in_memory: deque[Delivery] = deque()
        self.waiting_since = 0.0
        self.problem = ""
        self.damaged_files = 0
        self.retry_at = 0.0
        self._drop_oldest = options.when_full == "drop_oldest"
        self._counters = counters
        self._done = done
        self._numbers = itertools.count()
        self._disk = DiskQueue(path, options.max_size)
        self._replay = Replay(self._disk, options.replay_rate)
        self._restore = True

    def __bool__(self) -> bool:
        """Whether there are results."""
        return bool(self.in_memory) or self.on_disk

    def open(self, *, restore: bool) -> None:
        """Opens the results that were left on the disk.

        Args:
            restore: whether to count them; False: they are from this run and counted already.
        """
        self._restore = restore
        if self._disk.exists:
            self._use_disk(self._open)

    def accept(self, delivery: Delivery) -> None:
        """Adds a new result."""
        delivery.number = next(self._numbers)
        self._add([delivery])

    def put_back(self, deliveries: Iterable[Delivery]) -> None:
        """Adds results again that were published and not acknowledged, each in its place in the order."""
        in_memory = []
        for delivery in deliveries:
            if delivery.row_id is None:
                in_memory.append(delivery)
            elif not self._replay.put_back(delivery):
                self.discard(delivery, "damaged")
        self._add(in_memory)
        self.in_memory = deque(sorted(self.in_memory, key=lambda delivery: delivery.number))

    def _add(self, deliveries: list[Delivery]) -> None:
        if not self.in_memory:
            self.waiting_since = time.monotonic()
        self.in_memory.extend(deliveries)

    def next(self, window: int, *, replay_first: bool) -> Delivery | None:
        """The next result to publish: from memory, or from the disk if there is none in memory.

        Args:
            window: most replayed results without a PUBACK at a time.
            replay_first: whether results on the disk come before those in memory.
        """
        if self.on_disk and (replay_first or not self.in_memory):
            replayed = self._use_disk(lambda: self._replay.take(window))
            if replayed is not None:
                return replayed
        return self.in_memory.popleft() if self.in_memory else None

    def replay_at(self, window: int) -> float | None:
        """When the next result on the disk may be published, on the monotonic clock; None: not before a PUBACK."""
        return self._replay.due_at(window)

    def done(self, delivery: Delivery) -> None:
        """A result from the disk is acknowledged or discarded."""
        self._replay.done(delivery)
        self._use_disk(self._replay.remove_done)

    @property
    def on_disk(self) -> bool:
        """Whether there are results on the disk."""
        return bool(self._disk)

    @property
    def uses_disk(self) -> bool:
        """Whether the next step may read or write the disk, or try to."""
        return self.on_disk or bool(self.problem)

    def facts(self) -> dict[str, Any]:
        """Results and bytes on the disk, its problem, if any, and files set aside; from any thread."""
        return {
            "on_disk": len(self._disk),
            "bytes": self._disk.size,
            "problem": self.problem,
            "damaged_files": self.damaged_files,
        }

    def save(self) -> None:
        """Moves the results in memory to the disk."""
        batch = list(self.in_memory)
        saved = self._use_disk(lambda: self._append(batch))
        if saved is None and not self.problem:  # a damaged file has been set aside
            saved = self._use_disk(lambda: self._append(batch))
        if saved is None:
            self.trim()
            return
        self._report_recovery()
        self.in_memory.clear()
        for delivery in batch[:saved]:
            log.debug("%s: stored on disk", delivery)
            self._done(delivery)
        for delivery in batch[saved:]:
            self.discard(delivery, "outbox_full")

    def retry(self) -> None:
        """Tries to use the disk again."""
        if self.in_memory:
            self.save()
        elif self._use_disk(self._open):
            self._report_recovery()

    def trim(self) -> None:
        """Bounds the results in memory while the disk can't be written."""
        while len(self.in_memory) > MAX_IN_MEMORY:
            self.discard(self.in_memory.popleft() if self._drop_oldest else self.in_memory.pop(), "outbox_full")

    def discard(self, delivery: Delivery, reason: Discarded) -> None:
        """Drops a result for good."""
        log.debug("%s: discarded: %s", delivery, reason)
        self._counters(delivery.pipeline).discard(reason)
        self._done(delivery)

    def remove_done(self) -> None:
        """Removes what is acknowledged from the disk."""
        self._use_disk(lambda: self._replay.remove_done(now=True))

    def close(self) -> None:
        """Moves the results in memory to the disk, if that is possible, and closes the file."""
        self.save()
        self.remove_done()
        if self.in_memory:
            log.error("%s lost: they can neither be delivered nor saved", counted(len(self.in_memory), "result"))
        self._disk.close()

    def _append(self, batch: list[Delivery]) -> int:
        self._replay.remove_done(now=True)
        if not batch:
            return 0
        self._open()
        rows = [to_row(delivery) for delivery in batch]
        saved, dropped = self._disk.append(rows, drop_oldest=self._drop_oldest, keep=self._replay.in_flight())
        for pipeline, count in dropped.items():
            self._counters(pipeline).discard("outbox_full", count)
        return saved

    def _open(self) -> bool:
        found = self._disk.open()
        if self._restore:
            for pipeline, count in found.items():
                self._counters(pipeline).restore(count)
        return True

    def _report_recovery(self) -> None:
        if self.problem:
            log.info("the outbox can be used again")
            self.problem = ""

    def _use_disk(self, work: Callable[[], T]) -> T | None:
        """Calls `work`; returns None if the disk fails, which is logged once."""
        try:
            return work()
        except DamagedError as error:
            self._count_damage(error)
            if error.still_there:
                self._wait_for_disk(error)
            else:
                self.damaged_files += 1
                self.problem = ""
                log.error("%s", error)
        except OSError as error:
            self._wait_for_disk(error)
        return None

    def _wait_for_disk(self, error: OSError) -> None:
        if not self.problem:
            log.error("the outbox can't be used, the latest results wait in memory: %s", error)
        self.problem = str(error)
        self.retry_at = time.monotonic() + DISK_RETRY

    def _count_damage(self, error: DamagedError) -> None:
        """The results in a damaged file are lost; those of an earlier run are counted as produced first."""
        if error.found_now and self._restore and not error.still_there:
            for pipeline, count in error.lost.items():
                self._counters(pipeline).restore(count)
        elif error.found_now and error.still_there:
            return  # they are counted when it can be set aside
        for pipeline, count in self._replay.forget(error.lost).items():
            self._counters(pipeline).discard("damaged", count)
