"""Results that wait to be sent: the latest in memory, those that have waited longer on the disk."""

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

log = logging.getLogger(__name__)
T = TypeVar("T")

# While the disk can't be written, so many wait in memory before the first is given up.
MAX_IN_MEMORY = 48
DISK_RETRY = 5.0


class Backlog:
    """Keeps results in order until they are sent. Not thread-safe.

    Args:
        options: of the configuration.
        path: of the database file.
        counters: of a pipeline, by its name.
        done: called with each result that was in memory and is safe on the disk now, or given up for good.
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
        self.retry_at = 0.0
        self._drop_oldest = options.when_full == "drop_oldest"
        self._counters = counters
        self._done = done
        self._numbers = itertools.count()
        self._disk = DiskQueue(path, options.max_size)
        self._replay = Replay(self._disk, options.replay_rate)
        self._restore = True

    def open(self, *, restore: bool) -> None:
        """Takes up results that were left on the disk.

        Args:
            restore: count them; False when they are from this run and so are counted already.
        """
        self._restore = restore
        if self._disk.exists:
            self._on_disk(self._open)

    def accept(self, delivery: Delivery) -> None:
        """Takes a new result."""
        delivery.number = next(self._numbers)
        self._add([delivery])

    def put_back(self, deliveries: Iterable[Delivery]) -> None:
        """Takes results back that have been sent and not acknowledged, each into its place in the order."""
        in_memory = []
        for delivery in deliveries:
            if delivery.row_id is None:
                in_memory.append(delivery)
            elif not self._replay.again(delivery):
                self.give_up(delivery, "damaged")
        self._add(in_memory)
        self.in_memory = deque(sorted(self.in_memory, key=lambda delivery: delivery.number))

    def _add(self, deliveries: list[Delivery]) -> None:
        if not self.in_memory:
            self.waiting_since = time.monotonic()
        self.in_memory.extend(deliveries)

    def next(self, window: int, *, replay_first: bool) -> Delivery | None:
        """The next result to be sent; a live one, as a rule.

        Args:
            window: most replayed results under way at a time.
            replay_first: whether it is the turn of what waits on the disk.
        """
        if replay_first or not self.in_memory:
            replayed = self._on_disk(lambda: self._replay.take(window))
            if replayed is not None:
                return replayed
        return self.in_memory.popleft() if self.in_memory else None

    def replay_at(self, window: int) -> float | None:
        """When the next result on the disk may be sent, on the monotonic clock; None: that hangs on something else."""
        return self._replay.due_at(window)

    def done(self, delivery: Delivery) -> None:
        """A result from the disk is with the broker, or given up."""
        self._replay.done(delivery)
        self._on_disk(self._replay.remove_done)

    @property
    def on_disk(self) -> bool:
        """Whether results wait on the disk."""
        return len(self._disk) > 0

    def facts(self) -> dict[str, Any]:
        """How full it is; from any thread."""
        return {"on_disk": len(self._disk), "bytes": self._disk.size, "problem": self.problem}

    def save(self) -> None:
        """Moves what waits in memory to the disk."""
        batch = list(self.in_memory)
        saved = self._on_disk(lambda: self._append(batch))
        if saved is None:
            self.trim()
            return
        self._say_well()
        self.in_memory.clear()
        for delivery in batch[:saved]:
            self._done(delivery)
        for delivery in batch[saved:]:
            self.give_up(delivery, "outbox_full")

    def retry(self) -> None:
        """Tries whether the disk can be used again."""
        if self.in_memory:
            self.save()
        elif self._on_disk(self._open):
            self._say_well()

    def trim(self) -> None:
        """Bounds what waits in memory while the disk can't be written."""
        while len(self.in_memory) > MAX_IN_MEMORY:
            self.give_up(self.in_memory.popleft() if self._drop_oldest else self.in_memory.pop(), "outbox_full")

    def give_up(self, delivery: Delivery, reason: Discarded) -> None:
        """A result is not delivered, for good."""
        self._counters(delivery.pipeline).discard(reason)
        self._done(delivery)

    def remove_done(self) -> None:
        """Takes what has been delivered off the disk."""
        self._on_disk(lambda: self._replay.remove_done(all_of_them=True))

    def close(self) -> None:
        """Saves what can be saved, and closes the file."""
        self.save()
        self.remove_done()
        if self.in_memory:
            log.error("%d results are lost: they can neither be delivered nor saved", len(self.in_memory))
        self._disk.close()

    def _append(self, batch: list[Delivery]) -> int:
        self._replay.remove_done(all_of_them=True)
        if not batch:
            return 0
        self._open()
        rows = [to_row(delivery) for delivery in batch]
        saved, gave_way = self._disk.append(rows, drop_oldest=self._drop_oldest, keep=self._replay.under_way())
        for pipeline, count in gave_way.items():
            self._counters(pipeline).discard("outbox_full", count)
        return saved

    def _open(self) -> bool:
        found = self._disk.open()
        if self._restore:
            for pipeline, count in found.items():
                self._counters(pipeline).restore(count)
        return True

    def _say_well(self) -> None:
        if self.problem:
            log.info("the outbox can be used again")
            self.problem = ""

    def _on_disk(self, work: Callable[[], T]) -> T | None:
        """Does something with the disk; None, and said once, if that fails."""
        try:
            return work()
        except DamagedError as error:
            log.error("%s", error)
            for pipeline, count in self._replay.forget(error.lost).items():
                self._counters(pipeline).discard("damaged", count)
        except OSError as error:
            if not self.problem:
                log.error("the outbox can't be used, the latest results wait in memory: %s", error)
            self.problem = str(error)
            self.retry_at = time.monotonic() + DISK_RETRY
        return None
