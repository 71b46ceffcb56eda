"""Check of the repository of releases: fetches and verifies its lists as the agent does."""

import contextlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from edge_agent.config.loader import Config
from edge_agent.doctor.machine import Finding, Machine, failure, ok, warning
from edge_agent.errors import UpdateError
from edge_agent.settings import Update
from edge_agent.system.units import counted


def repository(machine: Machine) -> list[Finding]:
    """Whether the lists can be had and are right, and have a release of each channel that the device follows."""
    update = machine.config.settings.update if machine.config else None
    if machine.config is None or update is None:
        return [ok("none configured (update.url)")]
    from edge_agent.update.repository import repository_of

    with tempfile.TemporaryDirectory(prefix="edge-agent-doctor-") as name:
        try:
            releases = repository_of(_elsewhere(machine.config, update, Path(name))).releases()
        except UpdateError as error:
            return [failure(str(error), f"curl -sSIL {update.url.rstrip('/')}/metadata/timestamp.json")]
    offered = {release.channel for release in releases if not release.revoked}
    found = [ok(f"{update.url}: {counted(len(releases), 'release')}, signed and current")]
    for key, channel in _followed(update).items():
        if channel not in offered:
            text = f"{key}: {update.url} has no release of the channel {channel} that is not revoked"
            found.append(warning(text, f"one of: {', '.join(sorted(offered)) or 'edge-agent release add'}"))
    return found


def _elsewhere(config: Config, update: Update, folder: Path) -> Config:
    """The configuration with a copy of the lists that the agent knows: this user may not be the agent's."""
    with contextlib.suppress(OSError):  # not readable for this user
        shutil.copytree(config.updates_path() / "metadata", folder / "metadata")
    moved = update.model_copy(update={"path": folder})
    return replace(config, settings=config.settings.model_copy(update={"update": moved}))


def _followed(update: Update) -> dict[str, str]:
    """The key of the configuration -> the channel that it names."""
    models = {f"update.models.{name}": channel for name, channel in update.models.items()}
    others = {"update.config": update.config, "update.agent": update.agent}
    return models | {key: channel for key, channel in others.items() if channel is not None}
