"""The settings of the device: its temperature, its battery, and its presence in Home Assistant."""

from typing import Annotated, Literal

from pydantic import Field

from edge_agent.settings.base import Frozen, Seconds, TopicPrefix


class Thermal(Frozen):
    """What happens when the device gets too hot."""

    slow_down_at: Literal["never"] | Annotated[float, Field(ge=30, le=120)] = 75.0
    """CPU temperature in °C from which live sources run at a lower frame rate, as they do while the CPU is throttled.
    The full rate returns 5 °C below this. `never`: the temperature is only reported in `stats`."""
    min_rate: float = Field(0.25, gt=0, le=1)
    """Lower limit of the frame rate, as a fraction of the full rate."""


class Battery(Frozen):
    """The battery of a phone, in Termux."""

    pause_below: float | None = Field(None, ge=1, le=95)
    """Charge in percent below which all pipelines pause, unless the battery is being charged. Default: never."""
    interval: Seconds = Field(60.0, ge=1, le=3600)
    """How often the battery is read."""


class RemoteCommands(Frozen):
    """Commands over MQTT that concern the agent as a whole. Anyone who may publish on `P/cmd` can give them."""

    allow: tuple[Literal["reload", "restart", "logs", "doctor"], ...] = Field((), max_length=4)
    """Those that are carried out. Default: none."""


class HomeAssistant(Frozen):
    """How the device appears in Home Assistant, by MQTT discovery."""

    enabled: bool = False
    """Whether the discovery messages are published."""
    prefix: TopicPrefix = "homeassistant"
    """Home Assistant's discovery prefix, as set there."""
    presence_delay: Seconds | None = Field(None, ge=1, le=86400)
    """How long an object must have been absent from the results before its presence sensor turns off. Default: the
    first result without it turns it off."""
