"""Predictions for inputs that are handed in one by one, by the same stages as in a pipeline."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent import settings
from edge_agent.errors import EdgeAgentError
from edge_agent.models.model import Model
from edge_agent.models.stages import Stages
from edge_agent.samples import Prediction, Sample, Timing
from edge_agent.system import limits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


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
    """One sample at a time.

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
        stages = self._stages
        (item,) = stages.begin([sample])
        try:
            stages.prepare(item, needs_image=needs_image)
            stages.infer([item])
            predictions, _ = stages.postprocess(item, stages.decode(item))
        except EdgeAgentError:
            raise
        except Exception as error:
            log.warning("a defect in edge-agent: this sample is given up", exc_info=error)
            raise EdgeAgentError(limits.in_words(error)) from error
        return Answer(predictions, item.prepared.facts, item.timing, item.prepared.image, item.prepared.decoding)
