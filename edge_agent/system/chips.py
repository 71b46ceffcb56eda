"""The inference chips of this machine, by what the kernel and the vendors' tools say of them."""

import os
import re
import subprocess
from pathlib import Path

from edge_agent.system.text import decode_lenient

# Names of chips, separated by commas, where they can't be found (a container without /sys).
VARIABLE = "EDGE_AGENT_CHIPS"
IDENTIFY = ("hailortcli", "fw-control", "identify")
IDENTIFY_TIMEOUT = 10.0
MAX_COMPATIBLE = 4096
_HAILO_VENDOR = "0x1e60"
# Devices of one PCI number are of several chips, or of one.
_HAILO_8_OR_8L, _HAILO_10H = "0x2864", "0x45c4"
_ROCKCHIP = re.compile(rb"rockchip,(rk\d{4}|rv\d{4}b?)")
_ARCHITECTURE = re.compile(r"Device Architecture: (HAILO\w{1,8})")


def present(root: Path = Path("/")) -> tuple[str, ...]:
    """Names of the chips, such as `hailo8l`, `rk3588`, `imx500`; those of `EDGE_AGENT_CHIPS` where that is set.

    A Hailo-8 and an 8L have one PCI number: which one it is, the vendor's tool says. Without it neither is named.

    Args:
        root: of the file system.
    """
    if (named := stated()) is not None:
        return named
    return tuple(dict.fromkeys([*_hailo(root), *rockchip(root), *imx500(root)]))


def stated() -> tuple[str, ...] | None:
    """The chips that `EDGE_AGENT_CHIPS` names; None where it is not set."""
    names = os.environ.get(VARIABLE)
    return None if names is None else tuple(name.strip().lower() for name in names.split(",") if name.strip())


def _hailo(root: Path) -> list[str]:
    found = []
    for device in _entries(root / "sys/bus/pci/devices"):
        if _read(device / "vendor").strip() != _HAILO_VENDOR.encode():
            continue
        number = _read(device / "device").strip()
        if number == _HAILO_10H.encode():
            found.append("hailo10h")
        elif number == _HAILO_8_OR_8L.encode():
            found += _identified()
    return found


def _identified() -> list[str]:
    """What Hailo's tool says; it answers while another process runs a model."""
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed command
            IDENTIFY, capture_output=True, timeout=IDENTIFY_TIMEOUT, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [name.lower() for name in _ARCHITECTURE.findall(decode_lenient(answer.stdout))]


def rockchip(root: Path) -> list[str]:
    """The Rockchip chip of this board, such as `rk3588`, also where it is a variant (`rk3588s`); [] if it has none."""
    found = _ROCKCHIP.search(_read(root / "proc/device-tree/compatible"))
    return [decode_lenient(found[1])] if found else []


def imx500(root: Path) -> list[str]:
    """`imx500`, if an AI Camera is connected; else []."""
    names = (_read(device / "name").strip() for device in _entries(root / "sys/bus/i2c/devices"))
    return ["imx500"] if b"imx500" in names else []


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_COMPATIBLE)
    except OSError:
        return b""
