"""The settings of pipelines: what is looked at, and what is told of it."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from edge_agent.settings.base import Bytes, Fraction, Frozen, Seconds, TopicLevel
from edge_agent.settings.series import Anomaly, Smoothing, Window
from edge_agent.settings.sources import Source
from edge_agent.settings.text import Text


def _four_numbers(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) != len(("x1", "y1", "x2", "y2")):
        raise ValueError(f"needs four numbers, [x1, y1, x2, y2] (got {len(value)})")
    return value


def _with_area(value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = value
    if min(x1, y1) < 0 or x2 <= x1 or y2 <= y1:
        raise ValueError("needs 0 <= x1 < x2 and 0 <= y1 < y2")
    return value


Region = Annotated[tuple[float, float, float, float], BeforeValidator(_four_numbers), AfterValidator(_with_area)]


class Publish(Frozen):
    """Which results are published, and how. A result that somebody asked for (MQTT 5 response topic) always is."""

    on_change: bool = False
    """Publish only what says something else than the last published result: another winning label (of a region),
    another number of objects of a label, another value. The rest is counted as `withheld`."""
    hysteresis: float = Field(0.0, ge=0)
    """For on_change: by how much the confidence of a new label must lead that of the old one, that of a new object be
    above min_confidence, or a value differ."""
    heartbeat: Seconds | None = Field(None, gt=0, le=31536000)
    """For on_change: publish an unchanged result all the same when nothing has been published for so long."""
    min_interval: Seconds = Field(0.0, ge=0, le=86400)
    """Publish no more often than this; what comes sooner is left out."""
    expire_after: Seconds | None = Field(None, gt=0, le=31536000)
    """Nobody wants a result that is older: it is not sent any more, and brokers (MQTT 5) do not deliver it any more."""
    qos: Literal[0, 1] = 1
    """1: every result arrives at least once. 0: results may be lost on the way."""
    retain: bool = False
    """The broker keeps the latest result for whoever subscribes later."""
    topic: str | None = Field(None, min_length=1, max_length=1024, pattern=r"^[^+#$\x00-\x1f][^+#\x00-\x1f]*$")
    """A further topic that each result is published to; `{device_id}`, `{pipeline}` and `{label}` (of the most
    confident prediction) are filled in."""

    @field_validator("topic")
    @classmethod
    def _known_names(cls, value: str | None) -> str | None:
        if value is not None and re.search("[{}]", re.sub(r"\{(device_id|pipeline|label)\}", "", value)):
            raise ValueError("may hold {device_id}, {pipeline} and {label}, and no other braces")
        return value

    @model_validator(mode="after")
    def _belongs_together(self) -> "Publish":
        if not self.on_change and (self.hysteresis or self.heartbeat is not None):
            raise ValueError("hysteresis and heartbeat need on_change: true")
        if self.heartbeat is not None and self.heartbeat < self.min_interval:
            raise ValueError("heartbeat must not be shorter than min_interval")
        return self


def _two_numbers(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) != len(("x", "y")):
        raise ValueError(f"needs two numbers, [x, y] (got {len(value)})")
    return value


def _an_outline(value: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    if any(min(point) < 0 for point in value):
        raise ValueError("needs numbers >= 0")
    edges = zip(value, (*value[1:], value[0]), strict=True)
    if not sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in edges):
        raise ValueError("needs corners that enclose an area")
    return value


Point = Annotated[tuple[float, float], BeforeValidator(_two_numbers)]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=100), AfterValidator(_an_outline)]


class Filters(Frozen):
    """Which predictions are told. Those that say no place (classification, regression) have no zone and no area."""

    labels: tuple[str, ...] = Field((), max_length=1000)
    """Only these; default: all."""
    min_confidence: dict[str, Fraction] = Field({}, max_length=1000)
    """By label, where it is to differ from the pipeline's min_confidence."""
    zones: dict[TopicLevel, Polygon] = Field({}, max_length=64)
    """Named polygons [[x, y], …] of the frame, each in pixels, or, if no number is above 1, in fractions of the frame.
    What is in none of them is left out. A detection is where the middle of its box's lower edge is."""
    min_area: float | None = Field(None, ge=0)
    """Least area of a box: a share of the frame, or, above 1, square pixels of it."""
    max_area: float | None = Field(None, gt=0)
    """Largest area of a box: a share of the frame, or, above 1, square pixels of it."""


class Tracking(Frozen):
    """Objects keep a number from one frame to the next, and events tell of their coming, staying and going."""

    start_confidence: Fraction = 0.5
    """What is less confident can only be an object that is known already, else it is left out. A pipeline's
    min_confidence below this lets weak sightings (of something half hidden) keep an object."""
    lost_after: Seconds = Field(2.0, ge=0.1, le=3600)
    """An object that has not been seen for so long has left; frames must come more often than that."""
    dwell: Seconds | None = Field(None, gt=0, le=604800)
    """An event when an object has stayed for so long: in a zone where there are zones, else in the frame."""


