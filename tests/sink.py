"""A sink for results that takes everything and keeps nothing; tests keep what they want."""

from collections.abc import Mapping, Sequence
from typing import Any

from edge_agent.errors import EdgeAgentError
from edge_agent.language.generation import Answer
from edge_agent.models.language import LanguageModel
from edge_agent.models.stages import Happening, WorkItem
from edge_agent.samples import Prediction, Sample, Timing


class NullSink:
    """See `ResultSink`."""

    def publish(self, item: WorkItem, predictions: Sequence[Prediction]) -> int | None: ...

    def events(self, sample: Sample, events: Sequence[Happening]) -> None: ...

    def answer(
        self,
        sample: Sample,
        model: LanguageModel,
        answer: Answer,
        facts: Mapping[str, Any],
        timing: Timing,
        call: Mapping[str, Any] | None = None,
    ) -> None: ...

    def is_watched(self, sample: Sample) -> bool:  # noqa: ARG002 - nobody looks
        return False

    def piece(self, sample: Sample, request_id: str, index: int | None, text: str) -> None: ...

    def report(self, error: EdgeAgentError, sample: Sample | None) -> None: ...
