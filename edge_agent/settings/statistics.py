"""The settings of the built-in detector of anomalies in readings, which needs no model file."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from edge_agent.settings.base import Frozen, Seconds
from edge_agent.settings.series import MAX_READINGS, Span

STATISTICS = "statistics"
"""Name of the detector where others are names of models."""


class Statistics(Frozen):
    """Learns on the device what is usual for each reading, by time of day, and reports what is not."""

    type: Literal["statistics"]
    """The built-in detector of anomalies in readings."""
    learn: Span = 86400.0
    """How long it learns before it judges: a duration, or a number of readings."""
    deviations: float = Field(5.0, ge=2, le=100)
    """How far from the usual a reading must be, in standard deviations. More: fewer alarms."""
    confirm: int = Field(2, ge=1, le=1000)
    """How many readings in a row must be unusual before there is an alarm, and usual before it ends."""
    settle: Seconds = Field(86400.0, ge=60, le=31536000)
    """An alarm that has lasted for this long shows what is usual now: it ends, and the detector learns again."""
    every: Seconds | None = Field(None, ge=0.1, le=86400)
    """For readings that come fast, such as vibration: one value is made of all readings of this time. Default: each
    reading is judged."""
    by: Literal["mean", "rms", "range"] = "mean"
    """For `every`: the mean of the readings; the root mean square of their distances from the mean, which measures
    vibration; or the distance between the largest and the smallest."""
    min_spread: float | None = Field(None, gt=0)
    """The least standard deviation that is assumed, in the unit of the readings. Default: the smallest difference that
    has been seen between two readings, and 0.5 % of the usual level."""

    @field_validator("learn")
    @classmethod
    def _some_readings(cls, value: float) -> int | float:
        least = 12 if isinstance(value, int) else 1
        if not least <= value <= MAX_READINGS * 10:
            raise ValueError(f"must be at least 12 readings, or a duration of at least 1s (got {value:g})")
        return value

    @model_validator(mode="after")
    def _by_needs_every(self) -> "Statistics":
        if self.every is None and "by" in self.model_fields_set:
            raise ValueError("by needs every")
        return self
