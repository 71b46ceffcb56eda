"""The configuration of a device as a repository states it, and with the device's own file over it.

A release is an archive with `base.yaml`, `label/LABEL.yaml` and `device/DEVICE_ID.yaml`, all of them optional. For a
device, they are merged in this order, labels in the order of its `update.labels`, and its own file over all of them.
"""

import logging
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from edge_agent.config import loader
from edge_agent.config.layers import Layer
from edge_agent.config.loader import Config
from edge_agent.config.yaml_lines import MAX_FILE_SIZE
from edge_agent.errors import ConfigError, UpdateError
from edge_agent.system.zip_files import DAMAGES, Bounds, RefusedError, check_directory, checked
from edge_agent.update.stores import config_store_of

BOUNDS = Bounds("a configuration", files=20_000, directory_bytes=4_000_000, total_bytes=50_000_000, ratio=200)
BASE, LABEL, DEVICE = "base.yaml", "label", "device"

log = logging.getLogger(__name__)


def files_of(device_id: str, labels: Sequence[str]) -> list[str]:
    """The files of a release that concern a device, in their order."""
    return [BASE, *(f"{LABEL}/{label}.yaml" for label in labels), f"{DEVICE}/{device_id}.yaml"]


def is_file_of(name: str) -> bool:
    """Whether a file of a release concerns any device."""
    parts = PurePosixPath(name).parts
    return name == BASE or (len(parts) == 2 and parts[0] in (LABEL, DEVICE) and name.endswith(".yaml"))  # noqa: PLR2004


def layers_of(archive: Path, device_id: str, labels: Sequence[str], release: str) -> list[Layer]:
    """The layers of a device in a release's archive.

    Args:
        archive: of the release.
        device_id: of the device.
        labels: of the device.
        release: its name, for messages.

    Raises:
        UpdateError: the archive can't be used.
    """
    try:
        with archive.open("rb") as file:
            check_directory(file, BOUNDS)
            with zipfile.ZipFile(file) as zipped:
                there = {entry.filename: entry for entry in checked(zipped, BOUNDS)}
                mine = [there[name] for name in files_of(device_id, labels) if name in there]
                contents = [(f"{release}/{one.filename}", _content(zipped, one)) for one in mine]
    except RefusedError as error:
        raise UpdateError(f"{archive}: {error}") from None
    except DAMAGES as error:
        raise UpdateError(f"{archive}: is damaged ({error})") from None
    except OSError as error:
        raise UpdateError(f"{archive}: {error.strerror}") from None
    return [Layer(name, content) for name, content in contents]


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > MAX_FILE_SIZE:
        raise RefusedError(f"{entry.filename} has more than {MAX_FILE_SIZE} bytes")
    return archive.read(entry)


def with_release(local: Config, archive: Path, release: str) -> Config:
    """A device's own file with a release below it.

    Args:
        local: the device's own file alone.
        archive: of the release.
        release: its name.

    Raises:
        ConfigError: the two together are no configuration.
        UpdateError: the archive can't be used.
    """
    update = local.settings.update
    labels = () if update is None else update.labels
    return loader.load(local.path, layers_of(archive, local.settings.device_id, labels, release), release)


def load_active(path: Path, check: Callable[[Config], None] = lambda _: None, *, keep: bool = False) -> Config:
    """A device's own file, with the active release of its configuration below it, where it follows a channel.

    Args:
        path: of the file.
        check: raises ConfigError for a configuration that can't be used.
        keep: raises for a release that can't be used; else it is rolled back.

    Raises:
        ConfigError: the device's own file can't be used.
    """
    local = loader.load(path)
    store = config_store_of(local)
    while store is not None and (key := (state := store.state()).active) is not None:
        try:
            config = with_release(local, store.archive(key), state.name(key))
            check(config)
        except (ConfigError, UpdateError) as error:
            if keep:
                raise ConfigError([reason_of(error)]) from None
            log.error("%s: %s: going back to the configuration before", state.name(key), error)
            try:
                store.roll_back(reason_of(error))
            except UpdateError as trouble:
                log.error("%s: using the device's own file alone", trouble)
                break
        else:
            return config
    check(local)
    return local


def reason_of(error: Exception) -> str:
    """An error as a reason in a history."""
    return "; ".join(error.problems) if isinstance(error, ConfigError) else str(error)
