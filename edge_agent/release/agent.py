"""Versions of edge-agent on the releasing side: the wheels of a folder, as one archive for a platform."""

import zipfile
from pathlib import Path

from edge_agent.errors import ReleaseError
from edge_agent.update.agent_release import BOUNDS, WHEEL

_EARLIEST = (1980, 1, 1, 0, 0, 0)
_PARTS = 5  # name, version, and the tags of Python, ABI and platform


def pack(folder: Path, platform: str, archive: Path) -> str:
    """Makes an archive of the wheels of a folder; returns the version of edge-agent among them.

    Args:
        folder: with wheels.
        platform: that they are for.
        archive: to be written.

    Raises:
        ReleaseError: there is no edge-agent among them, or a wheel is for another platform.
    """
    wheels = sorted(folder.glob("*.whl"))
    mine = list(folder.glob(WHEEL))
    if len(mine) != 1:
        raise ReleaseError(f"{folder}: expected one {WHEEL} in it, found {len(mine)}")
    if len(wheels) > BOUNDS.files:
        raise ReleaseError(f"{folder}: has {len(wheels)} wheels: at most {BOUNDS.files} are possible")
    if others := [wheel.name for wheel in wheels if not _fits(wheel.name, platform)]:
        raise ReleaseError(f"{folder / others[0]}: is not for {platform}")
    with zipfile.ZipFile(archive, "w") as out:
        for wheel in wheels:
            with wheel.open("rb") as content, out.open(zipfile.ZipInfo(wheel.name, _EARLIEST), "w") as entry:
                while block := content.read(1 << 20):
                    entry.write(block)
    return mine[0].name.split("-")[1]


def _fits(name: str, platform: str) -> bool:
    """Whether the tags of a wheel's name allow a platform: `cp311-abi3-manylinux_2_28_aarch64` for `cp311-aarch64`."""
    parts = name.removesuffix(".whl").split("-")
    if len(parts) < _PARTS:
        return False
    python, _, machine = platform.partition("-")
    pythons, abis, machines = (parts[index].split(".") for index in (-3, -2, -1))
    runs = python in pythons or "py3" in pythons or (abis == ["abi3"] and any(one.startswith("cp3") for one in pythons))
    return runs and ("any" in machines or any(one.endswith(f"_{machine}") for one in machines))
