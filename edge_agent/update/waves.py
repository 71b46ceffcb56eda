"""The waves of a release: a signed plan, and how far it has come, which is signed apart from it.

The plan is part of the list of releases (targets key). How far it has come is part of timestamp.json (online key): with
that key a release can go on within its plan, or be revoked, and nothing else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

OPEN, REVOKED = "open", "revoked"
# Name of the field of timestamp.json.
WAVES = "x-edge-agent-waves"
MAX_STEPS = 20
# Shares of all devices are in ten thousandths, since canonical JSON has no fractions.
WHOLE = 10_000


@dataclass(frozen=True, slots=True)
class Step:
    """One wave.

    Attributes:
        share: of all devices, in ten thousandths.
        groups: besides, devices with one of these labels.
        soak: least seconds until the next step.
        devices: least number of devices that must have passed their probation before the next step.
    """

    share: int
    groups: tuple[str, ...] = ()
    soak: int = 0
    devices: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """All waves of a release.

    Attributes:
        steps: in order.
        max_failures: largest share of the devices that have taken it which may fail or fall silent, in ten thousandths.
        silence: seconds for which a device that has taken it may be offline before that is a failure.
        hours: of the day in UTC within which a step begins: from the first, until the second; None: at any time.
    """

    steps: tuple[Step, ...]
    max_failures: int = 0
    silence: int = 600
    hours: tuple[int, int] | None = None

    def facts(self) -> dict[str, Any]:
        """As the signed list has it."""
        return asdict(self) | {
            "steps": [asdict(step) | {"groups": list(step.groups)} for step in self.steps],
            "hours": None if self.hours is None else list(self.hours),
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a release has come in its plan.

    Attributes:
        step: number of the current one, from 0.
        since: when it was signed, as `2026-11-22T23:58:00.123Z`.
        state: `open` or `revoked`.
    """

    step: int
    since: str
    state: str = OPEN


def read_plan(facts: Any) -> Plan | None:
    """A plan from the signed list; None if there is none.

    Raises:
        TypeError: it is no plan.
    """
    if facts is None:
        return None
    steps = [Step(**(step | {"groups": tuple(step["groups"])})) for step in _list(facts.get("steps"))]
    hours = None if facts.get("hours") is None else _list(facts["hours"])
    numbers = [one for step in steps for one in (step.share, step.soak, step.devices)]
    numbers += [facts.get("max_failures"), facts.get("silence"), *(hours or ())]
    labels = [label for step in steps for label in step.groups]
    right = all(type(one) is int and one >= 0 for one in numbers) and all(isinstance(one, str) for one in labels)
    if not right or not 0 < len(steps) <= MAX_STEPS or (hours is not None and len(hours) != 2):  # noqa: PLR2004 - from, until
        raise TypeError
    return Plan(tuple(steps), facts["max_failures"], facts["silence"], (hours[0], hours[1]) if hours else None)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def read_progress(document: object) -> dict[str, Progress]:
    """How far each release has come, by its name, from timestamp.json; what is not understood is left out."""
    found = {}
    for name, facts in (document if isinstance(document, Mapping) else {}).items():
        if not isinstance(facts, Mapping):
            continue
        step, since, state = (facts.get(key) for key in ("step", "since", "state"))
        if type(step) is int and step >= 0 and isinstance(since, str) and state in (OPEN, REVOKED):
            found[str(name)] = Progress(step, since, str(state))
    return found


def as_document(progress: Mapping[str, Progress], names: Iterable[str]) -> dict[str, Any]:
    """For timestamp.json, without releases that are not among the names."""
    known = set(names)
    return {name: asdict(one) for name, one in progress.items() if name in known}
