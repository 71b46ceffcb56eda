"""What looks at the results of a pipeline, and at the pictures that they are about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edge_agent.samples import Prediction, Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Observation:
    """A result of a pipeline.

    Attributes:
        pipeline: its name.
        seq: of the result; None if it was not published.
        sample: what it is about.
        predictions: in pixels of the picture.
        image: (height, width, 3), uint8, BGR; not to be changed or kept; None where the input is no picture, or where
            no observer needed its pixels.
        may_block: whether the pipeline may be held up.
    """

    pipeline: str
    seq: int | None
    sample: Sample
    predictions: Sequence[Prediction]
    image: "NDArray[np.uint8] | None"
    may_block: bool

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

    def on_end(self) -> None:
        """Called when the pipeline's source has ended: no more results."""
        ...
