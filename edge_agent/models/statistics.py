"""The built-in detector of anomalies in readings: a model without a file.

It has no state: what is usual is learned by each pipeline, in `postprocess.alarms`.
"""

from collections.abc import Sequence
from typing import Any

from edge_agent.decoders import Limits
from edge_agent.models.built_in import BuiltIn
from edge_agent.postprocess.thresholds import ANOMALY, NORMAL
from edge_agent.samples import Prediction
from edge_agent.settings.statistics import STATISTICS


class StatisticsModel(BuiltIn):
    """Gives the readings themselves.

    Attributes:
        labels: that readings get.
        threshold: of the scores.
    """

    task = ANOMALY
    labels = (NORMAL, ANOMALY)
    threshold = 1.0

    def __init__(self) -> None:
        super().__init__(STATISTICS, "built-in")

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
