"""The settings of intent recognition."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from edge_agent.settings.base import Frozen


def _a_phrase(value: str) -> str:
    if value != value.strip() or not value.replace("_", " ").replace("-", " ").replace(" ", "").isalnum():
        raise ValueError("must be words of letters and digits")
    return value


Phrase = Annotated[str, Field(min_length=2, max_length=40), AfterValidator(_a_phrase)]


class Place(Frozen):
    """A place that commands may name."""

    name: Phrase
    """What intents call it."""
    also: tuple[Phrase, ...] = Field((), max_length=20)
    """What people call it, beside its name."""


class Device(Place):
    """A device that commands may name."""

    opens: bool = False
    """It is opened, closed, locked and unlocked; otherwise it is turned on and off."""
    values: tuple[float, float] = (0.0, 100.0)
    """The least and the highest value that it can be set to."""
    unit: Literal["percent", "degrees"] = "percent"
    """Of these values."""

    @model_validator(mode="after")
    def _in_order(self) -> "Device":
        if not self.values[0] < self.values[1]:
            raise ValueError("values: the least must come first")
        return self


class Intents(Frozen):
    """How commands are recognized."""

    devices: tuple[Device, ...] = Field((), max_length=200)
    """The devices that commands may name. Without it: those on the card of the bundle."""
    places: tuple[Place, ...] = Field((), max_length=200)
    """The places that commands may name. Without it: those on the card of the bundle."""
    min_probability: float = Field(0.8, ge=0, le=1)
    """Below this probability of the intent, the answer asks back: `none` with the reason `unsure` and the guess."""
