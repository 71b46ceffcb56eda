"""What became of every input and every result of one pipeline. The sums balance at every moment."""

import threading
from collections import Counter
from typing import Any, Literal

Dropped = Literal["superseded", "stale", "unchanged", "throttled", "invalid", "failed", "refused"]
Discarded = Literal["outbox_full", "expired", "refused", "damaged"]
DROPPED: tuple[Dropped, ...] = ("superseded", "stale", "unchanged", "throttled", "invalid", "failed", "refused")
DISCARDED: tuple[Discarded, ...] = ("outbox_full", "expired", "refused", "damaged")


class Counters:
    """Counts of one pipeline; each method is one step of one input or result, from any thread.

    `captured = inferred + in_progress + dropped.*` and `produced = acknowledged + queued + discarded.*`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captured = self._inferred = self._in_progress = 0
        self._withheld = 0
        self._produced = self._acknowledged = self._queued = self._restored = 0
        self._dropped: Counter[Dropped] = Counter()
        self._discarded: Counter[Discarded] = Counter()

    def capture(self) -> None:
        """An input has come in."""
        with self._lock:
            self._captured += 1
            self._in_progress += 1

    def infer(self) -> None:
        """An input has been through the model."""
        with self._lock:
            self._in_progress -= 1
            self._inferred += 1

    def withhold(self) -> None:
        """What an input has led to is not published, as the pipeline's `publish` options want."""
        with self._lock:
            self._withheld += 1

    def drop(self, reason: Dropped, count: int = 1) -> None:
        """Inputs have been given up."""
        with self._lock:
            self._in_progress -= count
            self._dropped[reason] += count

    def produce(self) -> int:
        """A result has been made; returns its `seq`, which counts from 1."""
        with self._lock:
            self._produced += 1
            self._queued += 1
            return self._produced - self._restored

    def restore(self, count: int) -> None:
        """Results of an earlier run have been found in the outbox; they count as produced and are queued."""
        with self._lock:
            self._produced += count
            self._queued += count
            self._restored += count

    def acknowledge(self) -> None:
        """The broker has a result."""
        with self._lock:
            self._queued -= 1
            self._acknowledged += 1

    def discard(self, reason: Discarded, count: int = 1) -> None:
        """Results have been given up."""
        with self._lock:
            self._queued -= count
            self._discarded[reason] += count

    def as_dict(self) -> dict[str, Any]:
        """As published in `stats`; one consistent moment."""
        with self._lock:
            return {
                "captured": self._captured,
                "inferred": self._inferred,
                "in_progress": self._in_progress,
                "withheld": self._withheld,
                "dropped": {reason: self._dropped[reason] for reason in DROPPED},
                "produced": self._produced,
                "restored": self._restored,
                "acknowledged": self._acknowledged,
                "queued": self._queued,
                "discarded": {reason: self._discarded[reason] for reason in DISCARDED},
            }


def imbalance(counts: dict[str, Any]) -> str:
    """What does not add up in the counters of a pipeline; empty if all does."""
    inputs = counts["inferred"] + counts["in_progress"] + sum(counts["dropped"].values())
    results = counts["acknowledged"] + counts["queued"] + sum(counts["discarded"].values())
    if counts["captured"] != inputs:
        return f"captured {counts['captured']} is not inferred + in_progress + dropped = {inputs}"
    if counts["produced"] != results:
        return f"produced {counts['produced']} is not acknowledged + queued + discarded = {results}"
    return ""
