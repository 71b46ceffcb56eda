"""Pictures of what a pipeline sees, with what it found drawn in, now and then."""

import math
from collections.abc import Callable

from edge_agent import settings
from edge_agent.counters import Dropped
from edge_agent.errors import EdgeAgentError
from edge_agent.publish.drawing import annotate, encode_jpeg, shrunk
from edge_agent.samples import Sample
from edge_agent.sources.observer import Observation

# Seconds between two pictures in which nothing was found, after the first of them.
EMPTY_EVERY = 600.0


class Snapshots:
    """Observes a pipeline and shows one of its pictures in each interval.

    Args:
        pipeline: its settings, for its regions and zones.
        options: how often, how large.
        show: takes a JPEG.
        plain: whether nothing is drawn in.
    """

    def __init__(
        self,
        pipeline: settings.Pipeline,
        options: settings.Snapshot,
        show: Callable[[bytes], None],
        *,
        plain: bool = False,
    ) -> None:
        self._plain = plain
        self._pipeline = pipeline
        self._options = options
        self._show = show
        self._next: float | None = None
        self._found, self._next_empty = False, -math.inf

    def needs_image(self, sample: Sample) -> bool:
        """Whether it is time for a picture."""
        return self._next is None or sample.captured >= self._next

    def on_result(self, observation: Observation) -> None:
        """Draws the picture if it is time."""
        sample = observation.sample
        if observation.image is None or not self.needs_image(sample):
            return
        self._next = sample.captured + self._options.interval
        if self._plain:
            self._show(encode_jpeg(shrunk(observation.image, self._options.max_side), self._options.max_size))
            return
        if not (observation.predictions or self._found) and sample.captured < self._next_empty:
            return
        self._found = bool(observation.predictions)
        self._next_empty = sample.captured + EMPTY_EVERY
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
