"""Pictures of what a pipeline sees, with what it found drawn in, now and then."""

from collections.abc import Callable

from edge_agent import settings
from edge_agent.counters import Dropped
from edge_agent.errors import EdgeAgentError
from edge_agent.publish.drawing import annotate, encode_jpeg
from edge_agent.samples import Sample
from edge_agent.sources.observer import Observation


class Snapshots:
    """Observes a pipeline and shows one of its pictures in each interval.

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

    def needs_image(self, sample: Sample) -> bool:
        """Whether it is time for a picture."""
        return self._next is None or sample.captured >= self._next

    def on_result(self, observation: Observation) -> None:
        """Draws the picture if it is time."""
        sample = observation.sample
        if observation.image is None or not self.needs_image(sample):
            return
        self._next = sample.captured + self._options.interval
        picture = annotate(
            observation.image,
            observation.predictions,
            regions=self._pipeline.regions,
            zones=self._pipeline.filters.zones,
            max_side=self._options.max_side,
        )
        self._show(encode_jpeg(picture, self._options.max_size))

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        """There is no picture of what could not be used."""

    def on_end(self) -> None:
        """There will be no more pictures."""
