"""Plans of waves: as files, and what is to be done with a release now, by what its devices say."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edge_agent.config.validation import validate
from edge_agent.config.yaml_lines import Problems, read
from edge_agent.errors import ConfigError
from edge_agent.release.rollout import Row, count, is_finished
from edge_agent.settings.base import Fraction, Frozen, Seconds
from edge_agent.settings.update import Channel
from edge_agent.update import waves
from edge_agent.update.waves import MAX_STEPS, WHOLE, Plan, Progress

MAX_FILE = 100_000

Decision = Literal["wait", "next", "revoke", "complete"]


class StepFile(Frozen):
    """A step of the file of a plan."""

    percent: float = Field(0.0, ge=0, le=100)
    """Of all devices."""
    groups: tuple[Channel, ...] = Field((), max_length=64)
    """Devices with one of these labels, besides."""
    soak: Seconds = Field(3600.0, ge=0, le=2592000)
    """Least time until the next step."""
    devices: int = Field(1, ge=1, le=1_000_000)
    """Least number of devices that must have passed their probation."""


class PlanFile(Frozen):
    """The file of a plan."""

    steps: tuple[StepFile, ...] = Field(min_length=1, max_length=MAX_STEPS)
    """The waves, in order."""
    max_failures: Fraction = 0.0
    """Largest share of the devices that have taken the release which may fail or fall silent."""
    silence: Seconds = Field(600.0, ge=1, le=604800)
    """A device that has taken it and is offline for as long has failed."""
    hours: tuple[Annotated[int, Field(ge=0, le=24)], Annotated[int, Field(ge=0, le=24)]] | None = None
    """Hours of the day in UTC, from and until, within which a step may begin. Default: all."""


def read_file(path: Path) -> Plan:
    """A plan from a YAML file.

    Raises:
        ConfigError: it can't be read, or is no plan.
    """
    problems = Problems(path)
    try:
        stated = validate(PlanFile, read(path, problems, {}, MAX_FILE), problems)
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from None
    if stated is None or problems.texts():
        raise ConfigError(problems.texts())
    steps = [waves.Step(round(one.percent * 100), one.groups, round(one.soak), one.devices) for one in stated.steps]
    return Plan(tuple(steps), round(stated.max_failures * WHOLE), round(stated.silence), stated.hours)


def decide(plan: Plan, progress: Progress, rows: list[Row], now: datetime) -> Decision:
    """What is to be done with a release.

    Args:
        plan: of the release.
        progress: how far it has come.
        rows: its devices.
        now: the time.
    """
    found, step = count(rows), plan.steps[min(progress.step, len(plan.steps) - 1)]
    taken = found["done"] + found["failed"] + found["silent"] + found["under way"]
    if found["failed"] * WHOLE > plan.max_failures * taken:
        return "revoke"
    if found["done"] < step.devices or not is_finished(rows):
        return "wait"
    if progress.step + 1 >= len(plan.steps):
        return "complete"
    begins = datetime.fromisoformat(progress.since) + timedelta(seconds=step.soak)
    return "next" if now >= begins and is_within(plan.hours, now) else "wait"


def is_within(hours: tuple[int, int] | None, now: datetime) -> bool:
    """Whether a step may begin now; hours may go over midnight."""
    if hours is None:
        return True
    first, until = hours
    hour = now.astimezone(UTC).hour
    return first <= hour < until if first <= until else hour >= first or hour < until
