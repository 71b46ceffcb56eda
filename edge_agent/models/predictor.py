"""Predictions for inputs that are handed in one by one, by the same stages as in a pipeline."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent import settings
from edge_agent.errors import EdgeAgentError
from edge_agent.models.model import Model
from edge_agent.models.stages import Stages, WorkItem
from edge_agent.samples import Prediction, Sample, Timing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# As in a pipeline: two samples are prepared while another one is in the model. As many again wait for it.
PREPARING, WAITING = 2, 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What a pipeline would have published: predictions, facts of the input, and where the time went.

    Attributes:
        image: the picture, (height, width, 3), uint8, BGR, where it was requested and the input is one.
        decoding: the part of `timing.preprocess` in which the input was decoded, in milliseconds.
    """

    predictions: list[Prediction]
    facts: Mapping[str, Any]
    timing: Timing
    image: "NDArray[np.uint8] | None"
    decoding: float = 0.0


class Predictor:
    """One sample at a time, or many in a row.

    Args:
        model: what the samples go through.
        top_k: as in a pipeline's settings.
        min_confidence: as in a pipeline's settings.
        like: a pipeline whose settings are used instead of the two before, without what depends on earlier samples.
    """

    def __init__(
        self, model: Model, top_k: int | None, min_confidence: float | None, like: settings.Pipeline | None = None
    ) -> None:
        options = settings.Pipeline(
            source=settings.ImagesSource(type="images", path="."),
            model=model.identity["name"],
            top_k=top_k,
            min_confidence=min_confidence,
        )
        if like is not None:
            options = like.model_copy(update={"tracking": None, "smoothing": None})
        self._stages = Stages("predict", options, model)

    def tensor(self, sample: Sample) -> "NDArray[Any]":
        """What goes into the model for a sample, (1, …).

        Raises:
            InputError: the sample can't be used.
        """
        (item,) = self._stages.begin([sample])
        self._stages.prepare(item, needs_image=False)
        tensor: NDArray[Any] = item.prepared.tensor
        return tensor

    def ask(self, sample: Sample, *, needs_image: bool = False) -> Answer:
        """What the model predicts for a sample.

        Args:
            sample: what is to go in.
            needs_image: whether the answer shall hold the picture.

        Raises:
            InputError: the sample can't be used.
            ModelError: the inference fails.
            EdgeAgentError: a defect in edge-agent.
        """
        return self._finish(self._prepare(sample, needs_image=needs_image))

    def ask_each(self, samples: Iterable[Callable[[], Sample]]) -> Iterator[Answer | EdgeAgentError]:
        """What the model predicts for each of many samples, in their order; the error where one can't be used.

        The next samples are read and prepared while one is in the model, as in a pipeline.

        Args:
            samples: each is read when its turn comes, in another thread.
        """
        with ThreadPoolExecutor(PREPARING, "prepare") as pool:
            prepared: deque[Future[WorkItem]] = deque()
            try:
                for read in samples:
                    prepared.append(pool.submit(lambda read: self._prepare(read(), needs_image=False), read))
                    if len(prepared) == PREPARING + WAITING:
                        yield self._outcome(prepared.popleft())
                while prepared:
                    yield self._outcome(prepared.popleft())
            finally:
                for one in prepared:
                    one.cancel()

    def _outcome(self, prepared: Future[WorkItem]) -> Answer | EdgeAgentError:
        try:
            return self._finish(prepared.result())
        except EdgeAgentError as error:
            return error

    def _prepare(self, sample: Sample, *, needs_image: bool) -> WorkItem:
        with _only_known_errors():
            (item,) = self._stages.begin([sample])
            self._stages.prepare(item, needs_image=needs_image)
            return item

    def _finish(self, item: WorkItem) -> Answer:
        stages = self._stages
        with _only_known_errors():
            stages.infer([item])
            predictions, _ = stages.postprocess(item, stages.decode(item))
            return Answer(predictions, item.prepared.facts, item.timing, item.prepared.image, item.prepared.decoding)


@contextmanager
def _only_known_errors() -> Iterator[None]:
    try:
        yield
    except EdgeAgentError:
        raise
    except Exception as error:
        log.warning("a defect in edge-agent: this sample is given up", exc_info=error)
        raise EdgeAgentError(f"internal error: {error!r}") from error
