"""The settings of updates: where new versions of models come from, and how they prove themselves."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from edge_agent.settings.base import Bytes, Fraction, Frozen, Seconds

# Stands in addresses and file names. Python's `$` alone would let a line's end through.
CHANNEL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)"
URL = r"^https?://[^\s/@]+(/\S*)?$(?!\n)"
Channel = Annotated[str, StringConstraints(pattern=CHANNEL)]


class Shadow(Frozen):
    """How a new version runs beside the active one, on live input, before it may serve."""

    samples: int = Field(50, ge=0, le=1_000_000)
    """On so many samples; 0: it does not."""
    timeout: Seconds = Field(600.0, ge=1, le=604800)
    """When so many samples have not come in this time, what has come decides."""
    min_agreement: Fraction = 0.5
    """The share of what both say, on average, that must be the same; 0 for a model with other labels."""
    max_slowdown: float = Field(3.0, ge=1, le=1000)
    """How many times as long as that of the active version its inference may take, on average."""


class Probation(Frozen):
    """How a new version is watched once it serves."""

    duration: Seconds = Field(600.0, ge=0, le=604800)
    """For so long."""
    max_error_rate: Fraction = 0.05
    """The share of inputs at which the model may fail."""
    max_slowdown: float = Field(3.0, ge=1, le=1000)
    """How many times as long as that of the version before its inference may take, on average."""


class Update(Frozen):
    """New versions of models from a repository of signed files, made with `edge-agent release`."""

    url: str = Field(pattern=URL)
    """Where the repository is; any web server will do, since nothing is believed but the signatures."""
    root: Path
    """The first root.json of the repository, by which everything else is known to be genuine."""
    models: dict[str, Channel] = Field(min_length=1, max_length=64)
    """Name of one of `models` -> the channel that its new versions come from."""
    path: Path | None = None
    """Folder for the versions; default: `updates` in the service's state directory (systemd), or beside the
    configuration file."""
    interval: Seconds = Field(3600.0, ge=1, le=2592000)
    """How often to look for new versions; each time up to a fifth sooner or later."""
    max_rate: Bytes | None = Field(None, ge=1000)
    """Bytes that a download may take in a second; default: as many as come."""
    max_size: Bytes = Field(500_000_000, ge=1000)
    """Largest version that is downloaded; three of each model may be on the disk at a time."""
    labels: tuple[Channel, ...] = Field((), max_length=64)
    """Groups that this device is in; a release can go to groups first."""
    shadow: Shadow = Shadow()
    """How a new version runs beside the active one before it may serve."""
    probation: Probation = Probation()
    """How a new version is watched once it serves."""
