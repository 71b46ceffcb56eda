"""Releases of edge-agent itself: an archive of wheels for each platform, and what installer and agent share."""

import platform
import struct
import sys
from pathlib import Path

from edge_agent.config.loader import Config
from edge_agent.system.zip_files import Bounds
from edge_agent.update.store import Store

BOUNDS = Bounds("an agent", files=500, directory_bytes=200_000, total_bytes=2 * 2**30, ratio=200)
WHEEL = "edge_agent_runtime-*-*.whl"
# In the folder of the downloaded archive: written whenever there is something for the installer to do.
REQUEST = "request"


def this_platform() -> str:
    """What the archives for this machine are called: `cp311-aarch64`.

    A 32-bit system under a 64-bit kernel is a 32-bit one.
    """
    is_64_bit = struct.calcsize("P") == 8  # noqa: PLR2004 - bytes of a pointer
    machine = platform.machine() if is_64_bit else "armv7l"
    return f"cp{sys.version_info.major}{sys.version_info.minor}-{machine}"


def installed_in() -> Path | None:
    """The folder of all versions, if this one was installed by install.sh; else None."""
    environment = Path(sys.prefix)
    return environment.parent if (environment / ".installed").is_file() else None


def installer_store() -> Store | None:
    """What the installer has done; None if there is no installer."""
    folder = installed_in()
    return None if folder is None else Store(folder / "updates")


def downloads_of(config: Config) -> Path:
    """The folder of the downloaded archive."""
    return config.updates_path() / "agent"
