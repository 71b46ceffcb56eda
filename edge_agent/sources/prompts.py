"""Questions about what another pipeline finds, for a language model: a camera's event becomes a sentence."""

import json
import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edge_agent import settings
from edge_agent.intake import Intake
from edge_agent.publishing import name_of
from edge_agent.samples import Prediction, Sample
from edge_agent.sources import Context, Trouble
from edge_agent.text_settings import Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_agent.pipeline import Follower

# The newest question is the one that matters.
CAPACITY = 1
MAX_PREDICTIONS = 20


class Prompts:
    """Feeds a question about another pipeline's predictions into the intake, at a bounded rate.

    Args:
        source: the other pipeline, and which of its predictions count.
        text: the question, and how often.
        device_id: for the question.
        followers: of the other pipeline.
    """

    live = True
    capacity = CAPACITY

    def __init__(
        self, source: settings.PipelineSource, text: Text, device_id: str, followers: "list[Follower]"
    ) -> None:
        self._source = source
        self._text = text
        self._device_id = device_id
        self._followers = followers
        self._asked: float | None = None

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
        image: "NDArray[np.uint8] | None",  # noqa: ARG002 - a language model sees none
        sample: Sample,
        predictions: Sequence[Prediction],
        parent: dict[str, Any],
        *,
        may_wait: bool,  # noqa: ARG002 - nobody waits for a language model
    ) -> None:
        """Asks about the predictions, if there are any and it is time; see `pipeline.Follower`."""
        found = [one for one in predictions if self._wanted(one)][:MAX_PREDICTIONS]
        too_soon = self._asked is not None and sample.captured - self._asked < self._text.min_interval
        if not found or too_soon:
            return
        self._asked = sample.captured
        question = self._question(found, parent["pipeline"], sample.captured_at)
        self._intake.offer(
            Sample(
                json.dumps({"prompt": question}).encode(),
                captured_at=sample.captured_at,
                captured=time.monotonic(),  # a deadline counts from the question
                origin={"parent": parent | {"predictions": [one.as_dict() for one in found]}},
            )
        )

    def end(self) -> None:
        """There will be no more predictions."""
        self._intake.close()

    def _wanted(self, prediction: Prediction) -> bool:
        sure = prediction.confidence is None or prediction.confidence >= self._source.min_confidence
        return sure and (not self._source.labels or prediction.label in self._source.labels)

    def _question(self, found: Sequence[Prediction], pipeline: str, captured_at: float) -> str:
        words = {
            "{predictions}": ", ".join(map(in_words, found)),
            "{labels}": ", ".join(dict.fromkeys(map(name_of, found))),
            "{pipeline}": pipeline,
            "{device_id}": self._device_id,
            "{time}": datetime.fromtimestamp(captured_at).astimezone().strftime("%H:%M"),
        }
        return re.sub(r"\{\w+\}", lambda name: words.get(name[0], name[0]), self._text.prompt or "")


def in_words(prediction: Prediction) -> str:
    """`macaw 99 %`, or `temperature 21.5`, or the label alone."""
    if prediction.value is not None:
        number = f"{prediction.value:.4g}"
        return number if prediction.label is None else f"{prediction.label} {number}"
    if prediction.confidence is None:
        return name_of(prediction)
    return f"{name_of(prediction)} {prediction.confidence:.0%}".replace("%", " %")


def create(source: settings.PipelineSource, text: Text, context: Context) -> Prompts:
    """The source for the settings."""
    _, device_id, _ = context.topic.rsplit("/", 2)
    return Prompts(source, text, device_id, context.followers_of(source.name))
