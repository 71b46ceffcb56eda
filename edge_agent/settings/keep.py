"""The settings of what a pipeline keeps of its inputs: single samples that are worth a look, and recordings."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from edge_agent.settings.base import Bytes, Fraction, Frozen, Seconds, TopicLevel
from edge_agent.settings.http_access import LOOPBACK, HttpAccess
from edge_agent.settings.shapes import Polygon


def _band(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) != len(("from", "to")):
        raise ValueError(f"needs two numbers, [from, to] (got {len(value)})")
    return value


def _in_order(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"needs the lower number first (got {value[0]:g}, {value[1]:g})")
    return value


Band = Annotated[tuple[Fraction, Fraction], BeforeValidator(_band), AfterValidator(_in_order)]
EventKind = Literal["enter", "leave", "dwell", "cross", "start", "alarm", "end"]
FinishReason = Literal["refused", "length", "deadline", "cancelled"]
Encoding = Literal["jpeg", "png"]


class KeepRules(Frozen):
    """Which samples are kept. One rule that applies is enough."""

    confidence: Band | None = None
    """Keep what the model is unsure of: the confidence of a prediction lies between these two. Of a classification, of
    the best prediction (of a region)."""
    labels: dict[str, Band] = Field({}, max_length=1000)
    """The same for single labels, in place of `confidence`."""
    margin: Fraction | None = Field(None, gt=0)
    """For classification: the best prediction is ahead of the second by less than this."""
    disagreement: Fraction | None = Field(None, gt=0)
    """Keep where two models agree less than this, from 0 to 1: with the new version of an update while it runs in the
    shadow, and with the pipeline `compare_with`."""
    compare_with: TopicLevel | None = None
    """For disagreement: another pipeline that gets the same inputs."""
    flicker: int | None = Field(None, ge=1, le=100)
    """For tracking: the label of an object has changed this often within 10 seconds."""
    anomaly: Fraction | None = Field(None, gt=0)
    """For scores of anomalies: one is this near to the threshold, as a share of the threshold."""
    least_probability: Band | None = None
    """For language models: the probability of the least probable token of the answer lies between these two."""
    mean_probability: Band | None = None
    """For language models: the mean probability of the tokens of the answer lies between these two."""
    finish_reason: tuple[FinishReason, ...] = Field((), max_length=4)
    """For language models: keep requests whose answers have ended so."""
    failed: bool = False
    """Keep inputs that could not be used, or at which the model failed."""
    event: tuple[EventKind, ...] = Field((), max_length=7)
    """Keep the samples of these events."""
    random: Fraction = 0.0
    """Keep this share of all samples: the baseline that no rule has chosen."""

    @model_validator(mode="after")
    def _belongs_together(self) -> "KeepRules":
        if self.compare_with is not None and self.disagreement is None:
            raise ValueError("compare_with needs disagreement")
        return self


class Blur(Frozen):
    """What is made unrecognizable before anything is written."""

    labels: tuple[str, ...] = Field(min_length=1, max_length=1000)
    """The boxes of these labels, as this pipeline finds them."""


def _upload_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("must be an https:// address")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("must be https:// : what is kept would go through the network in clear text")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must have no credentials and no query: they belong into `token_file` or `query_file`")
    return value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError("must be a network such as 192.168.1.0/24") from None
    return value


Hour = Annotated[int, Field(ge=0, le=24)]


class Upload(HttpAccess):
    """What is kept is uploaded, in closed segments, each as a file `URL/DEVICE/PIPELINE/NAME`."""

    url: Annotated[str, AfterValidator(_upload_url)]
    """https:// address of a folder that takes PUT requests, or of a bucket: `https://s3.example.org/bucket`."""
    every: Seconds = Field(3600.0, ge=1, le=604_800)
    """How often what is new is uploaded. The segment that is being written is closed for that."""
    hours: tuple[Hour, Hour] | None = None
    """Only from the first hour to before the second, by the device's clock: [22, 6]. Default: at any time."""
    networks: tuple[Annotated[str, AfterValidator(_network)], ...] = Field((), max_length=64)
    """Only while the device's own address is in one of these networks: 192.168.1.0/24. Default: in any."""
    max_rate: Bytes | None = Field(None, ge=1000)
    """Bytes per second. Default: as fast as possible."""


