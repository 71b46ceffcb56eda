"""What looks at the results of a pipeline, and at the pictures that they are about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edge_agent.counters import Dropped
from edge_agent.errors import EdgeAgentError
from edge_agent.samples import Prediction, Sample, Timing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_agent.preprocess.image import Preprocess
    from edge_agent.timeseries.numbers import SeriesPreprocess


# Made for every result that is observed; frozen, each of the two takes ten times as long to make.
@dataclass(slots=True)
class Work:
    """How a sample was processed, and what came of it besides the predictions.

    Attributes:
        model: name, version and hash of the model, as results carry them.
        sha256: the whole hash of the model's file.
        task: of the model.
        preprocess: how the input tensor was made; None: the readings themselves are the input.
        facts: published in results as `input`.
        timing: where the time went.
        decoded: the predictions before thresholds, smoothing, filters and tracking.
        events: what has happened, as published.
        lines: the totals of the pipeline's lines; None: it has none.
        threshold: above which a score is an anomaly; None: there is none yet, or the model gives no score.
        answer: what a language model has answered, as published; None: the model gives predictions.
    """

    model: Mapping[str, str]
    sha256: str
    task: str
    preprocess: "Preprocess | SeriesPreprocess | None"
    facts: Mapping[str, Any]
    timing: Timing
    decoded: Sequence[Prediction]
    events: Sequence[Mapping[str, Any]] = ()
    lines: Mapping[str, Mapping[str, int]] | None = None
    threshold: float | None = None
    answer: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Observation:
    """A result of a pipeline. Observers share it, and do not change it.

    Attributes:
        pipeline: its name.
        seq: of the result; None if it was not published.
        sample: what it is about.
        predictions: in pixels of the picture.
        image: (height, width, 3), uint8, BGR; not to be changed or kept; None where the input is no picture, or where
            no observer needed its pixels.
        may_block: whether the pipeline may be held up.
        work: what has led to the predictions.
        tensor: the model's input tensor, and `outputs` its output tensors: large, and of no use to serving any more.
    """

    pipeline: str
    seq: int | None
    sample: Sample
    predictions: Sequence[Prediction]
    image: "NDArray[np.uint8] | None"
    may_block: bool
    work: Work | None = None
    tensor: Any = None
    outputs: Sequence[Any] = ()

    @property
    def parent(self) -> dict[str, Any]:
        """As published with what is made of the result."""
        return {"pipeline": self.pipeline, "seq": self.seq}


class ResultObserver(Protocol):
    """Looks at every result of a pipeline, in order, in the pipeline's own threads."""

    def needs_image(self, sample: Sample) -> bool:
        """Whether `on_result` needs the pixels of a sample; then it is decoded at its full size.

        Called before the sample is decoded, from several threads.
        """
        ...

    def on_result(self, observation: Observation) -> None:
        """Called with each result."""
        ...

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        """Called with each input that could not be used, from several threads, in no particular order."""
        ...

    def on_end(self) -> None:
        """Called when the pipeline's source has ended: no more results."""
        ...
