"""The settings of the device: its heat, its battery, and how it shows up in Home Assistant."""

from typing import Annotated, Literal

from pydantic import Field

from edge_agent.settings.base import TOPIC_PREFIX, Frozen, Seconds


class Thermal(Frozen):
    """What happens when the device gets too hot."""

    slow_down_at: Literal["never"] | Annotated[float, Field(ge=30, le=120)] = 75.0
    """From this temperature on (°C of the CPU), and whenever the CPU is throttled, live sources have fewer frames; all
    of them again when it is 5 °C cooler. `never`: it is only told in `stats`."""
    min_rate: float = Field(0.25, gt=0, le=1)
    """The share of their frames that they keep at least."""


class Battery(Frozen):
    """The battery of a phone, in Termux."""

    pause_below: float | None = Field(None, ge=1, le=95)
    """Percentage below which all pipelines are paused while it is not being charged; default: never."""
    interval: Seconds = Field(60.0, ge=1, le=3600)
    """How often it is asked for."""


class HomeAssistant(Frozen):
    """How the device shows up in Home Assistant, by MQTT discovery."""

    enabled: bool = False
    """Whether it does."""
    prefix: str = Field("homeassistant", max_length=256, pattern=TOPIC_PREFIX)
    """First part of Home Assistant's discovery topics, as set there."""
    presence_delay: Seconds | None = Field(None, ge=1, le=86400)
    """Something is present until nothing has been found for so long; default: until the first result without it."""
