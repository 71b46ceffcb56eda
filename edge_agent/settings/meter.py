"""The settings of a pipeline that reads a meter: a number of digits in a picture becomes a value."""

from typing import Literal

from pydantic import Field, model_validator

from edge_agent.settings.base import Fraction, Frozen
from edge_agent.settings.shapes import Region


class Meter(Frozen):
    """Reads the value of a meter from its digits."""

    kind: Literal["water", "gas", "energy"]
    """What it measures; decides the unit, and how Home Assistant shows it."""
    box: Region | None = None
    """The frame [x1, y1, x2, y2] around all digits, in pixels or in fractions of the picture. It is divided into
    `digits` equal windows. Default: the pipeline's `regions` are the digits, from left to right; or the model finds
    them itself."""
    digits: int = Field(ge=1, le=12)
    """Number of digits, with decimals."""
    decimals: int = Field(0, ge=0, le=11)
    """How many of them are behind the point; often these are red."""
    unit: Literal["m3", "L", "ft3", "kWh", "Wh", "MWh"] | None = None
    """The unit of the value. Default: m3 for water and gas, kWh for energy."""
    max_rate: float | None = Field(None, gt=0)
    """The most that the value can rise in an hour. A reading that has risen faster is refused. Default: no limit."""
    min_confidence: Fraction = 0.6
    """A digit with a lower confidence is unsure: it is resolved by its right neighbour if the wheel is half turned,
    else taken from the last value."""

    @model_validator(mode="after")
    def _some_digit_before_the_point(self) -> "Meter":
        if self.decimals >= self.digits:
            raise ValueError(f"decimals must be < digits (got {self.decimals} and {self.digits})")
        return self

    def windows(self) -> dict[str, Region]:
        """The window of each digit, by its number from the left; empty without a box."""
        if self.box is None:
            return {}
        x1, y1, x2, y2 = self.box
        width = (x2 - x1) / self.digits
        return {f"digit {at + 1}": (x1 + at * width, y1, x1 + (at + 1) * width, y2) for at in range(self.digits)}
