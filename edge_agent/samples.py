"""What travels the road: a `Sample` goes in, `Prediction`s and a `Result` come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from edge_agent.counters import Settlement
from edge_agent.errors import EdgeAgentError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# In place of a label, in topics and comparisons, where there is none.
NO_LABEL = "none"
# Pixel formats of FFmpeg whose first plane is the brightness, a byte a pixel.
_LUMA_FIRST = (*("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "nv21", "gray"),)
# AVCOL_RANGE_JPEG of FFmpeg.
_FULL_RANGE = 2
# What can be written as a date, in seconds since the epoch. A clock without a battery may be set to anything.
_FIRST_MOMENT, _LAST_MOMENT = -62_135_596_800.0, 253_402_300_799.9995


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Where a request wants its result, besides the result topic (MQTT 5)."""

    topic: str
    correlation_data: bytes | None


class Recipient(Protocol):
    """Who has made a request within this process and gets the answer directly; nothing of it is published."""

    def piece(self, text: str) -> None:
        """Takes a piece of the answer, if the request asked for pieces."""
        ...

    def answer(self, content: Mapping[str, Any]) -> None:
        """Takes the answer: what a result document would say of it."""
        ...

    def error(self, error: EdgeAgentError) -> None:
        """Takes why there is no answer."""
        ...


@dataclass(frozen=True, slots=True)
class Series:
    """Consecutive readings of a sensor, or samples of sound.

    Attributes:
        values: (readings, channels), float32.
        channels: a name for each channel; () where they have none.
        rate: readings a second; None: not known, they count as taken when they came.
        gap: whether readings are missing before these.
    """

    values: "NDArray[np.float32]"
    channels: tuple[str, ...] = ()
    rate: float | None = None
    gap: bool = False


