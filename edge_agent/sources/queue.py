"""The bounded queue between a source and the workers of its pipeline."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from edge_agent.counters import Counters
from edge_agent.samples import Sample, Series

Cut = Callable[[Sample], Sequence[Sample]]

# Bound on the encoded images and the readings that wait.
MAX_BYTES = 128_000_000


class SampleQueue:
    """Samples that wait to be worked on. Every sample put in is counted as captured.

    Args:
        capacity: most samples that wait.
        counters: of the pipeline.
        keep_newest: what happens when it is full. True: the oldest gives way, counted as superseded (live sources).
            False: `put` waits (finite sources).
        cut: makes samples of what is put in; they are counted then, and not what they were made of.
    """

    def __init__(self, capacity: int, counters: Counters, *, keep_newest: bool, cut: Cut = lambda one: [one]) -> None:
        self._capacity = capacity
        self._counters = counters
        self._keep_newest = keep_newest
        self._cut = cut
        self._samples: deque[Sample] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._has_samples, self._has_space = threading.Condition(self._lock), threading.Condition(self._lock)
        self._closed = False

    def put(self, sample: Sample) -> bool:
        """Adds a sample; returns False if the queue is closed, and returns it, without counting it, to its sender.

        Of a sample that is cut, this happens to the pieces that come too late.
        """
        taken = [self._put(one) for one in self._cut(sample)]
        return all(taken)

    def put_drop_oldest(self, sample: Sample) -> bool:
        """Adds a sample without ever waiting.

        When there is no room, the oldest one whose sender does not wait gives way (`Settlement.sender_waits`); if all
        senders wait, it is the new one. If the queue is closed: as `put`.
        """
        with self._lock:
            taken = [self._add(one) for one in self._cut(sample)]
            return all(taken)

    def _put(self, sample: Sample) -> bool:
        with self._lock:
            if not self._keep_newest:
                self._has_space.wait_for(lambda: self._closed or self._has_room(sample) or self._may_displace(sample))
            return self._add(sample)

    def _add(self, sample: Sample) -> bool:
        if self._closed:
            sample.settlement.return_to_sender()
            return False
        sample.settlement.capture(self._counters)
        if not self._make_room(sample):
            sample.settlement.give_up("superseded")
            return True
        self._samples.append(sample)
        self._bytes += _size(sample)
        self._has_samples.notify()
        return True

    def _may_displace(self, sample: Sample) -> bool:
        return sample.settlement.sender_waits and any(not waiting.settlement.sender_waits for waiting in self._samples)

    def _make_room(self, sample: Sample) -> bool:
        """Drops the oldest samples until one more fits; False if the new one has to give way.

        A sample whose sender waits is never dropped, so that it is answered whatever else arrives. How many of those
        there are is bounded by the sender: a broker's receive maximum.
        """
        while not self._has_room(sample):
            oldest = next((at for at, waiting in enumerate(self._samples) if not waiting.settlement.sender_waits), None)
            if oldest is None:
                return sample.settlement.sender_waits
            dropped = self._samples[oldest]
            del self._samples[oldest]
            self._bytes -= _size(dropped)
            dropped.settlement.give_up("superseded")
        return True

    def _has_room(self, sample: Sample) -> bool:
        if not self._samples:
            return True
        return len(self._samples) < self._capacity and self._bytes + _size(sample) <= MAX_BYTES

    def wait(self) -> None:
        """Waits until there is a sample, or the queue is closed."""
        with self._lock:
            self._wait()

    def _wait(self) -> None:
        self._has_samples.wait_for(lambda: self._samples or self._closed)

    def get(self, most: int = 1) -> list[Sample]:
        """The samples that have waited longest, up to `most`; waits for one; none once it is closed and empty."""
        with self._lock:
            self._wait()
            samples = [self._samples.popleft() for _ in range(min(most, len(self._samples)))]
            self._bytes -= sum(map(_size, samples))
            self._has_space.notify_all()
            return samples

    def discard_pending(self) -> int:
        """Closes the queue and returns all that waits to its senders; returns how many samples that were."""
        with self._lock:
            pending = list(self._samples)
            self._samples.clear()
            self._bytes = 0
            self._close()
        for sample in pending:
            sample.settlement.return_to_sender()
        return len(pending)

    def close(self) -> None:
        """Takes no more samples; what waits can still be had."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._has_samples.notify_all()
        self._has_space.notify_all()


def _size(sample: Sample) -> int:
    if isinstance(sample.data, Series):
        return sample.data.values.nbytes
    return len(sample.data) if isinstance(sample.data, bytes) else 0
