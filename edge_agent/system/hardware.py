"""What this machine is, for people and for inventories."""

import platform
from contextlib import suppress
from pathlib import Path

from edge_agent.system.text import read_attribute


def machine_name() -> str:
    """The device or the processor, as the kernel names it."""
    with suppress(OSError):
        return read_attribute(Path("/proc/device-tree/model"))
    with suppress(OSError):
        for line in read_attribute(Path("/proc/cpuinfo")).splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.machine()
