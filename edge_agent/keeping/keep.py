"""Keeps the samples of a pipeline that are worth a look, by rules, within bounds, without ever holding it up."""

import threading
import zlib
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent import settings
from edge_agent.counters import Dropped
from edge_agent.errors import EdgeAgentError, InputError
from edge_agent.keeping.documents import about, model_of, options_of, preprocess_of, result_of
from edge_agent.keeping.payload import Encoder, Redaction, size_of
from edge_agent.keeping.rules import REASONS, Budget, Reason, Rules
from edge_agent.keeping.writer import Pending, SampleWriter
from edge_agent.publish.publisher import Device
from edge_agent.sample_store.store import Bounds, SampleStore
from edge_agent.samples import Prediction, Sample
from edge_agent.sources.observer import Observation, ResultObserver, Work

# Results of two pipelines that wait for each other.
MAX_PAIRS = 16


class Seen(NamedTuple):
    """What is remembered of a result: without the tensors and pixels that only serving needs."""

    sample: Sample
    seq: int | None
    predictions: Sequence[Prediction]
    work: Work | None
    size: int


class Keeper:
    """Observes a pipeline, and keeps samples.

    Args:
        name: of the pipeline.
        pipeline: its settings.
        options: its rules and bounds.
        device: of the results.
        folder: of the store.

    Attributes:
        companion: observes the pipeline that this one is compared with; None: there is none.
    """

    def __init__(
        self, name: str, pipeline: settings.Pipeline, options: settings.Keep, device: Device, folder: Path
    ) -> None:
        self.companion = None if options.when.compare_with is None else Companion(self)
        self._name = name
        self._pipeline = pipeline
        self._options = options
        self._device = device
        self._rules = Rules(options.when)
        self._budget = Budget(options.per_hour, options.max_share)
        encoder = Encoder(options.encoding, options.quality)
        self._writer = SampleWriter(
            name,
            SampleStore(folder, Bounds(options.max_size, options.max_age)),
            encoder,
            Redaction(options.blur, options.mask, encoder),
            options.flush_every,
            options.memory,
            device.clock,
            max_age=options.max_age is not None,
        )
        self._lock = threading.Lock()
        self._recent: deque[Seen] = deque()
        self._recent_bytes = 0
        self._kept: Counter[Reason] = Counter()
        self._offered = 0
        self._refused: Counter[str] = Counter()

    def start(self) -> None:
        """Begins to keep."""
        self._writer.start()

    def close(self, timeout: float) -> None:
        """Writes what is in memory."""
        self._writer.close(timeout)

    def needs_image(self, sample: Sample) -> bool:  # noqa: ARG002 - the input is kept as it came
        """See `ResultObserver`."""
        return False

    def on_result(self, observation: Observation) -> None:
        """Keeps a sample if a rule applies."""
        found = _seen(observation)
        others = None if self.companion is None else self.companion.others(found)
        with self._lock:
            self._remember(found)
            reasons = self._rules.reasons(observation, others)
        if reasons:
            self._keep(found, reasons)

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        """Keeps an input that could not be used, if that is wanted."""
        if self._options.when.failed and not isinstance(sample.data, InputError):
            document = about(self._device, self._name, sample) | {"error": str(error), "dropped": reason}
            self._offer(sample, ["failed"], document, None)

    def on_end(self) -> None:
        """The source has ended: there is nothing to gather more for."""
        self._writer.flush()

    def keep_latest(self, count: int) -> int:
        """Keeps the latest samples; returns how many.

        Args:
            count: at most.
        """
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
        with self._lock:
            return {
                "offered": self._offered,
                "kept": {reason: self._kept[reason] for reason in REASONS},
                "refused": {bound: self._refused[bound] for bound in ("rate", "share")},
            } | self._writer.facts()

    def _remember(self, seen: Seen) -> None:
        """Adds to the latest inputs, which take half of the memory at most."""
        recent = self._recent
        recent.append(seen)
        self._recent_bytes += seen.size
        while recent and (len(recent) > self._options.recent or self._recent_bytes > self._options.memory // 2):
            self._recent_bytes -= recent.popleft().size

    def _keep(self, seen: Seen, reasons: Sequence[Reason], others: Sequence[Prediction] | None = None) -> bool:
        work = seen.work
        if work is None:
            return False
        document = about(self._device, self._name, seen.sample) | {
            "result": result_of(self._device, self._name, seen.seq, seen.sample, seen.predictions, work),
            "model": model_of(work),
            "settings": {"preprocess": preprocess_of(work.preprocess), "pipeline": options_of(self._pipeline)},
        }
        if others is not None:
            document["others"] = [one.as_dict() for one in others]
        return self._offer(seen.sample, reasons, document, [*work.decoded, *seen.predictions])

    def _offer(
        self,
        sample: Sample,
        reasons: Sequence[Reason],
        document: dict[str, Any],
        predictions: Sequence[Prediction] | None,
    ) -> bool:
        with self._lock:
            self._offered += 1
            charged, bound = self._budget.take(reasons)
            if charged is None:
                self._refused[bound] += 1
                return False
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
    return Seen(sample, observation.seq, observation.predictions, observation.work, size_of(sample))
