"""Records all inputs around something that happens, from a ring of the latest ones in memory."""

import hashlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge_agent import settings
from edge_agent.counters import Dropped
from edge_agent.errors import EdgeAgentError, InputError
from edge_agent.keeping.documents import result_of
from edge_agent.keeping.payload import Encoder, Redaction, encode, size_of
from edge_agent.keeping.recorder_file import RecordingFile, RecordingFolder
from edge_agent.keeping.recording import NOTHING
from edge_agent.postprocess.thresholds import ANOMALY
from edge_agent.publish.publisher import Device
from edge_agent.sample_store.segment import Entry, StoreError
from edge_agent.samples import Prediction, Sample, Series
from edge_agent.sources.observer import Observation, Work
from edge_agent.sources.packet_ring import PacketRing

log = logging.getLogger(__name__)

Trigger = Literal["event", "anomaly", "error", "command"]
# Entries are gathered until they have this many bytes.
BLOCK = 1_000_000
# Seconds for which a recording waits for its last inputs.
PATIENCE = 2.0
# Seconds between two looks at the packets that have come, while there is a recording.
PACKETS_EVERY = 0.5


@dataclass(frozen=True, slots=True)
class _Moment:
    """An input, what became of it, and why it starts a recording, if it does.

    Attributes:
        tensors: what `digests_of` takes; None: no model has seen it.
        found: what the model has found in it, before and after filters; None: as above.
    """

    sample: Sample
    document: dict[str, Any]
    tensors: tuple[Sequence[Prediction], Any, Sequence[Any]] | None
    found: Sequence[Prediction] | None
    trigger: Trigger | None
    size: int


