"""The typed settings that a configuration file becomes.

Every field's documentation stands right under it; `schema` and the reference in docs/ are made from it.
"""

import re
import socket
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from edge_agent.monitoring_settings import Http, Metrics
from edge_agent.series_settings import Anomaly, Input, Smoothing, Window
from edge_agent.settings_base import Bytes, Fraction, Frozen, Normalize, Seconds
from edge_agent.stream_settings import AudioSource, CommandSource, IioSource, MicrophoneSource, SerialSource
from edge_agent.text_settings import Language, Text
from edge_agent.update_settings import Update

# What stands in topics must not hold separators or wildcards. Python's `$` alone would let a line's end through.
TOPIC_LEVEL = r"^[^/+#$\x00-\x1f\x7f][^/+#\x00-\x1f\x7f]*$(?!\n)"
TOPIC_PREFIX = r"^[^/+#$\s\x00-\x1f\x7f]([^+#\s\x00-\x1f\x7f]*[^/+#\s\x00-\x1f\x7f])?$(?!\n)"
TopicLevel = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=TOPIC_LEVEL)]
AcceleratorName = Literal[
    "cpu", "edgetpu", "ethosu", "gpu", "openvino", "cuda", "tensorrt", "qnn", "nnapi", "coreml", "acl", "xnnpack"
]
Output = Literal["probabilities", "logits", "sigmoid"]


