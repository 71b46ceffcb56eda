"""What became of every input and every result of one pipeline. The sums balance at every moment."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

log = logging.getLogger(__name__)

Dropped = Literal["superseded", "stale", "unchanged", "throttled", "invalid", "failed", "refused"]
Discarded = Literal["outbox_full", "expired", "refused", "damaged"]
DROPPED: tuple[Dropped, ...] = ("superseded", "stale", "unchanged", "throttled", "invalid", "failed", "refused")
DISCARDED: tuple[Discarded, ...] = ("outbox_full", "expired", "refused", "damaged")


class VideoCounts:
    """What became of the packets of one stream: `packets = decoded + skipped + waiting`. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._packets = self._decoded = self._skipped = self._damaged = 0
        self._facts: dict[str, Any] = {}

    def arrive(self) -> None:
        """A packet has come; it waits."""
        with self._lock:
            self._packets += 1

    def decode(self) -> None:
        """A packet has gone into the decoder."""
        with self._lock:
            self._decoded += 1

    def skip(self, count: int = 1) -> None:
        """Packets will never be decoded."""
        with self._lock:
            self._skipped += count

    def damage(self) -> None:
        """The decoder could not use a packet, which also counts as decoded."""
        with self._lock:
            self._damaged += 1

    def note(self, **facts: Any) -> None:
        """Facts to be published beside the counts, each until it is replaced; of functions, what they return then."""
        with self._lock:
            self._facts |= facts

    def as_dict(self) -> dict[str, Any]:
        """As published in `stats`; one consistent moment."""
        with self._lock:
            return {
                "packets": self._packets,
                "decoded": self._decoded,
                "skipped": self._skipped,
                "waiting": self._packets - self._decoded - self._skipped,
                "damaged": self._damaged,
                **{name: fact() if callable(fact) else fact for name, fact in self._facts.items()},
            }


class Counters:
    """Counts of one pipeline; each method is one step of one input or result, from any thread.

    `captured = inferred + in_progress + dropped.*` and `produced = acknowledged + queued + discarded.*`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captured = self._inferred = self._in_progress = 0
        self._withheld = self._out_of_range = 0
        self._produced = self._acknowledged = self._queued = self._restored = 0
        self._dropped: Counter[Dropped] = Counter()
        self._discarded: Counter[Discarded] = Counter()
        self._video: VideoCounts | None = None
        self._restarts: int | None = None

    def capture(self) -> None:
        """An input has come in."""
        with self._lock:
            self._captured += 1
            self._in_progress += 1

    def restart(self, count: int = 1) -> None:
        """A source that counts its restarts has been started again; `count` 0: it is one that counts them."""
        with self._lock:
            self._restarts = (self._restarts or 0) + count

    def infer(self) -> None:
        """An input has been through the model."""
        with self._lock:
            self._in_progress -= 1
            self._inferred += 1

    def withhold(self) -> None:
        """What an input has led to is not published, as the pipeline's `publish` options want."""
        with self._lock:
            self._withheld += 1

    def note_out_of_range(self) -> bool:
        """An input has values that the model can't take; returns whether it is the first one."""
        with self._lock:
            self._out_of_range += 1
            return self._out_of_range == 1

    def drop(self, reason: Dropped) -> None:
        """An input has been given up."""
        with self._lock:
            self._in_progress -= 1
            self._dropped[reason] += 1

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

    def video(self) -> VideoCounts:
        """The counts of the packets of the pipeline's stream; they are published once somebody has asked for them."""
        with self._lock:
            self._video = self._video or VideoCounts()
            return self._video

    def as_dict(self) -> dict[str, Any]:
        """As published in `stats`; one consistent moment."""
        video = {} if self._video is None else {"video": self._video.as_dict()}
        with self._lock:
            return {
                "captured": self._captured,
                "inferred": self._inferred,
                "in_progress": self._in_progress,
                "withheld": self._withheld,
                "out_of_range": self._out_of_range,
                "dropped": {reason: self._dropped[reason] for reason in DROPPED},
                "produced": self._produced,
                "restored": self._restored,
                "acknowledged": self._acknowledged,
                "queued": self._queued,
                "discarded": {reason: self._discarded[reason] for reason in DISCARDED},
                **video,
                **({} if self._restarts is None else {"restarts": self._restarts}),
            }


