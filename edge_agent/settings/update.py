"""The settings of updates: the repository of new model versions, and how they are tried."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from edge_agent.settings.base import Bytes, Fraction, Frozen, Seconds, accepted
from edge_agent.settings.http_access import HttpAccess
from edge_agent.system.address import problem_of_server

# Part of addresses and file names. Python's `$` alone would also match before a final newline.
CHANNEL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)"
URL = r"^https?://[^\s/@]+(/\S*)?$(?!\n)"
Channel = Annotated[str, StringConstraints(pattern=CHANNEL)]


class Shadow(Frozen):
    """How a new version runs beside the active one, on live input, before it is activated."""

    samples: int = Field(50, ge=0, le=1_000_000)
    """Number of samples. 0: no shadow run."""
    timeout: Seconds = Field(600.0, ge=1, le=604800)
    """How long to wait for that number of samples. With fewer, the version is `undecided`: it is not activated, and is
    tried again at a later check."""
    answer_timeout: Seconds = Field(60.0, ge=1, le=86400)
    """Maximum time for one sample. A new version that takes longer is refused."""
    min_agreement: Fraction = 0.5
    """Minimum agreement of the two versions' results, on average. Models with as many, but other labels are compared
    by class number; 0 for a model with other classes."""
    max_slowdown: float = Field(3.0, ge=1, le=1000)
    """Maximum ratio of the average inference times, new version to active version."""


class Probation(Frozen):
    """How a new version is watched after it has been activated."""

    duration: Seconds = Field(600.0, ge=0, le=604800)
    """For how long."""
    max_error_rate: Fraction = 0.05
    """Maximum fraction of inputs at which the model may fail."""
    input_within: Seconds = Field(60.0, ge=1, le=86400)
    """After a new configuration: how long a camera, or another live source, may be without input."""
    max_slowdown: float = Field(3.0, ge=1, le=1000)
    """Maximum ratio of the average inference times, new version to previous version."""


class CrashLoop(Frozen):
    """When a version that has passed its probation is rolled back because the agent ends unexpectedly."""

    deaths: int = Field(5, ge=2, le=100)
    """Number of unexpected ends; those before the device's last boot, or before an orderly stop, do not count."""
    within: Seconds = Field(1800.0, ge=1, le=604800)
    """In this time."""


class Update(HttpAccess):
    """New versions of models from a repository of signed files, made with `edge-agent release`."""

    url: Annotated[str, Field(pattern=URL), accepted(problem_of_server)]
    """Base URL of the repository. Any web server will do: only the signatures are trusted."""
    root: Path
    """The first root.json of the repository. The signatures of all other files are verified from it."""
    models: dict[str, Channel] = Field({}, max_length=64)
    """Name of one of `models` -> the channel that its new versions come from."""
    config: Channel | None = None
    """Channel that pipelines, models and some settings come from, below what this file states. Default: none."""
    config_programs: bool = False
    """Whether a configuration from the repository may name programs, libraries and plug-ins to run."""
    agent: Channel | None = None
    """Channel that new versions of edge-agent itself come from, where install.sh has installed it. Default: none."""
    path: Path | None = None
    """Folder for the downloaded versions. Default: `updates` in the service's state directory (systemd), or beside the
    configuration file."""
    interval: Seconds = Field(3600.0, ge=1, le=2592000)
    """How often to check for new versions. Each interval varies by up to a fifth."""
    max_rate: Bytes | None = Field(None, ge=1000)
    """Download limit in bytes per second. Default: none."""
    max_size: Bytes = Field(500_000_000, ge=1000)
    """Largest version that is downloaded. Up to three versions of each model are on the disk at a time."""
    labels: tuple[Channel, ...] = Field((), max_length=64)
    """Groups that this device is in. A release can go to groups first."""
    shadow: Shadow = Shadow()
    """How a new version runs beside the active one before it is activated."""
    probation: Probation = Probation()
    """How a new version is watched after it has been activated."""
    crash_loop: CrashLoop = CrashLoop()
    """When a version that has passed its probation is rolled back because the agent ends unexpectedly."""

    @model_validator(mode="after")
    def _follows_something(self) -> "Update":
        if not self.models and self.config is None and self.agent is None:
            raise ValueError("needs models, config or agent: there is nothing to update")
        return self