class Keep(Frozen):
    """Samples that are kept on the device, each with its result and the reason."""

    when: KeepRules = KeepRules()
    """Which samples are kept. Without a rule: those of the command `keep` only."""
    path: Path | None = None
    """Folder, relative to the configuration. Default: `samples/PIPELINE` in the state folder."""
    max_size: Bytes = Field(256_000_000, ge=1_000_000, le=1_000_000_000_000)
    """Bound on what is kept, in bytes. The oldest samples are deleted first."""
    max_age: Seconds | None = Field(None, ge=60, le=315_360_000)
    """Samples that are older than this are deleted, while the clock is synchronized."""
    per_hour: int = Field(60, ge=1, le=100_000)
    """Maximum number of samples kept within an hour."""
    max_share: float = Field(0.5, gt=0, le=1)
    """Maximum share of them that one rule may take. The command `keep` has no such limit."""
    flush_every: Seconds = Field(60.0, ge=0.1, le=86400)
    """Kept samples are gathered in memory for this long, and written together. A power cut loses at most these."""
    memory: Bytes = Field(32_000_000, ge=100_000, le=1_000_000_000)
    """Bound on the samples in memory, in bytes. Further ones are not kept, and counted."""
    recent: int = Field(5, ge=0, le=100)
    """Number of the latest inputs that stay in memory for the command `keep`."""
    encoding: Encoding = "jpeg"
    """How frames that do not come encoded, and blurred or masked pictures, are stored: `jpeg`, or `png` without loss.
    Everything else is kept byte by byte as it came."""
    quality: int = Field(95, ge=1, le=100)
    """Quality of `jpeg`."""
    prompts: bool = False
    """For language models, which can't be kept from without it: prompts and answers may be written to the disk."""
    blur: Blur | None = None
    """Blurs parts of a picture before it is written. Default: nothing."""
    mask: tuple[Polygon, ...] = Field((), max_length=64)
    """Polygons [[x, y], …] that are painted black before a picture is written, in pixels or, if no number is above 1,
    in fractions of the picture."""
    upload: Upload | None = None
    """Where what is kept is uploaded to. Default: nowhere, it stays on the device."""


class Record(Frozen):
    """Recordings of all inputs around something that happens."""

    before: Seconds = Field(10.0, ge=0, le=3600)
    """How much of what came before is in a recording. It is kept in memory until then."""
    after: Seconds = Field(20.0, ge=0, le=3600)
    """How much of what comes afterwards is in it. What happens in this time makes it longer."""
    when: tuple[Literal["event", "anomaly", "error", "command"], ...] = ("event", "anomaly", "error", "command")
    """What starts a recording: an event, an anomaly, an input that fails, the command `record`."""
    path: Path | None = None
    """Folder, relative to the configuration. Default: `recordings/PIPELINE` in the state folder."""
    max_size: Bytes = Field(512_000_000, ge=1_000_000, le=1_000_000_000_000)
    """Bound on all recordings of the pipeline, in bytes. The oldest ones are deleted first."""
    max_length: Seconds = Field(300.0, ge=1, le=86400)
    """Maximum length of one recording."""
    packets: bool = True
    """Also record the packets of a network stream as the camera sends them, so that the whole video can be exported.
    Needs the extra `video`. Not with `blur` and `mask`."""
    memory: Bytes = Field(32_000_000, ge=100_000, le=2_000_000_000)
    """Bound on the inputs in memory, in bytes. If `before` needs more, it becomes shorter."""
    encoding: Encoding = "jpeg"
    """How frames that do not come encoded, and blurred or masked pictures, are stored: `jpeg`, or `png` without loss,
    which takes several times the processor time. Everything else is recorded byte by byte as it came. Only what is
    stored without loss can be replayed to the same result."""
    quality: int = Field(95, ge=1, le=100)
    """Quality of `jpeg`."""
    blur: Blur | None = None
    """Blurs parts of each picture before it is written. Default: nothing."""
    mask: tuple[Polygon, ...] = Field((), max_length=64)
    """Polygons that are painted black before a picture is written, as those of `keep`."""

    @property
    def with_packets(self) -> bool:
        """Whether the packets of a stream are recorded: nothing can be hidden in them."""
        return self.packets and not self.blur and not self.mask

    @model_validator(mode="after")
    def _nothing_is_hidden_in_packets(self) -> "Record":
        if "packets" in self.model_fields_set and self.packets and not self.with_packets:
            raise ValueError("nothing can be hidden in the packets of a stream: leave out `packets` with blur and mask")
        return self