class Mqtt(Frozen):
    """The broker and how to reach it."""

    url: str = "mqtt://localhost:1883"
    """`mqtt://HOST:PORT`, `mqtts://` (TLS), `ws://`, `wss://`, or `embedded`: a broker in the process, for trials."""
    protocol: Annotated[Literal["auto", "5", "3.1.1"], WithJsonSchema({"enum": ["auto", 5, "5", "3.1.1"]})] = "auto"
    """MQTT version: 5, or 3.1.1, or `auto`: 5 with fallback to 3.1.1 when the broker refuses it."""
    username: str | None = None
    """User name at the broker."""
    password_file: Annotated[str, Field(min_length=1)] | None = None
    """File that holds the password (its first line), or `${env:NAME}`: the password itself, from the environment."""
    ca_file: Path | None = None
    """PEM file of the authority that signed the broker's certificate; default: the system's authorities."""
    cert_file: Path | None = None
    """PEM file of this device's certificate, for mutual TLS."""
    key_file: Path | None = Field(None, validate_default=True)
    """PEM file of the key that belongs to cert_file."""
    topic_prefix: str = Field("edge", max_length=256, pattern=TOPIC_PREFIX)
    """First part of every topic: `{topic_prefix}/{device_id}/…`."""
    keepalive: Seconds = Field(30.0, ge=2, le=3600)
    """A broker that has not been heard of for twice this long is taken as gone."""
    session_expiry: Seconds = Field(86400.0, ge=0, le=31536000)
    """How long the broker keeps inputs for an agent that is away (MQTT 5)."""
    max_packet_size: Bytes | None = Field(None, ge=1024)
    """Largest packet the broker may send (MQTT 5). Larger inputs are then dropped by the broker, without a word to the
    agent; without it they are received, refused and counted."""

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        if value != "embedded" and not re.fullmatch(r"(mqtts?|wss?)://[^\s/]+(/\S*)?", value):
            raise ValueError("must be mqtt://HOST[:PORT], mqtts://, ws://, wss:// or embedded")
        if "@" in value:
            raise ValueError("must not hold user name and password: use username and password_file")
        try:
            _ = urlsplit(value).port
        except ValueError:
            raise ValueError("must be a valid address: brackets around IPv6, a port up to 65535") from None
        return value

    @field_validator("protocol", mode="before")
    @classmethod
    def _protocol_as_text(cls, value: object) -> object:
        return str(value).removesuffix(".0") if isinstance(value, str | int | float) else value

    # What another key must be is looked at only if that key is in order itself: `info.data` holds it then.

    @field_validator("password_file")
    @classmethod
    def _password_belongs_to_a_user(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("username", "") is None:
            raise ValueError("needs a username")
        return value

    @field_validator("ca_file", "cert_file")
    @classmethod
    def _certificates_are_for_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        url = info.data.get("url")
        if value is not None and url is not None and not url.startswith(("mqtts:", "wss:")):
            raise ValueError("needs a url with TLS, mqtts:// or wss://")
        return value

    @field_validator("key_file")
    @classmethod
    def _key_belongs_to_a_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "cert_file" in info.data and (value is None) != (info.data["cert_file"] is None):
            raise ValueError("cert_file and key_file belong together: give both or neither")
        return value


class Outbox(Frozen):
    """Where results wait while the broker is away."""

    path: Path | None = None
    """Database file; written only while results can't be delivered. Default: `outbox.db` in the service's state
    directory (systemd), or beside the configuration file."""
    max_size: Bytes = Field(64_000_000, ge=100_000)
    """Bound on the waiting results, in bytes of payload."""
    when_full: Literal["drop_oldest", "drop_newest"] = "drop_oldest"
    """What gives way when max_size is reached; each is counted as `outbox_full`."""
    replay_rate: float = Field(100.0, gt=0, le=100_000)
    """Most waiting results sent a second after the broker has come back, so that a fleet does not flatten it."""


class Thermal(Frozen):
    """What happens when the device gets too hot."""

    slow_down_at: Literal["never"] | Annotated[float, Field(ge=30, le=120)] = 75.0
    """From this temperature on (°C of the CPU), and whenever the CPU is throttled, live sources have fewer frames; all
    of them again when it is 5 °C cooler. `never`: it is only told in `stats`."""
    min_rate: float = Field(0.25, gt=0, le=1)
    """The share of their frames that they keep at least."""


class Preprocess(Frozen):
    """How pixels become the model's input tensor; what is left out is read from the model file."""

    resize: Literal["stretch", "letterbox", "center_crop"] | None = None
    """Fit the picture to the model's input: `stretch`, `letterbox` (keep the aspect ratio, pad right and below) or
    `center_crop` (keep the aspect ratio, cut); default: as the model family was published, else stretch."""
    color: Literal["rgb", "bgr", "gray"] | None = None
    """Channel order the model was trained with; default: rgb for three channels, gray for one."""
    layout: Literal["nhwc", "nchw"] | None = None
    """Order of the input's axes; default: read from its shape."""
    normalize: Literal["unit", "signed", "raw", "imagenet"] | Normalize | None = None
    """Real input values: `unit` 0..1, `signed` -1..1, `raw` 0..255, `imagenet`, or mean and std."""
    reduced_decoding: bool | None = None
    """Whether a JPEG that is at least twice as large as the model's input is decoded at 1/2, 1/4 or 1/8 of its size,
    and a camera's or a video's frame reduced likewise, where nothing else needs all its pixels; default: true."""


# In the file a number is as good as its text.
RuntimeOption = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean"]})]
RuntimeOptions = Annotated[dict[str, RuntimeOption], Field(max_length=64)]


class Delegate(Frozen):
    """A TFLite delegate of one's own."""

    delegate: str = Field(min_length=1, max_length=4096)
    """Its shared library; a name without a `/` is looked for where the system keeps libraries. `xnnpack` is none: it is
    the processor, with the options `flags` and `weight_cache`."""
    options: RuntimeOptions = Field({})
    """What it is told, as its makers document it."""


class Provider(Frozen):
    """An execution provider of ONNX Runtime, by its own name."""

    provider: str = Field(min_length=1, max_length=64)
    """`OpenVINOExecutionProvider`, …"""
    options: RuntimeOptions = Field({})
    """Provider options, as ONNX Runtime documents them."""


Accelerator = AcceleratorName | Delegate | Provider


class Model(Frozen):
    """One model file and how it is run."""

    path: Path
    """A .tflite or .onnx file, a bundle folder, or the name of a model from the registry."""
    labels: Path | None = None
    """Text file, one label a line in the order of the model's outputs; default: what the file itself carries; `none`:
    class numbers only."""
    decoder: str | None = None
    """How the outputs are read, where the file does not show it: `classification`, or a family that `inspect` names."""
    anchors: Path | None = None
    """Text file with the anchors of an SSD without post-processing: centre y, centre x, height, width in fractions."""
    output: Output | None = None
    """What a classifier's output is, where the file does not show it: `sigmoid` scores each label by itself."""
    preprocess: Preprocess = Preprocess()
    """How pixels become the input tensor, where the file does not say."""
    input: Input | None = None
    """What goes in, where that is no picture and the file does not say."""
    accelerators: tuple[Accelerator, ...] = Field(("cpu",), min_length=1, max_length=8)
    """In order of preference; a list that ends in `cpu` falls back, any other refuses to start instead. Each is a name,
    or `{delegate: LIBRARY, options: {…}}` (.tflite), or `{provider: NAME, options: {…}}` (.onnx)."""
    timeout: Seconds = Field(5.0, ge=0.05, le=25)
    """An inference on an accelerator that takes longer has hung: the next accelerator takes over."""
    isolate: bool = False
    """Runs the model in a process of its own: what crashes there does not end the agent."""
    threads: int | None = Field(None, ge=1, le=64)
    """CPU threads for one inference; default: chosen for the cores of this machine."""
    language: Language = Language()
    """For language models: how much they remember."""

    @field_validator("accelerators")
    @classmethod
    def _each_once(cls, value: tuple[Accelerator, ...]) -> tuple[Accelerator, ...]:
        if any(one in value[:at] for at, one in enumerate(value)):
            raise ValueError("must name each only once")
        return value


class MqttSource(Frozen):
    """Encoded images (JPEG, PNG, BMP, WebP) that arrive on a topic."""

    type: Literal["mqtt"]
    """Images that arrive over MQTT."""
    topic: str = Field(min_length=1, max_length=1024)
    """Topic filter; `+` and `#` are allowed."""
    qos: Literal[0, 1] = 1
    """1: each input is answered at least once. 0: inputs may be lost."""
    share: TopicLevel | None = None
    """Name of a group of agents that share the topic's load (MQTT shared subscription)."""
    max_payload: Bytes = Field(32_000_000, ge=1)
    """Larger messages are refused before they are decoded."""

    @field_validator("qos", mode="before")
    @classmethod
    def _qos_from_text(cls, value: object) -> object:
        return int(value) if value in ("0", "1") else value

    @field_validator("topic")
    @classmethod
    def _topic_filter(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("must not hold the character U+0000")
        levels = value.split("/")
        if "#" in value and (value.count("#") > 1 or levels[-1] != "#"):
            raise ValueError("'#' is allowed only as the last level of a topic filter")
        if any("+" in level and level != "+" for level in levels):
            raise ValueError("'+' must fill a whole level of a topic filter")
        if value.startswith("$share/"):
            raise ValueError("write `share: GROUP` instead of $share/GROUP/…")
        return value


class CameraSource(Frozen):
    """A V4L2 camera."""

    type: Literal["camera"]
    """A V4L2 camera."""
    device: Annotated[int | str, Field(union_mode="left_to_right")] = 0
    """Number, /dev path, or (part of) the camera's name."""
    fps: float | None = Field(None, gt=0, le=1000)
    """Frames a second; default: what the camera delivers."""
    width: int | None = Field(None, ge=16, le=16384)
    """Frame width to ask the camera for, in pixels."""
    height: int | None = Field(None, ge=16, le=16384)
    """Frame height to ask the camera for, in pixels."""
    stall_timeout: Seconds = Field(10.0, ge=0.5, le=600)
    """No frame, or the very same frame, for this long: the camera is taken as gone and opened again."""


class VideoSource(Frozen):
    """A video file, or a stream over RTSP or HTTP."""

    type: Literal["video"]
    """A video file or stream."""
    url: str = Field(min_length=1)
    """File path, rtsp:// or http(s):// address."""
    fps: Literal["source", "max"] | Annotated[float, Field(gt=0, le=1000)] = "source"
    """`source`: at the video's own pace; `max`: as fast as inference goes; a number: that many frames a second."""
    loop: bool = False
    """Start a file again at its end."""
    stall_timeout: Seconds = Field(10.0, ge=0.5, le=600)
    """Streams only: no frame, or the very same frame, for this long: the stream is taken as gone and opened again."""

    @property
    def live(self) -> bool:
        """Whether it is a stream rather than a file."""
        return _is_stream(self.url)

    @field_validator("loop")
    @classmethod
    def _loop_is_for_files(cls, value: bool, info: ValidationInfo) -> bool:
        if value and _is_stream(info.data.get("url", "")):
            raise ValueError("is for files; a stream is opened again by itself")
        return value


def _is_stream(url: str) -> bool:
    return "://" in url.removeprefix("file://")


class ImagesSource(Frozen):
    """Image files of a folder, or of a glob pattern, in the order of their names."""

    type: Literal["images"]
    """Image files."""
    path: str = Field(min_length=1)
    """Folder or glob pattern."""


class PipelineSource(Frozen):
    """The objects that another pipeline finds, each cut out of its picture: detect, then classify."""

    type: Literal["pipeline"]
    """`pipeline`"""
    name: TopicLevel
    """Name of the other pipeline, whose model must find boxes."""
    labels: tuple[str, ...] = ()
    """Only objects with one of these labels; default: all."""
    min_confidence: Fraction = 0.0
    """Only objects that the other pipeline is at least so sure of."""
    margin: Fraction = 0.0
    """What is added to the box on each side, as a share of its size."""


Source = Annotated[
    MqttSource
    | CameraSource
    | VideoSource
    | ImagesSource
    | PipelineSource
    | CommandSource
    | SerialSource
    | IioSource
    | MicrophoneSource
    | AudioSource,
    Field(discriminator="type"),
]


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


class Settings(Frozen):
    """A whole configuration file."""

    device_id: TopicLevel = Field(default_factory=socket.gethostname)
    """Name of this device in topics and results; default: the host name."""
    mqtt: Mqtt = Mqtt()
    """The broker."""
    outbox: Outbox = Outbox()
    """Where results wait while the broker is away."""
    thermal: Thermal = Thermal()
    """What happens when the device gets too hot."""
    stats_interval: Seconds = Field(10.0, ge=0.1, le=86400)
    """How often the counters are published."""
    battery: Battery = Battery()
    """The battery of a phone."""
    home_assistant: HomeAssistant = HomeAssistant()
    """Shows the device and what its pipelines find in Home Assistant."""
    metrics: Metrics | None = None
    """Metrics for Prometheus; default: off. `metrics: {}` turns them on."""
    http: Http | None = None
    """A page that shows what the agent does; default: off. `http: {}` turns it on."""
    model_memory: Bytes | None = Field(None, ge=1_000_000)
    """Most memory for all models together, about: their weights and what language models keep; a model that does not
    fit in is refused before it is loaded. Default: 80 % of what is free then."""
    models: dict[TopicLevel, Model] = Field({}, max_length=64)
    """Models by name."""
    pipelines: dict[TopicLevel, Pipeline] = Field({}, max_length=256)
    """Pipelines by name; the name is part of their topics."""
    update: Update | None = None
    """Where new versions of models come from; default: nowhere."""
