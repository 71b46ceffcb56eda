"""What a release is, and which devices it is for; used by the signing side and by the installing side."""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edge_agent.errors import UpdateError
from edge_agent.update.waves import REVOKED, WHOLE, Plan, Progress, read_plan

# Between a version and the variant that an archive is for.
_PLUS = "+"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a model, as the signed list states it.

    Attributes:
        channel: the channel that devices follow.
        version: of the bundle.
        number: counts the releases of a channel, from 1. A device takes the highest number that is for it.
        sha256: of the bundle's archive, in hexadecimal digits.
        size: of the archive, in bytes.
        share: of all devices that it is for, in ten thousandths.
        groups: it is also for devices with one of these labels.
        revoked: no device may use it any more.
        variant: the accelerator or chip that this archive of the version is for; "": the one for all other devices.
        plan: its waves; then `share` and `groups` are those of the current one. None: there are none.
    """

    channel: str
    version: str
    number: int
    sha256: str
    size: int
    share: int = 0
    groups: tuple[str, ...] = ()
    revoked: bool = False
    variant: str = ""
    plan: Plan | None = None

    @property
    def name(self) -> str:
        """For people: `birds/3`."""
        return f"{self.channel}/{self.version}"

    @property
    def key(self) -> str:
        """Its name on a device's disk; includes the hash, so that other content has another key."""
        return f"{self.number}-{self.sha256[:16]}"

    @property
    def path(self) -> str:
        """Its target in the signed list."""
        return f"{self.channel}/{self._file}"

    @property
    def address(self) -> str:
        """Path of its archive in the repository; includes the hash, so that a file never changes."""
        return f"{self.channel}/{self.sha256}.{self._file}"

    @property
    def _file(self) -> str:
        return f"{self.version}{_PLUS if self.variant else ''}{self.variant}.zip"

    def is_for(self, device_id: str, labels: Collection[str]) -> bool:
        """Whether the release is for a device. It stays so as the share grows."""
        place = hashlib.sha256(f"{self.channel}/{self.number}\n{device_id}".encode()).digest()
        return int.from_bytes(place[:8]) % WHOLE < self.share or not set(self.groups).isdisjoint(labels)

    def facts(self) -> dict[str, Any]:
        """The fields that the signed list has besides the target's path, length and hash."""
        found = {"number": self.number, "share": self.share, "groups": list(self.groups), "revoked": self.revoked}
        return found if self.plan is None else found | {"plan": self.plan.facts()}

    def as_dict(self) -> dict[str, Any]:
        """For state files, without the plan."""
        found = asdict(self)
        del found["plan"]
        return found

    def at(self, progress: Progress | None) -> "Release":
        """The release as far as its plan has come; itself if it has none."""
        if self.plan is None:
            return self
        if progress is None:  # the plan has not begun
            return replace(self, share=0, groups=())
        step = self.plan.steps[min(progress.step, len(self.plan.steps) - 1)]
        return replace(self, share=step.share, groups=step.groups, revoked=self.revoked or progress.state == REVOKED)


def read(path: str, size: int, hashes: Mapping[str, str], facts: Mapping[str, Any] | None) -> Release:
    """A release from a target of the signed list.

    Args:
        path: `CHANNEL/VERSION.zip` or `CHANNEL/VERSION+VARIANT.zip`.
        size: of the archive, in bytes.
        hashes: hexadecimal digits by algorithm.
        facts: see `Release.facts`.

    Raises:
        UpdateError: the target is not a release.
    """
    channel, _, rest = path.removesuffix(".zip").partition("/")
    version, plus, variant = rest.partition(_PLUS)
    try:
        release = Release(channel, version, size=size, sha256=hashes["sha256"], variant=variant, **_facts(facts or {}))
    except (KeyError, TypeError, AttributeError):
        raise UpdateError(
            f"{path}: signed, but not as edge-agent states a release: is it the right repository?"
        ) from None
    names = (channel, version, *([variant] if plus else []))
    if not (all(map(NAME.fullmatch, names)) and re.fullmatch("[0-9a-f]{64}", release.sha256)):
        raise UpdateError(f"{path}: signed, but no name of a release: is it the right repository?")
    return release


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    number, share, groups, revoked = (facts[key] for key in ("number", "share", "groups", "revoked"))
    right = type(number) is int and type(share) is int and isinstance(groups, list) and isinstance(revoked, bool)
    if not right or not all(isinstance(group, str) for group in groups):
        raise TypeError
    plan = read_plan(facts.get("plan"))
    return {"number": number, "share": share, "groups": tuple(groups), "revoked": revoked, "plan": plan}


def of_machine(releases: Iterable[Release], wanted: Sequence[str]) -> list[Release]:
    """Of each version the one archive that a machine can use best; none where it can use none.

    Args:
        releases: of one channel.
        wanted: what the machine can use files for, the best first.
    """
    rank = {variant: place for place, variant in enumerate([*wanted, ""])}
    best: dict[int, Release] = {}
    for release in sorted((one for one in releases if one.variant in rank), key=lambda one: rank[one.variant]):
        best.setdefault(release.number, release)
    return list(best.values())


def choose(
    releases: Iterable[Release], device_id: str, labels: Collection[str], active: str | None, refused: Collection[str]
) -> Release | None:
    """The release that a device should change to, if any: the newest that is for it and newer than the active one.

    The archive of the same version for a chip is a change as well, where another one is active: the chip is new here,
    or was not found before. Never back to the archive for the CPU, since its file is in each of the others, too.

    Args:
        releases: of one channel, as `of_machine` gives them.
        device_id: whose.
        labels: of the device.
        active: key of the active release; None if there is none.
        refused: keys of the releases that have failed on this device.
    """
    number = int(active.partition("-")[0]) if active else 0
    fit = [
        release
        for release in releases
        if (release.number > number or (release.number == number and release.variant and release.key != active))
        and release.key not in refused
        and not release.revoked
        and release.is_for(device_id, labels)
    ]
    return max(fit, key=lambda release: release.number, default=None)


def is_revoked(releases: Iterable[Release], key: str | None) -> bool:
    """Whether the release with this key has been revoked."""
    return any(release.revoked for release in releases if release.key == key)
