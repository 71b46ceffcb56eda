"""Pictures of what a pipeline sees, with what it found drawn in, now and then."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edge_agent import settings
from edge_agent.publish.drawing import annotate, encode_jpeg
from edge_agent.samples import Prediction, Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Snapshots:
    """Follows a pipeline and shows one of its pictures in each interval.

    Args:
        pipeline: its settings, for its regions and zones.
        options: how often, how large.
        show: takes a JPEG.
    """

    def __init__(self, pipeline: settings.Pipeline, options: settings.Snapshot, show: Callable[[bytes], None]) -> None:
        self._pipeline = pipeline
        self._options = options
        self._show = show
        self._next: float | None = None

    def follow(
        self,
        image: "NDArray[np.uint8] | None",
        sample: Sample,
        predictions: Sequence[Prediction],
        parent: dict[str, Any],  # noqa: ARG002 - every follower is told
        *,
        may_wait: bool,  # noqa: ARG002 - it never waits
    ) -> None:
        """Shows the picture if it is time; see `observer.Follower`."""
        if image is None or (self._next is not None and sample.captured < self._next):
            return
        self._next = sample.captured + self._options.interval
        picture = annotate(
            image,
            predictions,
            regions=self._pipeline.regions,
            zones=self._pipeline.filters.zones,
            max_side=self._options.max_side,
        )
        self._show(encode_jpeg(picture, self._options.max_size))

    def end(self) -> None:
        """There will be no more pictures."""