class PlanarFrame:
    """A frame of a video as its decoder leaves it, in planes: colours are converted only where they are looked at.

    Args:
        frame: an `av.VideoFrame`; its memory is the decoder's, and is not changed.

    Attributes:
        size: width, height in pixels.
    """

    __slots__ = ("_frame", "size")

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.size: tuple[int, int] = (frame.width, frame.height)

    @property
    def is_video_range(self) -> bool:
        """Whether black is 16 and white is 235 in `luma`, and not 0 and 255."""
        return self._frame.color_range != _FULL_RANGE and not self._frame.format.name.startswith("yuvj")

    def luma(self) -> "NDArray[np.uint8]":
        """The brightness, (height, width), uint8; may share memory with the frame."""
        import numpy as np  # slow to import, and commands that only write times need this module

        frame = self._frame if self._frame.format.name in _LUMA_FIRST else self._frame.reformat(format="yuv420p")
        plane, (width, height) = frame.planes[0], self.size
        rows = memoryview(plane).cast("B", (plane.buffer_size // plane.line_size, plane.line_size))
        return np.asarray(rows)[:height, :width]

    def pixels(self, across: int = 1, down: int = 1) -> "NDArray[np.uint8]":
        """The picture, (height // down, width // across, 3), uint8, BGR; reduced to averages before it is converted."""
        width, height = max(1, self.size[0] // across), max(1, self.size[1] // down)
        small = self._frame.reformat(width, height, "bgr24", interpolation="AREA", threads=1)
        pixels: NDArray[np.uint8] = small.to_ndarray()
        return pixels


@dataclass(frozen=True, slots=True)
class SensorOutput:
    """What the network in a sensor has made of a frame.

    Attributes:
        values: (N,), float32: the numbers of all output tensors, one tensor after the other.
        crop: x, y, width, height of the part of the sensor that the frame shows, in fractions of it.
        size: width, height of the frame in pixels.
    """

    values: "NDArray[np.float32]"
    crop: tuple[float, float, float, float]
    size: tuple[int, int]


# Made for every input, and not to be changed: frozen, it takes ten times as long to make.
@dataclass(slots=True)
class Sample:
    """One input on its way to a model.

    Attributes:
        data: bytes as they came (an encoded image, or numbers), a frame of shape (height, width, 3), uint8, BGR, or
            in planes, readings, or the reason why there is nothing: an input that could not even be read travels the
            road like any other, and fails in the same place.
        captured_at: when it was taken, seconds since the epoch.
        captured: the same moment on the monotonic clock, from which ages are measured.
        origin: facts about where it came from, published as part of `input`.
        reply_to: where a copy of the result goes.
        recipient: who gets the answer instead of the broker; None: the broker.
        settlement: how it ends.
        played: seconds since the start of a recording, with its earlier rounds if it is looped; None: not a recording.
        senders: devices whose published messages have led to it.
        sensor: of a frame of a camera that has a network in it, what that has made of it.
        shows_motion: whether its source has found already that it is worth a look, as the motion gate would.
    """

    data: "bytes | NDArray[np.uint8] | PlanarFrame | Series | InputError"
    captured_at: float
    captured: float
    origin: Mapping[str, Any]
    reply_to: ReplyTo | None = None
    settlement: Settlement = field(default_factory=Settlement)
    played: float | None = None
    senders: tuple[str, ...] = ()
    sensor: SensorOutput | None = None
    shows_motion: bool = False
    recipient: Recipient | None = None

    @property
    def stream(self) -> str | None:
        """Which of its source's streams it belongs to: that of its topic, where it has one."""
        topic = self.origin.get("topic")
        return topic if isinstance(topic, str) else None

    @property
    def stream_time(self) -> float:
        """When it was taken, in seconds on the clock of its stream.

        A recording has its own, however fast it is read; what is live has the monotonic clock.
        """
        if self.played is not None:
            return self.played
        position = self.origin.get("position_s")
        return position if isinstance(position, float) else self.captured


# Made for every input, and not to be changed: frozen, it takes ten times as long to make.
@dataclass(slots=True)
class Prediction:
    """One thing that a model says of an input. What its task does not give is None.

    Coordinates are pixels of the input picture, x before y, 0 at its left and upper edge.

    Attributes:
        label: the name of the class.
        class_id: the model's own output index.
        confidence: 0 to 1.
        region: name of the region of the frame that it is about, where there are regions.
        box: x1, y1, x2, y2.
        keypoints: x, y, confidence of each in the model's order; without the confidence if the model gives none.
        area: pixels of the picture that it covers.
        polygons: its outline, a list of x, y for each part and for each hole; what lies within an odd number of them
            belongs to it.
        value: what a regression says.
        vector: what an embedding says.
        zones: names of the zones of the frame that it is in, where there are zones.
        track_id: the same for the same object in every frame, where objects are tracked.
        tensor: an output tensor as published, where no decoder makes sense of it.
        details: further facts, as published: the reading that a score is about, and what was expected, for example.
    """

    label: str | None
    class_id: int | None
    confidence: float | None
    region: str | None = None
    box: tuple[float, float, float, float] | None = None
    keypoints: tuple[tuple[float, ...], ...] | None = None
    area: int | None = None
    polygons: tuple[tuple[tuple[float, float], ...], ...] | None = None
    value: float | None = None
    vector: tuple[float, ...] | None = None
    zones: tuple[str, ...] | None = None
    track_id: int | None = None
    tensor: Mapping[str, Any] | None = None
    details: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The label; the number of the class where there are no labels; `none` where there is no class."""
        if self.label is not None:
            return self.label
        return str(self.class_id) if self.class_id is not None else NO_LABEL

    @property
    def certainty(self) -> float:
        """The confidence; 1 where the model gives none, since what it chooses then holds."""
        return 1.0 if self.confidence is None else self.confidence

    def as_dict(self) -> dict[str, Any]:
        """As published: without what does not apply; confidences with four decimals, pixels with one."""
        published = {
            "label": self.label,
            "class_id": self.class_id,
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "region": self.region,
            "box": self.box and [round(edge, 1) for edge in self.box],
            "keypoints": self.keypoints and [_keypoint(*keypoint) for keypoint in self.keypoints],
            "area": self.area,
            "polygons": self.polygons and [[[round(x, 1), round(y, 1)] for x, y in part] for part in self.polygons],
            "value": self.value,
            "vector": self.vector and list(self.vector),
            "zones": self.zones and list(self.zones),
            "track_id": self.track_id,
        }
        return {key: value for key, value in published.items() if value is not None} | dict(self.details or {})


def content_of(predictions: Sequence[Prediction], task: str) -> dict[str, Any]:
    """What a result says, as published: predictions, or the tensors of the task `raw`."""
    if task == "raw":
        return {"tensors": [_tensor(one) for one in predictions if one.tensor is not None]}
    return {"predictions": [one.as_dict() for one in predictions]}


def _tensor(prediction: Prediction) -> dict[str, Any]:
    region = {"region": prediction.region} if prediction.region is not None else {}
    return dict(prediction.tensor or {}) | region


def _keypoint(x: float, y: float, *confidence: float) -> list[float]:
    return [round(x, 1), round(y, 1), *(round(value, 4) for value in confidence)]


@dataclass(slots=True)
class Timing:
    """Where the time of one sample went, in milliseconds."""

    queue: float = 0.0
    preprocess: float = 0.0
    inference: float = 0.0
    postprocess: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """As published, with the total."""
        parts = (self.queue, self.preprocess, self.inference, self.postprocess)
        rounded = [round(value, 2) for value in (*parts, sum(parts))]
        return dict(zip(("queue", "preprocess", "inference", "postprocess", "total"), rounded, strict=True))


# Made for every input, and not to be changed: frozen, it takes ten times as long to make.
@dataclass(slots=True)
class Result:
    """What is published for one sample; without a `seq` if it was withheld."""

    device_id: str
    pipeline: str
    boot_id: str
    seq: int | None
    captured_at: float
    clock_synced: bool
    model: Mapping[str, str]
    task: str
    content: Mapping[str, Any]
    input: Mapping[str, Any]
    timing: Timing = field(default_factory=Timing)

    def as_dict(self) -> dict[str, Any]:
        """The result document of the public interface."""
        return {
            "device_id": self.device_id,
            "pipeline": self.pipeline,
            "boot_id": self.boot_id,
            "seq": self.seq,
            "captured_at": timestamp(self.captured_at),
            "clock_synced": self.clock_synced,
            "replayed": False,
            "model": dict(self.model),
            "task": self.task,
            **self.content,
            "input": dict(self.input),
            "timing_ms": self.timing.as_dict(),
        }


def timestamp(seconds: float) -> str:
    """`2026-11-22T23:58:00.123Z` for seconds since the epoch; years beyond 1 to 9999 become the nearest moment."""
    seconds = max(_FIRST_MOMENT, min(seconds, _LAST_MOMENT))
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
