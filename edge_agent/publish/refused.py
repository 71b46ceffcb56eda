"""Keeps a picture of each reading of a meter that was refused, so that a person can see why."""

import logging
from pathlib import Path

from edge_agent.counters import Dropped
from edge_agent.errors import EdgeAgentError
from edge_agent.publish.drawing import encode_jpeg
from edge_agent.samples import Sample, timestamp
from edge_agent.sources.observer import Observation
from edge_agent.system import atomic_file

log = logging.getLogger(__name__)

MOST = 20
MAX_SIZE = 200_000


class RefusedReadings:
    """Observes a pipeline with a meter. The latest pictures are kept, the oldest is deleted.

    Args:
        name: of the pipeline.
        folder: where the pictures are kept; only files that are named as this class names them are deleted.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder

    def needs_image(self, sample: Sample) -> bool:  # noqa: ARG002 - any may be refused
        """Always: whether a reading is refused is known afterwards."""
        return True

    def on_result(self, observation: Observation) -> None:
        """Writes the picture of a refused reading."""
        facts = next((one.details for one in observation.predictions if one.details), None) or {}
        if "refused" not in facts or observation.image is None:
            return
        at = timestamp(observation.sample.captured_at).replace(":", "")
        shown = str(facts.get("digits", "")).replace("?", "x")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for old in sorted(self._folder.glob("refused-*.jpg"))[: -(MOST - 1)]:
                old.unlink(missing_ok=True)
            picture = encode_jpeg(observation.image, MAX_SIZE)
            atomic_file.write(self._folder / f"refused-{at}-{shown}.jpg", picture)
        except OSError as error:
            log.warning("%s: the picture of a refused reading can't be kept: %s", self._name, error)

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        """There is no picture of what could not be used."""

    def on_end(self) -> None:
        """There will be no more pictures."""
