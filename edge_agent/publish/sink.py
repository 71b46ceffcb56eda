"""Where the results of a pipeline go."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from edge_agent.errors import EdgeAgentError
from edge_agent.language.generation import Answer
from edge_agent.models.language import LanguageModel
from edge_agent.models.stages import Happening, WorkItem
from edge_agent.samples import Prediction, Sample, Timing


class ResultSink(Protocol):
    """Takes what a pipeline produces. Each method may block while a bounded queue behind it is full."""

    def publish(self, item: WorkItem, predictions: Sequence[Prediction]) -> int | None:
        """Takes a result; returns its `seq`, or None if it was withheld."""
        ...

    def events(self, sample: Sample, events: Sequence[Happening]) -> None:
        """Takes what has happened to tracked objects or smoothed labels, with the sample that showed it."""
        ...

    def answer(
        self,
        sample: Sample,
        model: LanguageModel,
        answer: Answer,
        facts: Mapping[str, Any],
        timing: Timing,
        calls: Mapping[str, Any],
    ) -> int | None:
        """Takes the answer of a language model, facts about the request, where the time went, and the calls made.

        Returns:
            Its `seq`, or None if it was not published.
        """
        ...

    def is_watched(self, sample: Sample) -> bool:
        """Whether somebody looks at the answer to a request as it comes, though it may not be requested as a stream."""
        ...

    def piece(self, sample: Sample, request_id: str, index: int | None, text: str) -> None:
        """Takes a piece of an answer; without an index it was not requested as a stream, and is for those who look."""
        ...

    def report(self, error: EdgeAgentError, sample: Sample | None) -> None:
        """Takes an error, with the sample that it is about; without one it is about the source."""
        ...
