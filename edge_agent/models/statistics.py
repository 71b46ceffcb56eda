"""The built-in detector of anomalies in readings: a model without a file.

It has no state: what is usual is learned by each pipeline, in `postprocess.alarms`.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from edge_agent import __version__
from edge_agent.decoders import Limits
from edge_agent.postprocess.thresholds import ANOMALY, NORMAL
from edge_agent.samples import Prediction
from edge_agent.settings.statistics import STATISTICS


class StatisticsModel:
    """Has the properties of a `Model` that pipelines use.

    Attributes:
        identity: name and version, as results carry them; there is no file to hash.
        preprocess: none; see `NamedReadings`.
        labels: that readings get.
        threshold: of the scores.
    """

    task = ANOMALY
    preprocess = None
    labels = (NORMAL, ANOMALY)
    threshold = 1.0
    takes_pictures = stateful = keeps_state = False
    together = parallel = 1
    fallback = ""
    memory = 0
    engine = SimpleNamespace(accelerator="cpu", runtime="built-in")

    def __init__(self) -> None:
        self.identity = {"name": STATISTICS, "version": __version__, "sha256": ""}

    def infer_each(self, tensors: Sequence[Any], state: object = None) -> list[list[Any]]:
        """The readings themselves; see `Model.infer_each`."""
        del state
        return [[tensor] for tensor in tensors]

    def predictions(self, outputs: Sequence[Any], placements: Sequence[Any], limits: Limits) -> list[Prediction]:
        """A prediction for each channel, its value the reading.

        Args:
            outputs: one array (1, channels).
            placements: channel and unit of each.
            limits: do not apply.
        """
        del limits
        values = outputs[0][0].tolist()
        return [
            Prediction(None, None, None, value=value, details=facts)
            for value, facts in zip(values, placements, strict=True)
        ]

    def describe(self) -> str:
        """One line for a person."""
        return "built in, robust statistics by time of day, anomaly"

    def facts(self) -> dict[str, Any]:
        """As published in `info`."""
        about = {"engine": "built-in", "accelerator": self.accelerator_facts(), "task": self.task}
        return self.identity | about | {"multi_label": False}

    def accelerator_facts(self) -> dict[str, Any]:
        """See `Model.accelerator_facts`."""
        return {"asked": ["cpu"], "in_use": "cpu", "fallback": "", "share": None, "speed_up": None, "moves": 0}

    def when_moved(self, moved: Callable[[], None]) -> None:
        """Does nothing: it never changes its accelerator."""

    def retire(self, successor: object = None) -> None:
        """Does nothing: there is nothing to free."""

    def close(self) -> None:
        """Does nothing: there is nothing to free."""
