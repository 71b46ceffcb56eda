"""What `P/info` says of the device itself: the machine, its disk, its labels, and which configuration it has."""

import hashlib
import json
import os
import platform
import shutil
import time
from functools import cache
from typing import Any

from edge_agent.config.loader import Config
from edge_agent.samples import timestamp
from edge_agent.settings import Settings
from edge_agent.system.address import without_credentials
from edge_agent.system.hardware import machine_name

MEGABYTE = 1e6


def facts(config: Config) -> dict[str, Any]:
    """The facts, as published.

    Args:
        config: as its file states it.
    """
    update = config.settings.update
    return {
        "at": timestamp(time.time()),
        "configuration": configuration_hash(config.settings),
        **_of_repository(config),
        "labels": [] if update is None else list(update.labels),
        "machine": _machine(),
        "disk": _disk(config),
    }


def _of_repository(config: Config) -> dict[str, Any]:
    """Which release of the configuration is in use, and where the device's own file differs from it; no values."""
    update = config.settings.update
    if update is None or update.config is None:
        return {}
    found = {"release": config.release or None, "overridden": config.overridden, "unused": config.unused}
    return {"configuration_release": found}


def configuration_hash(settings: Settings) -> str:
    """The first 12 digits of a SHA-256 of the settings: devices with the same settings have the same.

    The device's own id, credentials in addresses and the command lines of programs are left out: a hash of them would
    let somebody try passwords.
    """
    return hashlib.sha256(json.dumps(_plain(settings.model_dump(mode="json")), sort_keys=True).encode()).hexdigest()[
        :12
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if key not in ("device_id", "argv")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return without_credentials(value) if isinstance(value, str) and "://" in value else value


@cache
def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "name": machine_name()[:100],
        "arch": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_mb": round(memory / MEGABYTE),
        "kernel": platform.release()[:100],
        "python": platform.python_version(),
    }


def _disk(config: Config) -> dict[str, int] | None:
    """Of the folder with the agent's state; None if it can't be read."""
    try:
        usage = shutil.disk_usage(config.state_folder())
    except OSError:
        return None
    return {"free_mb": round(usage.free / MEGABYTE), "size_mb": round(usage.total / MEGABYTE)}
