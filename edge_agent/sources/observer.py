"""What looks at the results of a pipeline, and at the pictures that they are about."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from edge_agent.samples import Prediction, Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Follower(Protocol):
    """Something that looks at what was found, and at the pictures in which it was."""

    def follow(
        self,
        image: "NDArray[np.uint8] | None",
        sample: Sample,
        predictions: Sequence[Prediction],
        parent: dict[str, Any],
        *,
        may_wait: bool,
    ) -> None:
        """Called with each result, in order, in the pipeline's own thread.

        Args:
            image: (height, width, 3), uint8, BGR; not to be changed or kept; None where the input is no picture.
            sample: what the picture came from.
            predictions: in pixels of the picture.
            parent: the pipeline's name, and `seq` of its result if that was published.
            may_wait: whether the pipeline may be held up.
        """
        ...

    def end(self) -> None:
        """The pipeline's source has ended: nothing follows."""
        ...
