"""Finds the /dev path of a camera by its name, through sysfs."""

from pathlib import Path

from edge_agent.errors import SourceError
from edge_agent.system.text import read_attribute

SYSFS = Path("/sys/class/video4linux")


def find_device(device: int | str, sysfs: Path = SYSFS) -> str:
    """The /dev path of a camera given by number, path, or part of its name.

    Raises:
        SourceError: there is no camera of this name; lists those that exist.
    """
    if isinstance(device, int) or device.isdigit():
        return f"/dev/video{device}"
    if device.startswith("/"):
        return device
    names = {entry.name: read_attribute(entry / "name") for entry in nodes(sysfs)}
    matching = [f"/dev/{entry}" for entry, name in names.items() if device.lower() in name.lower()]
    if not matching:
        known = ", ".join(f"/dev/{entry} ({name})" for entry, name in names.items()) or "none"
        raise SourceError(f"camera {device!r}: no camera has this name; there is: {known}")
    return matching[0]  # a camera often has several nodes, the first of which delivers frames


def nodes(sysfs: Path = SYSFS) -> list[Path]:
    """The folders of all video devices, in the order of their numbers."""
    return sorted(sysfs.glob("video*"), key=lambda entry: (len(entry.name), entry.name))
