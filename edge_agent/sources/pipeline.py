"""The objects that another pipeline finds, each cut out of its picture: detect, then classify."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edge_agent import settings
from edge_agent.intake import Intake
from edge_agent.samples import Prediction, Sample
from edge_agent.sources import Context, Trouble, prompts
from edge_agent.sources.prompts import Prompts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Most crops that wait; a frame can have many.
CAPACITY = 16


class PipelineSource:
    """Feeds crops of another pipeline's predictions into the intake; that pipeline hands them over."""

    live = False
    capacity = CAPACITY

    def __init__(self, source: settings.PipelineSource, context: Context) -> None:
        self._source = source
        self._followers = context.followers_of(source.name)

    def start(self, intake: Intake, trouble: Trouble) -> None:  # noqa: ARG002 - what can go wrong is the other's trouble
        """See `Source.start`."""
        self._intake = intake
        self._followers.append(self)

    def wait_ready(self, timeout: float) -> bool:  # noqa: ARG002 - every source is asked alike
        """See `Source.wait_ready`."""
        return True

    def stop(self) -> None:
        """See `Source.stop`."""
        if self in self._followers:
            self._followers.remove(self)
        self._intake.close()

    def close(self, deadline: float) -> None:
        """See `Source.close`."""

    def follow(
        self,
        image: "NDArray[np.uint8] | None",
        sample: Sample,
        predictions: Sequence[Prediction],
        parent: dict[str, Any],
        *,
        may_wait: bool,
    ) -> None:
        """Takes the objects of a picture; see `pipeline.Follower`."""
        if image is None:
            return
        height, width = image.shape[:2]
        for prediction in predictions:
            if prediction.box is None or not self._wanted(prediction):
                continue
            x1, y1, x2, y2 = _enlarged(prediction.box, self._source.margin, width, height)
            found = {
                "label": prediction.label,
                "confidence": round(prediction.confidence or 0.0, 4),
                "box": [x1, y1, x2, y2],
            }
            crop = Sample(
                image[y1:y2, x1:x2].copy(),  # a view would keep the whole picture in memory
                captured_at=sample.captured_at,
                captured=sample.captured,
                origin={"parent": parent | found},
            )
            (self._intake.put if may_wait else self._intake.offer)(crop)

    def end(self) -> None:
        """There will be no more pictures."""
        self._intake.close()

    def _wanted(self, prediction: Prediction) -> bool:
        return (not self._source.labels or prediction.label in self._source.labels) and (
            prediction.confidence or 0.0
        ) >= self._source.min_confidence


def _enlarged(
    box: tuple[float, float, float, float], margin: float, width: int, height: int
) -> tuple[int, int, int, int]:
    """A box with a margin around it, in whole pixels, within the picture, at least one pixel in size."""
    x1, y1, x2, y2 = box
    dx, dy = (x2 - x1) * margin, (y2 - y1) * margin
    left, top = min(width - 1, max(0, round(x1 - dx))), min(height - 1, max(0, round(y1 - dy)))
    return left, top, min(width, max(left + 1, round(x2 + dx))), min(height, max(top + 1, round(y2 + dy)))


def create(source: settings.PipelineSource, context: Context) -> PipelineSource | Prompts:
    """The source for the settings."""
    if context.text is not None:
        return prompts.create(source, context.text, context)
    return PipelineSource(source, context)
