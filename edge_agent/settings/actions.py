"""The settings of actions: what a pipeline does besides publishing, when its model has found something."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from edge_agent.settings.base import Fraction, Frozen, Seconds, accepted
from edge_agent.settings.topics import problem_of_name

EventKind = Literal["enter", "leave", "dwell", "cross", "start", "end", "alarm"]


class When(Frozen):
    """What an action is taken for: published results, or with `event` events."""

    labels: tuple[str, ...] = Field((), max_length=1000)
    """Only for these labels. Default: any. A result counts if any of its predictions does."""
    min_confidence: Fraction = 0.0
    """Minimum confidence of the prediction or event."""
    event: EventKind | None = None
    """Kind of event, of a pipeline with tracking, lines, smoothing or `type: statistics`. Default: results."""
    zone: str | None = None
    """Only for events of this zone."""
    line: str | None = None
    """Only for events of this line."""

    @model_validator(mode="after")
    def _places_of_events(self) -> "When":
        if self.event is None and (self.zone is not None or self.line is not None):
            raise ValueError("zone and line need event")
        return self


class Message(Frozen):
    """A message to another topic. It is not sent later if the broker is away."""

    topic: Annotated[str, Field(min_length=1, max_length=1024), accepted(problem_of_name)]
    """Topic of the device that shall do something, as it stands here."""
    payload: str | dict[str, Any] = ""
    """Text, or a mapping that is sent as JSON. In its texts, `{label}`, `{confidence}`, `{pipeline}` and `{device_id}`
    are replaced."""
    retain: bool = False
    """The broker keeps the message for later subscribers."""

    @model_validator(mode="after")
    def _bounded(self) -> "Message":
        if len(json.dumps(self.payload)) > MAX_PAYLOAD:
            raise ValueError(f"payload must have at most {MAX_PAYLOAD} bytes")
        return self


MAX_PAYLOAD = 10_000


class Gpio(Frozen):
    """An output line of the device's GPIO chip, through libgpiod."""

    line: int | str = Field(union_mode="left_to_right")
    """Number of the line on the chip, or its name, such as GPIO17."""
    chip: str = "/dev/gpiochip0"
    """Device file of the chip."""
    value: bool = True
    """What the line becomes, `on` or `off`."""
    pulse: Seconds | None = Field(None, ge=0.01, le=86400)
    """The line becomes the opposite again after this long. Default: it stays."""
    active_low: bool = False
    """Whether the line is low when it is on, as many relay boards want it."""


class Action(Frozen):
    """Something that is done when a result or an event comes."""

    when: When = When()
    """For what. Default: every published result."""
    publish: Message | None = None
    """Publishes a message."""
    gpio: Gpio | None = None
    """Sets an output line. Needs the extra `gpio`."""
    min_interval: Seconds = Field(1.0, ge=0, le=86400)
    """Minimum time between two times that it is done. Those in between are counted as `limited`."""

    @model_validator(mode="after")
    def _does_something(self) -> "Action":
        if self.publish is None and self.gpio is None:
            raise ValueError("needs publish or gpio")
        return self
