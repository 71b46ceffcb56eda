"""The settings of models of readings and sound, and of pipelines that use them."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from edge_agent.settings.base import Fraction, Frozen, Normalize, Seconds
from edge_agent.system.units import parse_duration


def _parse_span(text: object) -> object:
    """A number of readings (int), or a duration in seconds (float) if the text has a unit."""
    if isinstance(text, str) and not re.fullmatch(r"\d+", text, re.ASCII):
        return parse_duration(text)
    return int(text) if isinstance(text, str) else text


Span = Annotated[
    int | float,
    BeforeValidator(_parse_span),
    WithJsonSchema({"type": ["integer", "string"], "examples": [26, "500ms"]}),
]
Hertz = Annotated[float, Field(gt=0, le=1_000_000)]
MAX_READINGS = 10_000_000


class Features(Frozen):
    """Acoustic features, computed once per step even where windows overlap.

    The defaults are those of TensorFlow's example, https://www.tensorflow.org/api_docs/python/tf/signal, and of the
    keyword spotter of MLPerf Tiny, https://github.com/mlcommons/tiny.
    """

    kind: Literal["log_mel", "mfcc"]
    """`log_mel`: logarithm of the energy in mel bands; `mfcc`: its discrete cosine transform (mel-frequency cepstral
    coefficients)."""
    frame: Seconds = Field(0.03, ge=0.001, le=1)
    """Length of sound from which one row of features is computed."""
    step: Seconds = Field(0.02, ge=0.001, le=1)
    """Time from the start of one frame to the start of the next."""
    bands: int = Field(40, ge=4, le=256)
    """Number of mel bands."""
    low: float = Field(20.0, ge=0, le=100_000)
    """Lower edge of the lowest band in Hz."""
    high: float = Field(4000.0, gt=0, le=200_000)
    """Upper edge of the highest band in Hz."""
    coefficients: int = Field(10, ge=1, le=256)
    """mfcc: number of coefficients, from the first."""
    power: Literal[1, 2] = 1
    """What is summed in a band: 1: magnitudes; 2: their squares."""
    floor: float = Field(1e-6, gt=0, le=1)
    """Added before the logarithm is taken."""
    peak: bool = False
    """Whether each window is first divided by its largest sample."""

    @field_validator("power", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return int(value) if value in ("1", "2") else value

    @model_validator(mode="after")
    def _belongs_together(self) -> "Features":
        if self.high <= self.low:
            raise ValueError("high must be > low")
        if self.coefficients > self.bands:
            raise ValueError("coefficients must be <= bands")
        return self


def _parse_constant(value: Any) -> Any:
    """`true` and `false` are numbers; lists become tuples."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return float(value.lower() == "true")
    return tuple(value) if isinstance(value, list) else value


Constant = Annotated[
    float | Annotated[tuple[float, ...], Field(min_length=1, max_length=64)],
    BeforeValidator(_parse_constant),
    WithJsonSchema(
        {"anyOf": [{"type": ["number", "boolean"]}, {"type": "array", "items": {"type": "number"}, "maxItems": 64}]}
    ),
]


class Input(Frozen):
    """The input of a model, where its tensors do not show what it is, or where it has further inputs."""

    kind: Literal["series", "audio", "image"]
    """`series`: readings of a sensor, or rows of a table; `audio`: sound; `image`: images."""
    rate: Hertz | None = None
    """Readings, or samples of sound, per second that the model was trained with. Default: the source's rate."""
    channels: tuple[str, ...] = Field((), max_length=256)
    """Names of the channels in the model's order: columns of CSV, keys of JSON objects. Default: all, in the source's
    order."""
    length: Span | None = None
    """Length of one input, where the model file leaves it open: a number of readings (rows of features, if there are
    features), or a duration."""
    context: int = Field(0, ge=0, le=1_000_000)
    """How many readings at the start of an input repeat the end of the previous one. Before the first input they are
    zero."""
    normalize: Normalize | None = None
    """Input values are (reading - mean) / std. Default: the readings themselves."""
    features: Features | None = None
    """audio: features that are computed from the samples. Default: none; the input is samples from -1 to 1."""
    state: dict[str, str] = Field({}, max_length=16)
    """For models with a state, `{input: output}`: inputs that take the value of an output for the previous input, and
    zeros at first."""
    constants: dict[str, Constant] = Field({}, max_length=16)
    """Further inputs that always take the same number, the same numbers, `true` or `false`: `{input: number}`."""

    @model_validator(mode="after")
    def _belongs_together(self) -> "Input":
        if self.kind == "image" and self.model_fields_set - {"kind", "constants"}:
            others = ", ".join(sorted(self.model_fields_set - {"kind", "constants"}))
            raise ValueError(f"kind: image takes constants only (got {others}): the others are for readings and sound")
        if self.features is not None and (self.kind != "audio" or self.rate is None):
            raise ValueError("features need kind: audio and a rate")
        if isinstance(self.length, float) and self.rate is None:
            raise ValueError("a length in seconds needs a rate")
        readings = self.readings
        if readings is not None and not 1 <= readings <= MAX_READINGS:
            raise ValueError(f"length must be from 1 to {MAX_READINGS} readings (got {readings})")
        if readings is not None and self.context >= readings:
            raise ValueError("context must be < length")
        return self

    @property
    def readings(self) -> int | None:
        """The length in readings, or in rows of features; None if it is not set."""
        if not isinstance(self.length, float) or self.rate is None:
            return None if self.length is None else int(self.length)
        return round(self.length / self.features.step if self.features else self.length * self.rate)


class Window(Frozen):
    """How a stream is cut into inputs of the model's length."""

    hop: Span | None = None
    """Distance from the start of one window to the start of the next: a number of readings at the model's rate (rows of
    features, if there are features), or a duration. Default: the length of a window, so that they do not overlap."""

    @field_validator("hop")
    @classmethod
    def _forward(cls, value: float | None) -> int | float | None:
        if value is not None and not 0 < value <= MAX_READINGS:
            raise ValueError(f"must be > 0 and at most {MAX_READINGS} readings")
        return value


class Anomaly(Frozen):
    """Which scores are anomalies."""

    threshold: float | None = Field(None, ge=0)
    """Scores above this are anomalies. Default: as the bundle says."""
    learn: int | None = Field(None, ge=10, le=1_000_000)
    """Learn the threshold from the scores of this many inputs, which must be normal: their mean plus `deviations` times
    their standard deviation. It is kept across restarts, and learned again when the model changes."""
    deviations: float = Field(4.0, gt=0, le=1000)
    """For learn: number of standard deviations."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "Anomaly":
        if self.threshold is not None and self.learn is not None:
            raise ValueError("threshold and learn: state one of them")
        return self


class Smoothing(Frozen):
    """Smooths the labels of a classifier over time."""

    over: int = Field(5, ge=1, le=10_000)
    """Number of results that are combined."""
    by: Literal["mean", "majority"] = "mean"
    """`mean`: a label's confidence becomes the mean of its confidences. `majority`: it becomes the label's share of the
    votes; each result has one vote, for its most confident label."""
    on: Fraction = 0.5
    """A label starts to hold when its smoothed confidence reaches this."""
    off: Fraction | None = None
    """It stops to hold when its smoothed confidence falls below this. Default: on."""
    min_duration: Seconds = Field(0.0, ge=0, le=86400)
    """Labels that hold for less time are not published."""

    @model_validator(mode="after")
    def _off_below_on(self) -> "Smoothing":
        if self.off is not None and self.off > self.on:
            raise ValueError("off must be <= on")
        return self
