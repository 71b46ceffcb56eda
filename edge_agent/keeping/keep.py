"""Keeps the samples of a pipeline that are worth a look, by rules, within bounds, without ever holding it up."""

import math
import threading
import zlib
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from edge_agent import settings
from edge_agent.counters import Dropped
from edge_agent.errors import EdgeAgentError, InputError
from edge_agent.keeping.documents import about, model_of, options_of, preprocess_of, result_of
from edge_agent.keeping.payload import Encoder, Redaction, size_of
from edge_agent.keeping.rules import REASONS, Budget, Reason, Rules, Seen
from edge_agent.keeping.upload import Destination, Uploader
from edge_agent.keeping.writer import Pending, SampleWriter
from edge_agent.publish.publisher import Device
from edge_agent.sample_store.store import Bounds, SampleStore
from edge_agent.samples import Prediction, Sample
from edge_agent.sources.observer import Observation, ResultObserver

# Results of two pipelines that wait for each other.
MAX_PAIRS = 16
# Results that are less than FAST seconds apart are looked at together, up to TOGETHER of them: between two inferences,
# what the rules need is not in the processor's cache, and fetching it takes ten times as long as the look itself.
# Samples of more than one part in MOST_SHARE of the bytes that may be held are looked at one by one.
FAST, TOGETHER, MOST_SHARE = 0.02, 8, 32


class Keeper:
    """Observes a pipeline, and keeps samples.

    Args:
        name: of the pipeline.
        pipeline: its settings.
        options: its rules and bounds.
        device: of the results.
        folder: of the store.
        base: what files of `upload` are relative to.

    Raises:
        ConfigError: a secret of `upload` can't be read.
        MissingExtraError: `upload` needs a package that is not installed.

    Attributes:
        companion: observes the pipeline that this one is compared with; None: there is none.
    """

    def __init__(
        self,
        name: str,
        pipeline: settings.Pipeline,
        options: settings.Keep,
        device: Device,
        folder: Path,
        base: Path = Path(),
    ) -> None:
        self.companion = None if options.when.compare_with is None else Companion(self)
        self._name = name
        self._pipeline = pipeline
        self._options = options
        self._device = device
        self._rules = Rules(options.when)
        self._budget = Budget(options.per_hour, options.max_share)
        encoder = Encoder(options.encoding, options.quality)
        self._store = SampleStore(folder, Bounds(options.max_size, options.max_age, options.upload is not None))
        self._writer = SampleWriter(
            name,
            self._store,
            encoder,
            Redaction(options.blur, options.mask, encoder),
            options.flush_every,
            options.memory,
            device.clock,
            max_age=options.max_age is not None,
        )
        self._uploader: Uploader | None = None
        if options.upload is not None:
            to = Destination(options.upload, f"{device.device_id}/{name}", base, f"pipelines.{name}.keep.upload")
            self._uploader = Uploader(name, options.upload, to, self._writer, folder, device.clock)
        self._lock = threading.Lock()
        self._unlooked: deque[Seen] = deque()
        self._last_captured = -math.inf
        self._recent: deque[Seen] = deque()
        self._recent_bytes = 0
        # The latest inputs take half of the memory at most.
        self._most_recent, self._most_bytes = options.recent, options.memory // 2
        self._kept: Counter[Reason] = Counter()
        self._offered = 0
        self._refused: Counter[str] = Counter()

    def start(self) -> None:
        """Begins to keep."""
        self._writer.start()
        if self._uploader is not None:
            self._uploader.start()

    def close(self, timeout: float) -> None:
        """Writes what is in memory."""
        self._look()
        if self._uploader is not None:
            self._uploader.close(timeout)
        self._writer.close(timeout)

    def needs_image(self, sample: Sample) -> bool:  # noqa: ARG002 - the input is kept as it came
        """See `ResultObserver`."""
        return False

    def on_result(self, observation: Observation) -> None:
        """Keeps a sample if a rule applies: at once, or with the next ones where they come fast."""
        seen = _seen(observation)
        if self.companion is not None:
            self._look([seen], self.companion.others(seen))
            return
        unlooked, captured = self._unlooked, seen.sample.captured
        unlooked.append(seen)
        is_slow = captured - self._last_captured > FAST
        self._last_captured = captured
        if is_slow or len(unlooked) >= TOGETHER or seen.size > self._most_bytes // MOST_SHARE:
            self._look()

    def _look(self, further: Sequence[Seen] = (), others: Sequence[Prediction] | None = None) -> None:
        """Remembers results in their order, and keeps those to which a rule applies."""
        recent, reasons_of = self._recent, self._rules.reasons
        with self._lock:
            results = [*(self._unlooked.popleft() for _ in range(len(self._unlooked))), *further]
            recent.extend(results)
            held = self._recent_bytes + sum([seen.size for seen in results])
            while recent and (len(recent) > self._most_recent or held > self._most_bytes):
                held -= recent.popleft().size
            self._recent_bytes = held
            found = [(seen, reasons) for seen in results if (reasons := reasons_of(seen, others))]
        for seen, reasons in found:
            self._keep(seen, reasons)

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        """Keeps an input that could not be used, if that is wanted."""
        if not self._options.when.failed or isinstance(sample.data, InputError):
            return
        if (charged := self._charge(["failed"])) is not None:
            document = about(self._device, self._name, sample) | {"error": str(error), "dropped": reason}
            if self._options.prompts:  # there is no result that would say so
                document["task"] = "text"
            self._write(sample, charged, ["failed"], document, None)

    def on_end(self) -> None:
        """The source has ended: there is nothing to gather more for."""
        self._look()
        self._writer.flush()

    def keep_latest(self, count: int) -> int:
        """Keeps the latest samples; returns how many.

        Args:
            count: at most.
        """
        self._look()
        with self._lock:
            latest = list(self._recent)[-count:]
            self._recent.clear()
            self._recent_bytes = 0
        kept = sum(self._keep(seen, ["command"]) for seen in latest)
        self._writer.flush()
        return kept

    def compared(self, observation: Observation, others: Sequence[Prediction]) -> None:
        """Keeps a sample if another model disagrees.

        Args:
            observation: the result of this pipeline.
            others: what the other one has predicted for the same input.
        """
        self.disagreed(_seen(observation), others)

    def disagreed(self, seen: Seen, others: Sequence[Prediction]) -> None:
        """See `compared`."""
        if seen.work is not None and self._rules.disagree(seen.work.task, seen.predictions, others):
            self._keep(seen, ["disagreement"], others)

    def facts(self) -> dict[str, Any]:
        """As published in `stats`; from any thread."""
        self._look()
        with self._lock:
            found = {
                "offered": self._offered,
                "kept": {reason: self._kept[reason] for reason in REASONS},
                "refused": {bound: self._refused[bound] for bound in ("rate", "share")},
            } | self._writer.facts()
        if self._uploader is not None:
            found["upload"] = self._uploader.facts() | {
                "waiting": len(self._store.closed()),
                "deleted_unsent": self._store.unsent,
            }
        return found

    def _keep(self, seen: Seen, reasons: Sequence[Reason], others: Sequence[Prediction] | None = None) -> bool:
        work = seen.work
        if work is None or (charged := self._charge(reasons)) is None:
            return False
        document = about(self._device, self._name, seen.sample) | {
            "result": result_of(self._device, self._name, seen.seq, seen.sample, seen.predictions, work),
            "model": model_of(work),
            "settings": {"preprocess": preprocess_of(work.preprocess), "pipeline": options_of(self._pipeline)},
        }
        if others is not None:
            document["others"] = [one.as_dict() for one in others]
        return self._write(seen.sample, charged, reasons, document, [*work.decoded, *seen.predictions])

    def _charge(self, reasons: Sequence[Reason]) -> Reason | None:
        """The rule whose share of the hour a sample takes; None: there is no room, which is counted.

        Comes before anything is made of the sample: of ten million in an hour, all but a few are refused here.
        """
        with self._lock:
            self._offered += 1
            charged, bound = self._budget.take(reasons)
            if charged is None:
                self._refused[bound] += 1
        return charged

    def _write(
        self,
        sample: Sample,
        charged: Reason,
        reasons: Sequence[Reason],
        document: dict[str, Any],
        predictions: Sequence[Prediction] | None,
    ) -> bool:
        if isinstance(sample.data, InputError):
            return False
        document |= {"reason": charged, "reasons": list(reasons)}
        taken = self._writer.offer(Pending(sample.data, document, predictions, size_of(sample)))
        if taken:
            with self._lock:
                self._kept[charged] += 1
        return taken


