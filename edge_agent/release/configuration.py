"""Configurations on the releasing side: a folder with `base.yaml`, `label/LABEL.yaml` and `device/DEVICE_ID.yaml`."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from edge_agent.config.layers import PROGRAMS, SECTIONS, Layer, merge, read_layer
from edge_agent.config.yaml_lines import MAX_FILE_SIZE, Problems, read
from edge_agent.errors import ConfigError, ReleaseError
from edge_agent.system.address import without_credentials
from edge_agent.system.text import TextError, read_file
from edge_agent.update.configuration import BOUNDS, files_of, is_file_of, layers_of

_FILES = "base.yaml, label/LABEL.yaml or device/DEVICE_ID.yaml"
# Of each file in an archive, so that the same folder always makes the same archive.
_EARLIEST = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path, archive: Path) -> None:
    """Checks the files of a folder, and makes an archive of them.

    Args:
        folder: with a configuration.
        archive: to be written.

    Raises:
        ConfigError: with everything in them that is no YAML, or may not come from a repository.
        ReleaseError: the folder is no configuration.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in found]
    if not any(map(is_file_of, names)):
        raise ReleaseError(
            f"{folder}: expected base.yaml, label/LABEL.yaml or device/DEVICE_ID.yaml, found none of them"
        )
    if others := [name for name in names if not is_file_of(name)]:
        raise ReleaseError(
            f"{folder / others[0]}: is no file of a configuration: only {', '.join(files_of('ID', ['L']))}"
        )
    if len(names) > BOUNDS.files:
        raise ReleaseError(f"{folder}: has {len(names)} files: at most {BOUNDS.files} are possible")
    layers, problems = [_layer(folder, name) for name in names], list[str]()
    for layer in layers:
        try:
            read_layer(layer, programs=True)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for name, layer in zip(names, layers, strict=True):
            out.writestr(zipfile.ZipInfo(name, _EARLIEST), layer.content, zipfile.ZIP_DEFLATED)


def _layer(folder: Path, name: str) -> Layer:
    try:
        return Layer(str(folder / name), read_file(folder / name, MAX_FILE_SIZE))
    except (TextError, OSError) as error:
        raise ReleaseError(f"{folder / name}: {error}") from None


def rendered(place: Path, device_id: str, labels: Sequence[str], own: Path | None) -> str:
    """What a configuration is for a device, as YAML; of the device's own file without addresses' credentials.

    Args:
        place: a folder, or an archive.
        device_id: of the device.
        labels: of the device.
        own: the device's own file; None: without it.

    Raises:
        ConfigError: a file can't be used.
        UpdateError: the archive can't be used.
    """
    if place.is_dir():
        layers = [_layer(place, name) for name in files_of(device_id, labels) if (place / name).is_file()]
    else:
        layers = layers_of(place, device_id, labels, place.name)
    problems = Problems(own or place)
    raw: object = {}
    if own is not None:
        try:
            raw = read(own, problems, {})
        except OSError as error:
            raise ConfigError([f"{own}: can't be read: {error.strerror}"]) from None
    merged = merge(raw, layers, problems, programs=True).raw
    if problems.texts() or not isinstance(merged, dict):
        raise ConfigError(problems.texts() or [f"{own}: must be `key: value` lines"])
    shown = {name: value for name, value in merged.items() if name in SECTIONS or name == "update"}
    if isinstance(shown.get("update"), dict):
        shown["update"] = {name: value for name, value in shown["update"].items() if name == "models"}
    return yaml.safe_dump(_without_secrets(shown), sort_keys=True, allow_unicode=True)


def _without_secrets(value: object) -> object:
    if isinstance(value, dict):
        return {key: "..." if key in PROGRAMS else _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return without_credentials(value) if isinstance(value, str) and "://" in value and "@" in value else value