class Settlement:
    """The end of one input. Each input is counted once and ends once, whichever way it leaves the pipeline.

    It is counted as inferred (`infer`) or as dropped (`drop`). It ends when nothing more will happen to it (`done`):
    its result is safe, or its error is published, or it is given up. The one other end is `return_to_sender`. What has
    been captured, or has a sender that waits, must reach both; an input that is released without an end, or ends twice,
    is a defect, which is logged. The tests turn it into a failure.

    Args:
        on_done: called by `done`, from any thread. An MQTT input of QoS 1 is acknowledged then.
    """

    __slots__ = ("_captured", "_counters", "_ended", "_on_done")

    def __init__(self, on_done: Callable[[], None] | None = None) -> None:
        self._on_done = on_done
        self._counters: Counters | None = None
        self._captured = self._ended = False

    @property
    def sender_waits(self) -> bool:
        """Whether a sender waits for `done`, and sends the input again if it does not come."""
        return self._on_done is not None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to the input."""
        return self._ended

    def split(self, count: int) -> "list[Settlement]":
        """The ends of the pieces that an input is cut into, in place of its own; `on_done` is called after the last.

        Args:
            count: number of pieces, at least 1.
        """
        on_done, self._on_done, self._ended = self._on_done, None, True
        if on_done is None:
            return [Settlement() for _ in range(count)]
        left = iter(range(count - 1, -1, -1))  # `next` of it is atomic: the pieces end in several threads

        def one_done() -> None:
            if next(left) == 0:
                on_done()

        return [Settlement(one_done) for _ in range(count)]

    def capture(self, counters: Counters) -> None:
        """The input is counted as captured, and is in progress."""
        if self._captured:
            self.report_defect("is captured twice")
            return
        self._captured, self._counters = True, counters
        counters.capture()

    def infer(self) -> None:
        """The input is counted as inferred; it ends when its result is safe."""
        if (counters := self._counted("inferred")) is not None:
            counters.infer()

    def drop(self, reason: Dropped) -> None:
        """The input is counted as dropped; it ends when its error is published, if there is one."""
        if (counters := self._counted(reason)) is not None:
            counters.drop(reason)

    def done(self) -> None:
        """Ends the input: nothing more will happen to it."""
        if self._ends("done"):
            on_done, self._on_done = self._on_done, None
            if on_done is not None:
                on_done()

    def give_up(self, reason: Dropped) -> None:
        """Drops the input and ends it."""
        self.drop(reason)
        self.done()

    def return_to_sender(self) -> None:
        """Ends the input without `on_done`, so that a sender who waits delivers it again; without one, it is lost.

        If it was in progress, it is counted as superseded: by its own redelivery, or by what comes after a restart.
        """
        if self._ends("returned"):
            self._on_done = None
            if self._counters is not None:
                self.drop("superseded")

    @staticmethod
    def report_defect(what: str) -> None:
        """Logs what is wrong with the end of an input."""
        log.error("a defect in edge-agent: an input %s", what, stack_info=True)

    def _counted(self, how: str) -> Counters | None:
        counters, self._counters = self._counters, None
        if counters is None:
            self.report_defect(f"that is not in progress is counted as {how}")
        return counters

    def _ends(self, how: str) -> bool:
        if self._ended:
            self.report_defect(f"ends twice, now: {how}")
            return False
        self._ended = True
        return True

    def __del__(self) -> None:
        if self._counters is not None:
            self.report_defect("is lost in progress: it is counted as neither inferred nor dropped")
        elif not self._ended and (self._captured or self._on_done is not None):
            self.report_defect("is lost without an end: its sender waits for ever")


def imbalance(counts: dict[str, Any]) -> str:
    """What does not add up in the counters of a pipeline; empty if all does."""
    inputs = counts["inferred"] + counts["in_progress"] + sum(counts["dropped"].values())
    results = counts["acknowledged"] + counts["queued"] + sum(counts["discarded"].values())
    if counts["captured"] != inputs:
        return f"captured {counts['captured']} is not inferred + in_progress + dropped = {inputs}"
    if counts["produced"] != results:
        return f"produced {counts['produced']} is not acknowledged + queued + discarded = {results}"
    return ""
