"""The settings of the sources of images and messages, and the union of all sources."""

from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from edge_agent.settings.base import Bytes, Fraction, Frozen, Qos, Seconds, TopicLevel, accepted
from edge_agent.settings.streams import AudioSource, CommandSource, IioSource, MicrophoneSource, SerialSource
from edge_agent.settings.topics import problem_of_filter
from edge_agent.system.address import problem_of_server


class MqttSource(Frozen):
    """Messages that arrive on a topic: encoded images (JPEG, PNG, BMP, WebP), readings, sound, or requests."""

    type: Literal["mqtt"]
    """Messages that arrive over MQTT."""
    topic: Annotated[str, Field(min_length=1, max_length=1024), accepted(problem_of_filter)]
    """Topic filter; `+` and `#` are allowed."""
    qos: Qos = 1
    """1: each input is answered at least once. 0: inputs may be lost."""
    share: TopicLevel | None = None
    """Name of a group of agents that share the topic's load (MQTT shared subscription)."""
    stand_in: tuple[TopicLevel, ...] = Field((), max_length=32)
    """Devices of the group that stand in for each other: while one is away, another one processes the inputs that the
    broker holds for it. Their pipelines must have the same name. Any client that may publish on a member's `share`
    topic can call that member away. Default: none; the broker holds the inputs until the member is back."""
    max_payload: Bytes = Field(32_000_000, ge=1)
    """Larger messages are refused before they are decoded."""
    numbers: Literal["text", "float32"] | None = None
    """For models of readings: how messages hold numbers. `float32`: always raw little-endian float32. `text`: never.
    Default: messages that are printable text are text, all others are float32."""
    fields: dict[str, Annotated[str, Field(max_length=32)]] = Field({}, max_length=64)
    """For readings: which numbers of a JSON message are taken, by their dotted paths, each with its unit, such as
    `{temperature: degC, ENERGY.Power: W}`; without a unit `""`. A message that is a bare number is the only field."""

    @field_validator("fields")
    @classmethod
    def _fields_are_text(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if value and info.data.get("numbers") == "float32":
            raise ValueError("are for JSON messages, and numbers: float32 says that there are none")
        return value

    @field_validator("stand_in")
    @classmethod
    def _stand_in_within_a_group(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and info.data.get("share", "") is None:
            raise ValueError("needs `share`: the name of the group")
        return value


class CameraSource(Frozen):
    """A V4L2 camera."""

    type: Literal["camera"]
    """A V4L2 camera."""
    device: Annotated[int | str, Field(union_mode="left_to_right")] = 0
    """Number, /dev path, or (part of) the camera's name."""
    fps: float | None = Field(None, gt=0, le=1000)
    """Frames per second. Default: the camera's rate."""
    width: int | None = Field(None, ge=16, le=16384)
    """Frame width to request from the camera, in pixels."""
    height: int | None = Field(None, ge=16, le=16384)
    """Frame height to request from the camera, in pixels."""
    stall_timeout: Seconds = Field(10.0, ge=0.5, le=600)
    """When no frame, or only the same frame, has arrived for this long, the camera counts as lost and is opened
    again."""
    every: Seconds | None = Field(None, ge=5, le=86400)
    """Open it this often only, take one picture, and close it again. Default: it stays open."""


class AiCameraSource(Frozen):
    """Raspberry Pi's AI Camera (IMX500), which runs the model itself."""

    type: Literal["ai_camera"]
    """Raspberry Pi's AI Camera."""
    model: str = Field(min_length=1)
    """Name of one of `models`, whose `path` is a .rpk file. The pipeline needs no `model` of its own."""
    width: int = Field(1280, ge=64, le=4056)
    """Width of the frames, in pixels. The model sees all of the sensor, whatever the frames show of it."""
    height: int = Field(960, ge=64, le=3040)
    """Height of the frames, in pixels."""
    fps: float = Field(15.0, gt=0, le=120)
    """Frames per second."""
    program: str = Field("rpicam-vid", min_length=1, max_length=1024)
    """The program that reads the camera: its name or path."""
    load_timeout: Seconds = Field(300.0, ge=1, le=3600)
    """How long the first result may take: the camera gets the model first, which can take minutes."""
    stall_timeout: Seconds = Field(10.0, ge=0.5, le=600)
    """When no result of the model has arrived for this long, even if frames have, the camera is started again."""


# What FFmpeg can read a stream from, where it was built with all.
_SCHEMES = (
    *("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "rtmpe", "rtmpt", "rtmpte", "rtmpts", "rtp", "srtp", "udp"),
    *("tcp", "tls", "srt", "rist", "sctp", "mms", "mmsh", "mmst", "ftp", "sftp", "hls", "unix", "zmq", "udplite"),
)


# Those whose address may leave out the host, as where FFmpeg listens, or is a path.
_WITHOUT_HOST = ("rtp", "srtp", "udp", "udplite", "srt", "rist", "sctp", "hls", "unix", "zmq")
_USUAL = ("rtsp", "rtsps", "http", "https")


def _problem_of_address(url: str) -> str:
    """Why there can't be a video at an address, or an empty string."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme == "file" or "/" in scheme:
        return ""
    if scheme in _SCHEMES:
        return "" if scheme in _WITHOUT_HOST else problem_of_server(url)
    near = get_close_matches(scheme.lower(), _USUAL, 1) or get_close_matches(scheme.lower(), _SCHEMES, 1)
    return f"is of an unknown kind, {scheme}://" + (
        f": did you mean {near[0]}://?" if near else ": use rtsp:// or http://"
    )


class SecondStream(Frozen):
    """A second, small stream of the same camera, which shows when something moves."""

    url: Annotated[str, Field(min_length=1), accepted(_problem_of_address)]
    """Its address."""

    @field_validator("url")
    @classmethod
    def _is_a_stream(cls, value: str) -> str:
        if not _is_stream(value):
            raise ValueError("must be the address of a stream, such as rtsp://cam.lan/sub")
        return value


class VideoSource(Frozen):
    """A video file, or a stream over RTSP or HTTP."""

    type: Literal["video"]
    """A video file or stream."""
    url: Annotated[str, Field(min_length=1), accepted(_problem_of_address)]
    """File path, rtsp:// or http(s):// address."""
    fps: Literal["source", "max"] | Annotated[float, Field(gt=0, le=1000)] = "source"
    """`source`: the video's own rate. `max`: as fast as inference allows. A number: frames per second; of an address
    that gives a single picture, how often it is fetched."""
    loop: bool = False
    """Start a file again at its end."""
    watch: Literal["all", "packets"] | SecondStream = "all"
    """Streams only: which frames are decoded. `all`: those that `fps` needs. The others, which need the extra `video`,
    decode while something moves: `packets`, as keyframes and the sizes of packets say; `{url: …}`, as a second, smaller
    stream of the same camera shows. The pipeline's `gate` says what counts as motion."""
    deblocking: bool = True
    """Streams only, with the extra `video`: smooth the edges between blocks of the picture. Without it, decoding H.264
    and H.265 takes about a sixth less; models that see small pictures seldom notice."""
    hardware: bool = False
    """Streams only, with the extra `video`: decode in hardware, where this machine and PyAV offer that (`h264_v4l2m2m`,
    VA-API). It is first tried beside the software, on the stream itself, and used if its pictures are the same and it
    takes less CPU. Otherwise, and when it fails later, the software decodes, and the log says why."""
    stall_timeout: Seconds = Field(10.0, ge=0.5, le=600)
    """Streams only: when no frame, or only the same frame, has arrived for this long, the stream counts as lost and is
    opened again."""
    every: Seconds | None = Field(None, ge=5, le=86400)
    """Streams only: Open it this often only, take one picture, and close it again. Default: it stays open."""

    @field_validator("watch")
    @classmethod
    def _watch_is_for_streams(
        cls, value: Literal["all", "packets"] | SecondStream, info: ValidationInfo
    ) -> Literal["all", "packets"] | SecondStream:
        if value != "all" and not _is_stream(info.data.get("url", "rtsp://")):
            raise ValueError("is for streams; with a file, use `gate`")
        return value

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
    """Objects that another pipeline detects, each cropped from its image: detect, then classify."""

    type: Literal["pipeline"]
    """Predictions of another pipeline."""
    name: TopicLevel
    """Name of the other pipeline, whose model must detect boxes."""
    labels: tuple[str, ...] = ()
    """Only objects with one of these labels. Default: all."""
    min_confidence: Fraction = 0.0
    """Only objects with at least this confidence."""
    margin: Fraction = 0.0
    """Margin that is added to the box on each side, as a fraction of its size."""


Source = Annotated[
    MqttSource
    | CameraSource
    | AiCameraSource
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
