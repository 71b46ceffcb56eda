"""Models that somebody has brought: looked into and tried like any other, then known by a name."""

import shutil
from pathlib import Path

import yaml

from edge_agent import settings
from edge_agent.errors import ModelError
from edge_agent.models import archive, registry
from edge_agent.models.bundle import MANIFEST, Manifest, read_manifest
from edge_agent.models.io_spec import derive
from edge_agent.models.qualification import qualify
from edge_agent.models.resolve import ModelSource, resolve_model
from edge_agent.models.shipped import BUNDLES
from edge_agent.system import atomic_file

MOST, LONGEST_NAME = 100, 64
LABELS_FILE = "labels.txt"


def check_name(name: str) -> None:
    """Checks that a model can get a name.

    Raises:
        ModelError: it is no name, or that of another model.
    """
    if len(name) > LONGEST_NAME or not registry.NAME.fullmatch(name):
        raise ModelError("the name of a model has 1 to 64 small letters, digits, dots and hyphens, and no dot first")
    if name in BUNDLES or name in registry.entries() or (registry.models_dir() / name).exists():
        raise ModelError(f"there is a model {name} already: choose another name, or remove that one's folder")


def accept(file: Path, labels: Path | None, name: str) -> Path:
    """Makes a bundle of a model file, or of an archive with a bundle, if it passes all tests.

    Args:
        file: TFLite, ONNX, or an archive as `models pack` writes it; on the file system of the models.
        labels: one a line; None: those that the model carries.
        name: that it gets.

    Returns:
        The bundle's folder, in the folder of pulled models.

    Raises:
        ModelError: it is no model, does not state enough, or fails; or the name is taken.
        OSError: the bundle can't be written.
    """
    check_name(name)
    source = resolve_model(settings.Model(path=file, labels=labels), file.parent)
    qualify(source, 1)
    folder = file.parent / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    if (source.folder / MANIFEST).is_file():
        shutil.copytree(source.folder, folder)
    else:
        _write_bundle(source, file, labels, name, folder)
    read_manifest(folder)  # what is written must be usable
    made = registry.models_dir() / name
    try:
        folder.rename(made)
    except OSError:
        check_name(name)  # another one was faster
        raise
    return made


def _write_bundle(source: ModelSource, file: Path, labels: Path | None, name: str, folder: Path) -> None:
    if source.file.named_files:
        raise ModelError("keeps its weights in another file: send the archive that `edge-agent models pack` writes")
    folder.mkdir()
    model = f"model.{source.file.format}"
    if archive.unpacked(file) == file:
        file.rename(folder / model)
    else:
        shutil.copyfile(source.file.path, folder / model)
    if labels is not None:
        labels.rename(folder / LABELS_FILE)
    manifest = Manifest(
        name=name,
        version=source.version,
        task=derive(source.file, source.stated).task,
        files={source.file.format: Path(model)},
        labels=None if labels is None else Path(LABELS_FILE),
    )
    text = yaml.safe_dump(manifest.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    atomic_file.write(folder / MANIFEST, text.encode())


def own_models() -> dict[str, Manifest]:
    """The models in the folder of pulled ones that are not of the registry, by name."""
    known = registry.entries()
    found: dict[str, Manifest] = {}
    try:
        folders = sorted(path for path in registry.models_dir().iterdir() if registry.NAME.fullmatch(path.name))
    except OSError:
        return {}
    for folder in folders:
        if folder.name in known or len(found) == MOST:
            continue
        try:
            found[folder.name] = read_manifest(folder)
        except ModelError:  # not complete, or not for this version
            continue
    return found
