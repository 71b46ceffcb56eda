"""A bundle with files for several chips, as an archive for each: a device downloads only what its chip can load."""

import shutil
from pathlib import Path

import yaml

from edge_agent.modelfile import inspect
from edge_agent.models import variants
from edge_agent.models.bundle import MANIFEST, MAX_MANIFEST_SIZE, Manifest
from edge_agent.models.pack import zip_folder
from edge_agent.system.text import read_text


def split(folder: Path, manifest: Manifest, scratch: Path, packed: Path) -> dict[str, Path]:
    """Makes the archives of a bundle, by the accelerators and chips that they are for; "" for all other devices.

    Each has the plain files, with which a device goes on when its chip fails, and what is no model file.

    Args:
        folder: of the bundle.
        manifest: of the bundle.
        scratch: an empty folder for them.
        packed: the bundle as it was given, an archive or the folder.

    Raises:
        ModelError: a file is not for what the manifest names.
    """
    targets = manifest.for_targets
    if not targets:
        if packed.is_dir():
            packed = scratch / "bundle.zip"
            zip_folder(folder, packed)
        return {"": packed}
    variants.check(manifest, folder)
    return {
        name: _archive(folder, manifest, scratch, name) for name in ([""] if manifest.plain else []) + list(targets)
    }


def _archive(folder: Path, manifest: Manifest, scratch: Path, name: str) -> Path:
    """An archive with the file for one target, or with none of them."""
    kept = _files(folder, [*manifest.plain.values(), *filter(None, [manifest.for_targets.get(name)])])
    dropped = _files(folder, list(manifest.for_targets.values())) - kept
    made = scratch / f"for-{name}"
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.is_file() and place not in dropped:
            (made / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, made / place)
    # Without types: a version 1.10 stays what it is.
    raw = yaml.load(read_text(folder / MANIFEST, MAX_MANIFEST_SIZE), yaml.BaseLoader)  # noqa: S506 - makes texts only
    raw["variants"] = [one for one in raw.get("variants", []) if one["for"] in ("cpu", name)]
    raw["compiled"] = {target: file for target, file in raw.get("compiled", {}).items() if target == name}
    raw["left_out"] = [target for target in manifest.for_targets if target != name]
    text = yaml.safe_dump({key: value for key, value in raw.items() if value not in ([], {})}, sort_keys=False)
    (made / MANIFEST).write_text(text, encoding="utf-8")
    archive = scratch / f"for-{name}.zip"
    zip_folder(made, archive)
    return archive


def _files(folder: Path, names: list[Path]) -> set[Path]:
    """Model files with the files that they name, relative to the bundle."""
    found = {path: inspect.read(folder / path) for path in names}
    return {*found, *(path.parent / one.name for path, file in found.items() for one in file.named_files)}