class Companion(ResultObserver):
    """Observes another pipeline, and pairs its results with those of the keeper's for the same inputs.

    Args:
        keeper: of the pipeline that is compared.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._lock = threading.Lock()
        self._theirs: OrderedDict[Hashable, Sequence[Prediction]] = OrderedDict()
        self._ours: OrderedDict[Hashable, Seen] = OrderedDict()

    def needs_image(self, sample: Sample) -> bool:  # noqa: ARG002 - predictions are compared
        """See `ResultObserver`."""
        return False

    def others(self, seen: Seen) -> Sequence[Prediction] | None:
        """What the other pipeline has predicted for the same input; None: nothing yet, and it is waited for."""
        key = _identity(seen.sample)
        with self._lock:
            if key is None or key in self._theirs:
                return self._theirs.pop(key, None)
            _put(self._ours, key, seen)
            return None

    def on_result(self, observation: Observation) -> None:
        """Takes a result of the other pipeline."""
        key = _identity(observation.sample)
        if key is None:
            return
        with self._lock:
            ours = self._ours.pop(key, None)
            if ours is None:
                _put(self._theirs, key, observation.predictions)
        if ours is not None:
            self._keeper.disagreed(ours, observation.predictions)

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        """There is nothing to compare."""

    def on_end(self) -> None:
        """There is nothing more to compare."""


def _put(pairs: OrderedDict[Hashable, Any], key: Hashable, value: object) -> None:
    pairs[key] = value
    if len(pairs) > MAX_PAIRS:
        pairs.popitem(last=False)


def _identity(sample: Sample) -> Hashable:
    """What two pipelines know the same input by; None: nothing."""
    if isinstance(sample.data, bytes):
        return len(sample.data), zlib.crc32(sample.data)
    url, position = sample.origin.get("url"), sample.origin.get("position_s")
    return None if position is None else (url, position)


def _seen(observation: Observation) -> Seen:
    sample = observation.sample
    data = sample.data
    size = len(data) if type(data) is bytes else size_of(sample)
    return _new(Seen, (sample, observation.seq, observation.predictions, observation.work, size))


# For every result: half of what the constructor of a named tuple takes.
_new = tuple.__new__
