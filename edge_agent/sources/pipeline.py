"""What another pipeline finds: each object cut out of its picture, or, for a language model, a question about them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from edge_agent import settings
from edge_agent.counters import Dropped
from edge_agent.errors import EdgeAgentError
from edge_agent.language.questions import PredictionQuestions
from edge_agent.samples import Prediction, Sample
from edge_agent.sources import Context, Trouble
from edge_agent.sources.observer import Observation, ResultObserver
from edge_agent.sources.queue import SampleQueue

Make = Callable[[Observation], Iterable[Sample]]

# Most crops that wait; a frame can have many.
CROPS_THAT_WAIT = 16


class PipelineSource:
    """Feeds what is made of another pipeline's predictions into the queue; that pipeline hands them over.

    Args:
        source: the other pipeline, and which of its predictions count.
        observers: of the other pipeline.
        make: makes the samples.
        live: only the newest counts, and the other pipeline is never held up.
        needs_image: whether they are made of pixels.
    """

    def __init__(
        self,
        source: settings.PipelineSource,
        observers: list[ResultObserver],
        make: Make,
        *,
        live: bool,
        needs_image: bool,
    ) -> None:
        self.live = live
        self.capacity = 1 if live else CROPS_THAT_WAIT
        self._source = source
        self._observers = observers
        self._make = make
        self._needs_image = needs_image

    @property
    def diagnosis(self) -> str:
        """See `Source.diagnosis`: what can go wrong is the other pipeline's."""
        return ""

    def start(self, queue: SampleQueue, trouble: Trouble) -> None:  # noqa: ARG002 - what can go wrong is the other's trouble
        """See `Source.start`."""
        self._queue = queue
        self._observers.append(self)

    def wait_ready(self, timeout: float) -> bool:  # noqa: ARG002 - every source is asked alike
        """See `Source.wait_ready`."""
        return True

    def stop(self) -> None:
        """See `Source.stop`."""
        if self in self._observers:
            self._observers.remove(self)
        self._queue.close()

    def close(self, deadline: float) -> None:
        """See `Source.close`."""

    def needs_image(self, sample: Sample) -> bool:  # noqa: ARG002 - any frame may show what is to be cut out
        """Whether the pixels are needed: to cut objects out of them; a question needs the words only."""
        return self._needs_image

    def on_result(self, observation: Observation) -> None:
        """Takes what was found."""
        put = self._queue.put if observation.may_block and not self.live else self._queue.put_drop_oldest
        wanted = [prediction for prediction in observation.predictions if self._wanted(prediction)]
        for made in self._make(replace(observation, predictions=wanted)):
            put(made)

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        """Nothing was found."""

    def on_end(self) -> None:
        """The other pipeline's source has ended, and so this one."""
        self._queue.close()

    def _wanted(self, prediction: Prediction) -> bool:
        sure = prediction.confidence is None or prediction.confidence >= self._source.min_confidence
        return sure and (not self._source.labels or prediction.label in self._source.labels)


def questions(ask: PredictionQuestions, observation: Observation) -> list[Sample]:
    """The question about what was found, if it is time for one."""
    return ask(observation.sample, observation.predictions, observation.parent)


def crops(margin: float, observation: Observation) -> Iterator[Sample]:
    """The objects, each cut out of the picture with a margin around it, as a share of its size."""
    image, sample = observation.image, observation.sample
    if image is None:
        return
    height, width = image.shape[:2]
    for prediction in observation.predictions:
        if prediction.box is None:
            continue
        x1, y1, x2, y2 = _enlarged(prediction.box, margin, width, height)
        found = {
            "label": prediction.label,
            "confidence": round(prediction.confidence or 0.0, 4),
            "box": [x1, y1, x2, y2],
        }
        yield Sample(
            image[y1:y2, x1:x2].copy(),  # a view would keep the whole picture in memory
            captured_at=sample.captured_at,
            captured=sample.captured,
            played=sample.stream_time,
            origin={"parent": observation.parent | found},
            senders=sample.senders,
        )


def _enlarged(
    box: tuple[float, float, float, float], margin: float, width: int, height: int
) -> tuple[int, int, int, int]:
    """A box with a margin around it, in whole pixels, within the picture, at least one pixel in size."""
    x1, y1, x2, y2 = box
    dx, dy = (x2 - x1) * margin, (y2 - y1) * margin
    left, top = min(width - 1, max(0, round(x1 - dx))), min(height - 1, max(0, round(y1 - dy)))
    return left, top, min(width, max(left + 1, round(x2 + dx))), min(height, max(top + 1, round(y2 + dy)))


def create(source: settings.PipelineSource, context: Context) -> PipelineSource:
    """The source for the settings."""
    observers = context.observers_of(source.name)
    if context.prompt_template is not None:
        return PipelineSource(
            source,
            observers,
            partial(questions, PredictionQuestions(context.prompt_template)),
            live=True,
            needs_image=False,
        )
    return PipelineSource(source, observers, partial(crops, source.margin), live=False, needs_image=True)
