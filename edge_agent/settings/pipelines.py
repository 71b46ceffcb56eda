"""The settings of pipelines: which inputs are processed, and which results are published."""

import re
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from edge_agent.settings.actions import Action
from edge_agent.settings.base import Bytes, Fraction, Frozen, Qos, Seconds, TopicLevel, accepted
from edge_agent.settings.keep import Keep, Record
from edge_agent.settings.meter import Meter
from edge_agent.settings.series import Anomaly, Smoothing, Window
from edge_agent.settings.shapes import Point, Polygon, Region
from edge_agent.settings.sources import AiCameraSource, Source
from edge_agent.settings.speech import Speech
from edge_agent.settings.statistics import STATISTICS, Statistics
from edge_agent.settings.text import Text
from edge_agent.settings.topics import problem_of_name


class Publish(Frozen):
    """Which results are published, and how. A result that was requested (MQTT 5 response topic) is always published."""

    on_change: bool = False
    """Publish only results that differ from the last published one: another top label (of a region), another number of
    objects of a label, another value. The others are counted as `withheld`."""
    hysteresis: float = Field(0.0, ge=0)
    """For on_change: by how much the confidence of a new label must exceed that of the old one, that of a new object
    must exceed min_confidence, or a value must change."""
    heartbeat: Seconds | None = Field(None, gt=0, le=31536000)
    """For on_change: publish an unchanged result when nothing has been published for this long."""
    min_interval: Seconds = Field(0.0, ge=0, le=86400)
    """Minimum time between two published results. Those in between are counted as `withheld`."""
    expire_after: Seconds | None = Field(None, gt=0, le=31536000)
    """Maximum age of a result. An older one is no longer sent, and brokers no longer deliver it (MQTT 5)."""
    qos: Qos = 1
    """1: every result arrives at least once. 0: results may be lost on the way."""
    retain: bool = False
    """The broker keeps the latest result for later subscribers."""
    topic: Annotated[str, Field(min_length=1, max_length=1024), accepted(problem_of_name)] | None = None
    """A further topic for each result. `{device_id}`, `{pipeline}` and `{label}` (of the most confident prediction) are
    replaced."""

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


TIME_OF_DAY = r"^([01][0-9]|2[0-3]):[0-5][0-9]$(?!\n)"


class Filters(Frozen):
    """Which predictions are published. Those without a position (classification, regression) pass zones and areas."""

    labels: tuple[str, ...] = Field((), max_length=1000)
    """Only these labels. Default: all."""
    min_confidence: dict[str, Fraction] = Field({}, max_length=1000)
    """Minimum confidence by label, in place of the pipeline's min_confidence."""
    zones: dict[TopicLevel, Polygon] = Field({}, max_length=64)
    """Named polygons [[x, y], …] of the frame, each in pixels or, if no number is above 1, in fractions of the frame.
    Predictions in none of them are dropped. The position of a detection is the middle of its box's lower edge."""
    min_area: float | None = Field(None, ge=0)
    """Minimum area of a box: a fraction of the frame or, above 1, square pixels."""
    max_area: float | None = Field(None, gt=0)
    """Maximum area of a box: a fraction of the frame or, above 1, square pixels."""
    max_overlap: Fraction = 0.85
    """Of two boxes of different labels that overlap by more than this (intersection over union), the less confident is
    dropped: they are one object. 1: none is."""

    @model_validator(mode="after")
    def _some_area(self) -> "Filters":
        least, most = self.min_area, self.max_area
        if least is not None and most is not None and (least > 1) == (most > 1) and least > most:
            raise ValueError(f"min_area must not be above max_area (got {least:g} and {most:g}): nothing would pass")
        return self


class Tracking(Frozen):
    """Objects keep a number from frame to frame. Events report that they appear, stay and leave."""

    start_confidence: Fraction | None = None
    """Minimum confidence of a detection that starts a track. A weaker one continues a track or is dropped. A pipeline's
    min_confidence below this keeps the tracks of partly hidden objects. Default: as the model's bundle says of
    min_confidence; else 0.5."""
    lost_after: Seconds = Field(2.0, ge=0.1, le=3600)
    """An object that has not been detected for this long has left. Frames must come more often than that."""
    confirm: int = Field(2, ge=1, le=100)
    """An object exists once it has been detected in this many frames; until then it is in no result."""
    dwell: Seconds | None = Field(None, gt=0, le=604800)
    """Publish an event when an object has stayed for this long: in a zone if there are zones, else in the frame."""