class Recorder:
    """Observes a pipeline, and records. It never holds the pipeline up: what there is no room for is left out, counted.

    Args:
        name: of the pipeline.
        options: what is recorded.
        device: of the results.
        folder: of the recordings.
        head: returns what is stated at the start of each recording.
        counters: returns the counters of the pipeline.
        packets: the latest ones of the pipeline's stream, which are recorded as well.
    """

    def __init__(
        self,
        name: str,
        options: settings.Record,
        device: Device,
        folder: Path,
        head: Callable[[], Mapping[str, Any]],
        counters: Callable[[], Mapping[str, Any]],
        packets: PacketRing | None = None,
    ) -> None:
        self._name = name
        self._options = options
        self._device = device
        self._head = head
        self._counters = counters
        self._encoder = Encoder(options.encoding, options.quality)
        self._redaction = Redaction(options.blur, options.mask, self._encoder)
        self._folder = RecordingFolder(folder, options.max_size)
        self._changed = threading.Condition()
        self._waiting: deque[_Moment] = deque()
        self._waiting_bytes = 0
        self._closed = self._asked = self._ended = self._unusable = False
        self._counts: Counter[str] = Counter()
        self._problem = ""
        # Of the thread alone.
        self._ring: deque[tuple[float, bytes]] = deque()
        self._ring_bytes = 0
        self._epoch = time.time() - time.monotonic()
        self._file: RecordingFile | None = None
        self._until = self._limit = self._real_end = 0.0
        self._packets = packets
        self._next_packet = 0
        self._thread = threading.Thread(target=self._run, name=f"record {name}", daemon=True)

    def start(self) -> None:
        """Begins to record."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Finishes the recording that is being written."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def needs_image(self, sample: Sample) -> bool:  # noqa: ARG002 - the input is recorded as it came
        """See `ResultObserver`."""
        return False

    def on_result(self, observation: Observation) -> None:
        """Takes an input and its result."""
        work = observation.work
        if work is None:
            return
        document = _about(observation.sample) | {
            "whole": observation.image is not None,
            "result": result_of(
                self._device, self._name, observation.seq, observation.sample, observation.predictions, work
            ),
            "events": list(work.events),
            "sha256": work.sha256,
            "threshold": work.threshold,
        }
        tensors = work.decoded, observation.tensor, observation.outputs
        found = [*work.decoded, *observation.predictions]
        self._put(observation.sample, document, tensors, found, self._trigger(observation.predictions, work))

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        """Takes an input that could not be used."""
        document = _about(sample) | {"error": str(error), "dropped": reason}
        self._put(sample, document, None, None, "error" if "error" in self._options.when else None)

    def on_end(self) -> None:
        """The source has ended: no more inputs are waited for."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def record_now(self) -> None:
        """Starts a recording, or makes the one that is being written longer.

        Raises:
            EdgeAgentError: there is no recording on command.
        """
        if "command" not in self._options.when:
            raise EdgeAgentError(f"{self._name} does not record on command: add `command` to record.when")
        with self._changed:
            self._asked = True
            self._changed.notify_all()

    def facts(self) -> dict[str, Any]:
        """As published in `stats`; from any thread."""
        with self._changed:
            counts = {key: self._counts[key] for key in ("recorded", "inputs", "left_out", "cut_short", "recovered")}
            return counts | {
                "recording": self._file is not None,
                "stored": self._folder.count,
                "bytes": self._folder.size,
                "deleted": self._folder.deleted,
                "packets_left_out": 0 if self._packets is None else self._packets.left_out,
                "problem": self._problem,
            }

    def _trigger(self, predictions: Sequence[Prediction], work: Work) -> Trigger | None:
        if "event" in self._options.when and work.events:
            return "event"
        is_anomaly = work.task == ANOMALY and any(one.label == ANOMALY for one in predictions)
        return "anomaly" if "anomaly" in self._options.when and is_anomaly else None

    def _put(
        self,
        sample: Sample,
        document: dict[str, Any],
        tensors: tuple[Sequence[Prediction], Any, Sequence[Any]] | None,
        found: Sequence[Prediction] | None,
        trigger: Trigger | None,
    ) -> None:
        size = size_of(sample)
        if tensors is not None:
            size += sum(getattr(tensor, "nbytes", 0) for tensor in (tensors[1], *tensors[2]))
        with self._changed:
            if self._closed or self._unusable or self._waiting_bytes + size > self._options.memory // 2:
                self._counts["left_out"] += 1
                return
            self._waiting.append(_Moment(sample, document, tensors, found, trigger, size))
            self._waiting_bytes += size
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            recovered = self._folder.open()
        except (StoreError, OSError) as error:
            log.error("%s: nothing is recorded: %s", self._name, error)
            with self._changed:
                self._problem, self._unusable = str(error), True
            return
        with self._changed:
            self._counts["recovered"] = recovered
        while self._step():
            pass
        if self._file is not None:
            self._finish()
        self._folder.close()

    def _step(self) -> bool:
        """Waits for something to do, and does it; returns whether there may be more."""
        with self._changed:
            timeout = None if self._file is None else max(0.0, self._real_end - time.monotonic())
            if timeout is not None and self._packets is not None:
                timeout = min(timeout, PACKETS_EVERY)
            self._changed.wait_for(self._has_work, timeout)
            moment = self._waiting.popleft() if self._waiting else None
            asked, self._asked = self._asked, False
            closing = self._closed and not self._waiting
            if moment is not None:
                self._waiting_bytes -= moment.size
        if asked:
            self._begin_or_extend("command", self._ring[-1][0] if self._ring else time.monotonic())
        if moment is not None:
            try:
                self._take(moment)
            except Exception:
                log.exception("%s: a defect in edge-agent: an input is not recorded", self._name)
        elif self._file is not None and (self._ended or time.monotonic() >= self._real_end):
            self._finish()
        self._write_packets()
        return not closing

    def _has_work(self) -> bool:
        return bool(self._waiting or self._closed or self._asked or (self._ended and self._file is not None))

    def _take(self, moment: _Moment) -> None:
        captured, encoded = moment.sample.captured, self._encoded(moment)
        self._epoch = moment.sample.captured_at - captured
        if self._file is not None and captured > self._until:
            self._finish()
        self._ring.append((captured, encoded))
        self._ring_bytes += len(encoded)
        while self._ring and (
            self._ring_bytes > self._options.memory // 2 or captured - self._ring[0][0] > self._options.before
        ):
            self._ring_bytes -= len(self._ring.popleft()[1])
        if self._file is not None:
            self._write([encoded])
            if moment.trigger is not None:
                self._begin_or_extend(moment.trigger, captured)
        elif moment.trigger is not None:
            if not self._ring:  # it alone is larger than the ring
                self._ring.append((captured, encoded))
                self._ring_bytes += len(encoded)
            self._begin_or_extend(moment.trigger, captured)

    def _encoded(self, moment: _Moment) -> bytes:
        data, facts, came = b"", {"media": NOTHING}, moment.sample.data
        if not isinstance(came, InputError):
            try:
                if self._redaction.is_on and not isinstance(came, Series):
                    data, facts = self._redaction(came, moment.found)
                else:
                    data, facts = encode(came, self._encoder)
            except InputError as error:
                moment.document["unencoded"] = str(error)
        digests = {} if moment.tensors is None else {"digests": digests_of(*moment.tensors)}
        try:
            return Entry({**moment.document, **digests, "input": facts}, data).encoded()
        except StoreError as error:
            moment.document["unencoded"] = str(error)
            return Entry({**moment.document, **digests, "input": {"media": NOTHING}}, b"").encoded()

    def _begin_or_extend(self, trigger: Trigger, captured: float) -> None:
        if self._file is None:
            head = {"reason": trigger, "started_at": time.time(), "epoch": self._epoch, **self._head()}
            head["counters"] = dict(self._counters())
            self._file = self._folder.new(trigger)
            self._limit = captured - self._options.before + self._options.max_length
            self._write([Entry({"recording": head}, b"").encoded(), *(encoded for _, encoded in self._ring)])
            if self._packets is not None:
                self._next_packet = self._packets.since(captured - self._options.before)
        self._until = min(captured + self._options.after, self._limit)
        self._real_end = time.monotonic() + max(0.0, self._until - captured) + PATIENCE

    def _write(self, entries: Sequence[bytes]) -> None:
        file = self._file
        if file is None:
            return
        with self._changed:
            self._counts["inputs"] += len(entries)
        file.gather(entries)
        self._bound()

    def _bound(self) -> bool:
        """Writes what has been gathered if it is much, and ends a recording that is as large as one may be.

        Returns:
            Whether the recording goes on.
        """
        file = self._file
        if file is None:
            return False
        if file.gathered >= BLOCK:
            self._attempt(file.flush)
        if file.size >= self._options.max_size // 2:
            with self._changed:
                self._counts["cut_short"] += 1
            self._until = 0.0
            self._finish()
        return self._file is not None

    def _write_packets(self) -> None:
        """Records the packets that have come until now, as far as they belong to the recording."""
        if self._packets is None or self._file is None:
            return
        for packet in self._packets.from_number(self._next_packet):
            if packet.at > self._until:
                return
            self._next_packet = packet.number + 1
            self._file.gather([Entry(packet.document, packet.data).encoded()])
            if not self._bound():
                return

    def _finish(self) -> None:
        self._write_packets()
        file, self._file = self._file, None
        if file is None:
            return
        file.gather([Entry({"end": {"at": time.time(), "counters": dict(self._counters())}}, b"").encoded()])
        if self._attempt(file.finish):
            with self._changed:
                self._counts["recorded"] += 1
            log.info("%s: recorded %s", self._name, file.path)

    def _attempt(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except (StoreError, OSError) as error:
            if not self._problem:
                log.error("%s: a recording can't be written: %s", self._name, error)
            with self._changed:
                self._counts["cut_short"] += 1
                self._problem = str(error)
            self._file = None
            return False
        with self._changed:
            self._problem = ""
        return True


def packet_ring(options: settings.Record, source: settings.Source) -> PacketRing | None:
    """Where the packets of a source wait to be recorded; None: it has none, or they are not wanted."""
    if not (options.with_packets and isinstance(source, settings.VideoSource) and source.live):
        return None
    return PacketRing(options.before + PATIENCE, options.memory // 2)


def _about(sample: Sample) -> dict[str, Any]:
    """The times of an input, from which a replay takes every clock on the road, and its origin."""
    return {
        "captured": sample.captured,
        "captured_at": sample.captured_at,
        "played": sample.played,
        "origin": dict(sample.origin),
    }


def digests_of(decoded: Sequence[Prediction], tensor: Any, outputs: Sequence[Any]) -> dict[str, str]:
    """Digests of what the stages have made of an input, to the bit.

    Args:
        decoded: the predictions as they were decoded.
        tensor: the model's input tensor.
        outputs: its output tensors.
    """
    known = [replace(one, tensor=None) for one in decoded]
    return {
        "input": _digest([tensor]),
        "inference": _digest(outputs),
        "decode": hashlib.sha256(repr(known).encode()).hexdigest()[:16],
    }


def _digest(arrays: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(array)
        digest.update(f"{values.dtype}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]
