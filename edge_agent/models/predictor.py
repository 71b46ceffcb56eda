"""The daemon's road for inputs that are handed in one by one."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.errors import EdgeAgentError
from edge_agent.models.model import Model
from edge_agent.pipeline.pipeline import Pipeline
from edge_agent.samples import Prediction, Sample, Timing
from edge_agent.sources.observer import Follower
from edge_agent.sources.queue import SampleQueue


@dataclass(frozen=True, slots=True)
class Answer:
    """What a pipeline would have published: predictions, facts of the input, and where the time went."""

    predictions: list[Prediction]
    facts: Mapping[str, Any]
    timing: Timing


class OneOff:
    """A pipeline that is asked instead of fed. One sample at a time.

    Args:
        model: what the samples go through.
        top_k: as in a pipeline's settings.
        min_confidence: as in a pipeline's settings.
        like: a pipeline that it is to answer like, but for what looks back at earlier samples; then the two before
            count for nothing.
        followers: see `Pipeline`.
    """

    def __init__(
        self,
        model: Model,
        top_k: int | None,
        min_confidence: float | None,
        like: settings.Pipeline | None = None,
        followers: Sequence[Follower] = (),
    ) -> None:
        self._counters = Counters()
        self._outcome: Answer | EdgeAgentError | None = None
        options = settings.Pipeline(
            source=settings.ImagesSource(type="images", path="."),
            model=model.identity["name"],
            top_k=top_k,
            min_confidence=min_confidence,
        )
        if like is not None:
            options = like.model_copy(update={"tracking": None, "smoothing": None})
        self._road = Pipeline(
            "one-off",
            options,
            _NoSource(),
            model,
            self._counters,
            self._publish,
            self._report,
            followers=followers,
        )

    def ask(self, sample: Sample) -> Answer:
        """What the model says to a sample.

        Raises:
            InputError: the sample can't be used.
            ModelError: the inference fails.
        """
        self._counters.capture()
        self._road.travel([sample], nullcontext())
        if isinstance(self._outcome, EdgeAgentError):
            raise self._outcome
        assert self._outcome is not None, "a road leads to a result or to a report"  # noqa: S101 - for the type checker
        return self._outcome

    def _publish(self, sample: Sample, predictions: list[Prediction], facts: Mapping[str, Any], timing: Timing) -> None:
        del sample
        self._outcome = Answer(predictions, facts, timing)

    def _report(self, error: EdgeAgentError, sample: Sample | None) -> None:
        del sample
        self._outcome = error


class _NoSource:
    """Stands where a pipeline has its source."""

    live = False
    capacity = 1

    def start(self, queue: SampleQueue, trouble: Callable[[EdgeAgentError], None]) -> None: ...

    def wait_ready(self, timeout: float) -> bool:  # noqa: ARG002 - there is nothing to wait for
        return True

    def stop(self) -> None: ...

    def close(self, deadline: float) -> None: ...