class Line(Frozen):
    """A line of the frame. Objects that cross it are counted."""

    from_: Point = Field(alias="from")
    """Its first end, [x, y], like `to` in pixels or, if no number is above 1, in fractions of the frame."""
    to: Point
    """Its other end. Seen in the direction from `from` to `to`, objects that cross from left to right go `in`, others
    `out`."""
    reset: Annotated[str, Field(pattern=TIME_OF_DAY)] | None = None
    """Time of day, on the clock of the device, at which the totals begin again from 0. Default: never."""

    @model_validator(mode="after")
    def _has_a_length(self) -> "Line":
        if self.from_ == self.to:
            raise ValueError("from and to must be two different points")
        if min(*self.from_, *self.to) < 0:
            raise ValueError("needs numbers >= 0")
        return self


class Snapshot(Frozen):
    """JPEG images with the predictions drawn in."""

    interval: Seconds = Field(10.0, ge=0.1, le=86400)
    """Minimum time between two images."""
    max_side: int = Field(640, ge=96, le=8192)
    """Maximum width and height in pixels. Larger images are scaled down."""
    max_size: Bytes = Field(100_000, ge=4000, le=10_000_000)
    """Maximum size of an image in bytes. Its quality is reduced first, then its width and height."""


class Gate(Frozen):
    """Frames of a still scene are skipped: no inference, no result, counted as `unchanged`."""

    type: Literal["motion"]
    """`motion`: a frame passes when part of it differs from the scene of the last seconds."""
    threshold: float = Field(12.0, ge=1, le=255)
    """By how many grey levels (of 255) a pixel must differ, in a small, denoised image."""
    min_area: float = Field(0.005, gt=0, le=1)
    """Fraction of the frame that must differ; with regions, fraction of any region."""
    hold: Seconds = Field(0.5, ge=0, le=3600)
    """Frames pass for this long after the last motion."""
    heartbeat: Seconds = Field(10.0, gt=0, le=86400)
    """A frame passes without motion when none has passed for this long."""


# Sources that show one scene over time; elsewhere images are unrelated.
GATED = ("camera", "ai_camera", "video", "command", "mqtt")


BuiltIn = Annotated[Statistics | Speech, Field(discriminator="type")]
"""A model that needs no file."""


