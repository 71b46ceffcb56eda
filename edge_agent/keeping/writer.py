"""Writes kept samples in a thread of its own: they gather in memory, and go to the disk together."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.errors import EdgeAgentError, InputError
from edge_agent.keeping.payload import Encoder, Redaction, encode
from edge_agent.sample_store.segment import Entry, StoreError
from edge_agent.sample_store.store import SampleStore
from edge_agent.samples import PlanarFrame, Prediction, Series
from edge_agent.system.clock import Clock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# Seconds after which a disk that could not be written is tried again, and between two looks for what is too old.
RETRY_AFTER, PRUNE_EVERY = 60.0, 3600.0
# Seconds that a segment may take to be closed.
CLOSE_SEGMENT = 30.0
LOST = ("memory", "redaction", "too_large", "unusable", "defect")


@dataclass(frozen=True, slots=True)
class Pending:
    """A sample that is to be written.

    Attributes:
        data: what it holds.
        document: what is stored with it.
        predictions: what was found in it; None: the model has not seen it.
        size: bytes that it takes in memory.
    """

    data: "bytes | NDArray[np.uint8] | PlanarFrame | Series"
    document: Mapping[str, Any]
    predictions: Sequence[Prediction] | None
    size: int


class SampleWriter:
    """Takes samples from any thread and never makes it wait.

    Args:
        name: of the pipeline.
        store: where they go.
        encoder: for frames.
        redaction: what is hidden in pictures.
        flush_every: seconds for which samples are gathered.
        memory: bound on all that is in memory, in bytes.
        max_age: whether the store deletes what is too old.
        clock: of the device.
    """

    def __init__(
        self,
        name: str,
        store: SampleStore,
        encoder: Encoder,
        redaction: Redaction,
        flush_every: float,
        memory: int,
        clock: Clock,
        *,
        max_age: bool,
    ) -> None:
        self._name = name
        self._store = store
        self._encoder = encoder
        self._redaction = redaction
        self._flush_every = flush_every
        self._memory = memory
        self._clock = clock
        self._prune_every = PRUNE_EVERY if max_age else None
        self._changed = threading.Condition()
        self._waiting: deque[Pending] = deque()
        self._gathered: list[Entry] = []
        self._bytes = self._written = 0
        self._lost: Counter[str] = Counter()
        self._problem = ""
        self._unusable = self._closed = self._flush_asked = False
        self._segment_asked: threading.Event | None = None
        self._due: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"keep {name}", daemon=True)

    def start(self) -> None:
        """Opens the store and begins to write."""
        self._thread.start()

    def offer(self, pending: Pending) -> bool:
        """Takes a sample unless there is no room for it, which is counted."""
        with self._changed:
            why = "unusable" if self._unusable else "memory" if self._bytes + pending.size > self._memory else ""
            if why or self._closed:
                self._lost[why or "memory"] += 1
                return False
            self._waiting.append(pending)
            self._bytes += pending.size
            self._changed.notify_all()
            return True

    def flush(self) -> None:
        """Has what is gathered written now."""
        with self._changed:
            self._flush_asked = True
            self._changed.notify_all()

    def closed_segments(self) -> list[Path]:
        """Has what is gathered written, closes its segment, and returns those that are to be uploaded; waits for it."""
        done = threading.Event()
        with self._changed:
            if self._unusable or self._closed:
                return []
            self._segment_asked, self._flush_asked = done, True
            self._changed.notify_all()
        done.wait(CLOSE_SEGMENT)
        return self._store.closed()

    def arrived(self, segment: Path) -> None:
        """Notes that a segment has been uploaded; see `SampleStore.arrived`."""
        self._store.arrived(segment)

    def close(self, timeout: float) -> None:
        """Writes what is in memory; what can't be written in this time is lost."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            if left := len(self._waiting) + len(self._gathered):
                log.warning("%s: %d kept samples could not be written, and are lost", self._name, left)

    def facts(self) -> dict[str, Any]:
        """As published in `stats`; from any thread."""
        with self._changed:
            return {
                "written": self._written,
                "waiting": len(self._waiting) + len(self._gathered),
                "lost": {reason: self._lost[reason] for reason in LOST},
                "stored": self._store.samples,
                "bytes": self._store.size,
                "deleted": self._store.deleted,
                "damaged": self._store.damaged,
                "problem": self._problem,
            }

    def _run(self) -> None:
        try:
            self._store.open()
        except (StoreError, OSError) as error:
            log.error("%s: no samples are kept: %s", self._name, error)
            with self._changed:
                self._problem, self._unusable = str(error), True
            return
        if self._store.damaged:
            log.warning(
                "%s: %d damaged places in %s were left out", self._name, self._store.damaged, self._store.folder
            )
        while self._step():
            pass
        self._store.close()

    def _step(self) -> bool:
        """Waits for something to do, and does it; returns whether there may be more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed or self._flush_asked, self._timeout())
            waiting, closing = list(self._waiting), self._closed
            self._waiting.clear()
            if self._flush_asked or closing:
                self._due, self._flush_asked = time.monotonic(), False
        entries = [entry for one in waiting if (entry := self._entry(one)) is not None]
        with self._changed:
            if entries and not self._gathered and self._due is None:
                self._due = time.monotonic() + self._flush_every
            self._gathered += entries
            self._bytes += sum(len(entry.data) for entry in entries) - sum(one.size for one in waiting)
            gathered = sum(len(entry.data) for entry in self._gathered)
            is_due = self._due is not None and time.monotonic() >= self._due
            is_full = gathered >= min(self._store.segment_size, self._memory // 2) and not self._problem
            asked, self._segment_asked = self._segment_asked, None
        if is_due or is_full:
            self._write()
        if asked is not None:
            self._attempt(self._store.close_segment)
            asked.set()
        elif not (entries or is_due or is_full) and self._prune_every is not None:
            self._attempt(lambda: self._store.prune(clock_synced=self._clock.synced()))
        return not closing

    def _timeout(self) -> float | None:
        if self._due is not None:
            return max(0.0, self._due - time.monotonic())
        return self._prune_every

    def _entry(self, pending: Pending) -> Entry | None:
        try:
            if self._redaction.is_on and not isinstance(pending.data, Series):
                data, facts = self._redaction(pending.data, pending.predictions)
            else:
                data, facts = encode(pending.data, self._encoder)
        except InputError as error:
            log.debug("%s: not kept: %s", self._name, error)
            self._lose("redaction" if self._redaction.is_on else "defect")
            return None
        except Exception:
            log.exception("%s: a defect in edge-agent: a sample is not kept", self._name)
            self._lose("defect")
            return None
        return Entry({**pending.document, "input": facts}, data)

    def _lose(self, reason: str, count: int = 1) -> None:
        with self._changed:
            self._lost[reason] += count

    def _write(self) -> None:
        """Writes what is gathered, in parts that fit into a segment; what the disk refuses is tried again later."""
        self._due = None
        while self._gathered:
            batch, size = list[Entry](), 0
            for entry in self._gathered:
                if batch and size + len(entry.data) > self._store.segment_size:
                    break
                batch.append(entry)
                size += len(entry.data)
            if not self._attempt(lambda batch=batch: self._append(batch)):
                self._due = time.monotonic() + RETRY_AFTER
                return
            with self._changed:
                del self._gathered[: len(batch)]
                self._bytes -= size

    def _append(self, batch: list[Entry]) -> None:
        try:
            self._store.append(batch, clock_synced=self._clock.synced())
        except StoreError as error:  # too large for this store
            log.warning("%s: not kept: %s", self._name, error)
            self._lose("too_large", len(batch))
        else:
            with self._changed:
                self._written += len(batch)

    def _attempt(self, action: Any) -> bool:
        try:
            action()
        except OSError as error:
            if not self._problem:
                log.error("%s: kept samples can't be written, trying again every minute: %s", self._name, error)
            self._problem = str(error)
            return False
        except EdgeAgentError as error:
            self._problem = str(error)
            return False
        if self._problem:
            log.info("%s: kept samples can be written again", self._name)
        self._problem = ""
        return True