class Snapshot(Frozen):
    """Pictures with what was found in them drawn in, as JPEG."""

    interval: Seconds = Field(10.0, ge=0.1, le=86400)
    """At most one picture in this time."""
    max_side: int = Field(640, ge=96, le=8192)
    """Larger pictures are made smaller, to this width or height."""
    max_size: Bytes = Field(100_000, ge=4000, le=10_000_000)
    """No picture has more bytes; quality gives way first, then width and height."""


class Gate(Frozen):
    """Frames that show nothing new are held back: no inference, no result, counted as `unchanged`."""

    type: Literal["motion"]
    """`motion`: a frame passes when something in it differs from the scene of the last seconds."""
    threshold: float = Field(12.0, ge=1, le=255)
    """By how many grey levels (of 255) a pixel must differ, in a small picture without noise."""
    min_area: float = Field(0.005, gt=0, le=1)
    """Share of the frame that must differ; with regions: share of any region."""
    hold: Seconds = Field(0.5, ge=0, le=3600)
    """For so long after the last motion frames still pass."""
    heartbeat: Seconds = Field(10.0, gt=0, le=86400)
    """A frame passes all the same when none has passed for so long."""


# Sources that show one scene over time; elsewhere each picture is one for itself.
GATED = ("camera", "video", "command", "mqtt")


class Pipeline(Frozen):
    """One road from a source through a model to a topic."""

    source: Source
    """Where inputs come from."""
    model: str
    """Name of one of `models`."""
    top_k: int | None = Field(None, ge=1, le=1000)
    """At most so many predictions for a result (for each region, where there are regions), the most confident first;
    default: 5 for classification, 100 for other tasks."""
    min_confidence: Fraction | None = None
    """Predictions below this are left out; a result may then have none. Default: 0 for classification, 0.25 for other
    tasks."""
    max_overlap: Fraction = 0.45
    """Of two boxes of one class that overlap by more than this (intersection over union), the less confident is left
    out."""
    regions: dict[str, Region] = Field({}, max_length=256)
    """Named rectangles [x1, y1, x2, y2] of the frame, each cropped and classified by itself: in pixels, or, if no
    number is above 1, in fractions of the frame."""
    gate: Gate | None = None
    """Which frames are looked at; default: every one. For cameras, videos, programs and pictures over MQTT. What
    asks for its result (MQTT 5 response topic) is always looked at."""
    filters: Filters = Filters()
    """Which predictions are told, besides top_k and min_confidence."""
    tracking: Tracking | None = None
    """Gives objects numbers that last from frame to frame, and tells events on `P/{pipeline}/event`; default: off.
    `tracking: {}` turns it on."""
    snapshot: Snapshot | None = None
    """Publishes pictures now and then on `P/{pipeline}/snapshot`; default: off. `snapshot: {}` turns it on."""
    window: Window | None = None
    """Cuts what comes into windows as the model takes them; default: off for messages, which are a window each, on for
    other sources of readings and sound. `window: {}` turns it on."""
    anomaly: Anomaly | None = None
    """For scores of anomaly models: what is an anomaly; default: as the bundle says, else scores only."""
    smoothing: Smoothing | None = None
    """For classifiers of readings and sound: steadies what is said over time, and tells events on
    `P/{pipeline}/event`; default: off. `smoothing: {}` turns it on."""
    text: Text = Text()
    """For language models: how requests are answered."""
    publish: Publish = Publish()
    """Which results are published, and how; default: every one, once, at QoS 1."""

    @field_validator("gate")
    @classmethod
    def _gate_needs_a_scene(cls, value: Gate | None, info: ValidationInfo) -> Gate | None:
        source = info.data.get("source")
        if value is not None and source is not None and source.type not in GATED:
            raise ValueError(f"is for sources that show one scene over time: {', '.join(GATED)} (got {source.type})")
        return value

    # While the gate is closed, its heartbeat is all that a tracker or a subscriber hears of.

    @field_validator("tracking")
    @classmethod
    def _still_objects_are_not_lost(cls, value: Tracking | None, info: ValidationInfo) -> Tracking | None:
        gate = info.data.get("gate")
        if value is not None and gate is not None and value.lost_after <= gate.heartbeat:
            raise ValueError(
                f"lost_after must be longer than the gate's heartbeat, {gate.heartbeat:g} s (got {value.lost_after:g}):"
                " what stands still is not seen in between"
            )
        return value

    @field_validator("publish")
    @classmethod
    def _gate_lets_the_heartbeat_through(cls, value: Publish, info: ValidationInfo) -> Publish:
        gate = info.data.get("gate")
        if value.heartbeat is not None and gate is not None and value.heartbeat < gate.heartbeat:
            raise ValueError(
                f"heartbeat must not be shorter than the gate's, {gate.heartbeat:g} s (got {value.heartbeat:g})"
            )
        return value