class Pipeline(Frozen):
    """One way from a source through a model to a topic."""

    source: Source
    """Where inputs come from."""
    model: str | BuiltIn = Field("", validate_default=True)
    """Name of one of `models`, or one that needs no model file: `{type: statistics}`, `{type: speech}`. Required, but
    for the AI Camera, whose source names it."""
    top_k: int | None = Field(None, ge=1, le=1000)
    """Maximum number of predictions in a result (for each region, if there are regions), the most confident first.
    Default: 5 for classification, 100 for other tasks."""
    min_confidence: Fraction | None = None
    """Predictions with a lower confidence are dropped; a result may then have none. Default: as the model's bundle
    says; else 0 for classification, 0.25 for other tasks."""
    max_overlap: Fraction = 0.45
    """IoU threshold of non-maximum suppression: of two boxes of one class that overlap by more than this (intersection
    over union), the less confident is dropped."""
    meter: Meter | None = None
    """Reads the value of a meter from its digits."""
    regions: dict[str, Region] = Field({}, max_length=256, validate_default=True)
    """Named rectangles [x1, y1, x2, y2] of the frame. Each is cropped and run through the model by itself. In pixels
    or, if no number is above 1, in fractions of the frame."""
    gate: Gate | None = None
    """Which frames are processed. Default: all. For cameras, videos, programs and images over MQTT. Input that requests
    its result (MQTT 5 response topic) is always processed."""
    filters: Filters = Filters()
    """Which predictions are published, in addition to top_k and min_confidence."""
    tracking: Tracking | None = None
    """Gives objects numbers that last from frame to frame, and publishes events on
    `{topic_prefix}/{device_id}/{pipeline}/event`. Default: off; `tracking: {}` turns it on."""
    lines: dict[TopicLevel, Line] = Field({}, max_length=16)
    """Named lines that are counted across, for pipelines with tracking. The totals are in the results and in `stats`,
    crossings are published as events."""
    object_pictures: Snapshot | None = None
    """For pipelines with tracking: the best picture of each object, retained, on
    `{topic_prefix}/{device_id}/{pipeline}/object`. Default: off; `object_pictures: {}` turns it on."""
    snapshot: Snapshot | None = None
    """Publishes images on `{topic_prefix}/{device_id}/{pipeline}/snapshot`. Default: off; `snapshot: {}` turns it
    on."""
    keep: Keep | None = None
    """Keeps samples that are worth a look on this device. Default: off."""
    record: Record | None = None
    """Records all inputs around something that happens. Default: off; `record: {}` turns it on."""
    window: Window | None = None
    """Cuts a stream into windows of the model's input length. Default: off for messages, each of which is one window;
    on for other sources of readings and sound. `window: {}` turns it on."""
    anomaly: Anomaly | None = None
    """For anomaly models: which scores are anomalies. Default: as the bundle says, else scores only."""
    smoothing: Smoothing | None = None
    """For classifiers of readings and sound: smooths the labels over time, and publishes events on
    `{topic_prefix}/{device_id}/{pipeline}/event`. Default: off; `smoothing: {}` turns it on."""
    text: Text = Text()
    """For language models: how requests are answered."""
    publish: Publish = Publish()
    """Which results are published, and how. Default: every one, once, at QoS 1."""
    actions: tuple[Action, ...] = Field((), max_length=64)
    """What is done when a result or an event comes: messages to other topics, output lines that are set."""

    @field_validator("model")
    @classmethod
    def _of_the_camera(cls, value: str | BuiltIn, info: ValidationInfo) -> str | BuiltIn:
        source = info.data.get("source")
        stated = source.model if isinstance(source, AiCameraSource) else ""
        if value and stated and value != stated:
            raise ValueError(f"is not the one of the source, {stated}: leave it out")
        if not (value or stated):
            raise ValueError("is required")
        return value or stated

    @field_validator("regions")
    @classmethod
    def _digits_of_the_meter(cls, value: dict[str, Region], info: ValidationInfo) -> dict[str, Region]:
        meter: Meter | None = info.data.get("meter")
        windows = {} if meter is None else meter.windows()
        if not windows:
            return value
        if value and value != windows:
            raise ValueError("are the digits of the meter already: leave them out, or its box")
        return windows

    @field_validator("gate")
    @classmethod
    def _gate_needs_a_scene(cls, value: Gate | None, info: ValidationInfo) -> Gate | None:
        source = info.data.get("source")
        if value is not None and source is not None and source.type not in GATED:
            raise ValueError(f"is for sources that show one scene over time: {', '.join(GATED)} (got {source.type})")
        return value

    @property
    def model_name(self) -> str:
        """The name of its model: one of `models`, or that of a built-in one."""
        if isinstance(self.model, str):
            return self.model
        return self.model.name if isinstance(self.model, Speech) else STATISTICS

    @property
    def event_kinds(self) -> list[str]:
        """What it publishes as events."""
        kinds = ["enter", "leave"] if self.tracking is not None else []
        kinds += ["dwell"] if self.tracking is not None and self.tracking.dwell is not None else []
        kinds += ["cross"] if self.lines else []
        kinds += ["start", "end"] if self.smoothing is not None else []
        return kinds + (["alarm", "end"] if isinstance(self.model, Statistics) else [])

    # While the gate is closed, a tracker or a subscriber sees only its heartbeat.

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

    @field_validator("lines")
    @classmethod
    def _objects_on_lines_are_tracked(cls, value: dict[str, Line], info: ValidationInfo) -> dict[str, Line]:
        if value and info.data.get("tracking", value) is None:
            raise ValueError("needs tracking: add `tracking: {}`")
        return value

    @field_validator("object_pictures")
    @classmethod
    def _pictures_of_tracked_objects(cls, value: Snapshot | None, info: ValidationInfo) -> Snapshot | None:
        if value is not None and info.data.get("tracking", value) is None:
            raise ValueError("needs tracking: add `tracking: {}`")
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
