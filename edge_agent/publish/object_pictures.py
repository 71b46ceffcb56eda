"""The best picture of each tracked object: the largest, surest and sharpest so far."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_agent import settings
from edge_agent.counters import Dropped
from edge_agent.errors import EdgeAgentError
from edge_agent.preprocess.opencv import cv2
from edge_agent.publish.drawing import annotate, encode_jpeg
from edge_agent.samples import Prediction, Sample
from edge_agent.sources.observer import Observation

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pictures that the broker retains for a pipeline: the topic of an object is that of its number modulo this.
SLOTS = 20
# By what factor a picture must be better than the one before.
BETTER = 1.15
# Objects at a time of which the best picture is known.
MOST = 50
# Of an object that reaches the edge of the frame, a part is missing.
CUT_OFF = 0.6
# The width to which an object is reduced before its sharpness is measured, so that noise does not count.
SHARPNESS_WIDTH = 96

Show = Callable[[int, bytes], None]
"""Takes the number of an object and a JPEG."""


def slot_of(track_id: int) -> int:
    """Under which number the picture of an object is published."""
    return track_id % SLOTS


@dataclass(slots=True)
class _Best:
    """The best picture of an object so far.

    Attributes:
        quality: see `quality_of`.
        published_at: when the one before was published, on the clock of the samples.
        waiting: the picture, if it has not been published.
    """

    quality: float
    published_at: float
    waiting: bytes | None = None


class ObjectPictures:
    """Observes a pipeline with tracking.

    Args:
        options: how often, how large.
        show: publishes a picture.
    """

    def __init__(self, options: settings.Snapshot, show: Show) -> None:
        self._options = options
        self._show = show
        self._best: dict[int, _Best] = {}

    def needs_image(self, sample: Sample) -> bool:  # noqa: ARG002 - any may be the best
        """Always: which picture is the best is known afterwards."""
        return True

    def on_result(self, observation: Observation) -> None:
        """Publishes better pictures, at most one in each interval, and the best at last when an object has left."""
        now, image = observation.sample.stream_time, observation.image
        for one in observation.predictions if image is not None else ():
            if one.track_id is not None and one.box is not None and image is not None:
                self._look(one.track_id, one, image, now)
        events = () if observation.work is None else observation.work.events
        present = {one.track_id for one in observation.predictions}  # one may have left a zone, and still be there
        left = [event["track_id"] for event in events if event.get("event") == "leave"]
        self._finish(track_id for track_id in left if track_id not in present)

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        """There is no picture of what could not be used."""

    def on_end(self) -> None:
        """Publishes what still waits."""
        self._finish(list(self._best))

    def _look(self, track_id: int, one: Prediction, image: "NDArray[np.uint8]", now: float) -> None:
        quality, best = quality_of(one, image), self._best.get(track_id)
        if best is None or quality >= BETTER * best.quality:
            picture = encode_jpeg(annotate(image, [one], max_side=self._options.max_side), self._options.max_size)
            since = -math.inf if best is None else best.published_at
            best = self._best[track_id] = _Best(quality, since, picture)
            while len(self._best) > MOST:
                self._finish([next(iter(self._best))])
        if best.waiting is not None and now - best.published_at >= self._options.interval:
            self._show(track_id, best.waiting)
            best.waiting, best.published_at = None, now

    def _finish(self, track_ids: Iterable[int]) -> None:
        for track_id in track_ids:
            best = self._best.pop(track_id, None)
            if best is not None and best.waiting is not None:
                self._show(track_id, best.waiting)


def quality_of(one: Prediction, image: "NDArray[np.uint8]") -> float:
    """How well an object is seen: its confidence times its size times the logarithm of its sharpness.

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield
    microscopy").

    Args:
        one: with a box, x1, y1, x2, y2 in pixels.
        image: (height, width, 3), uint8, BGR.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = one.box or (0, 0, 0, 0)
    left, top, right, bottom = max(0, int(x1)), max(0, int(y1)), min(width, math.ceil(x2)), min(height, math.ceil(y2))
    if right - left < 2 or bottom - top < 2:  # noqa: PLR2004 - nothing is seen
        return 0.0
    crop = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_BGR2GRAY)
    if crop.shape[1] > SHARPNESS_WIDTH:
        size = (SHARPNESS_WIDTH, max(2, crop.shape[0] * SHARPNESS_WIDTH // crop.shape[1]))
        crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    sharpness = float(np.var(cv2.Laplacian(crop, cv2.CV_32F)))
    area = (right - left) * (bottom - top) / (width * height)
    whole = left > 0 and top > 0 and right < width and bottom < height
    return one.certainty * math.sqrt(area) * math.log1p(sharpness) * (1.0 if whole else CUT_OFF)
