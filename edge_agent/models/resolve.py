"""Models on disk, found by path or name, and what their files and bundles say, before anything is loaded."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent import settings
from edge_agent.config.loader import NO_LABELS, resolve
from edge_agent.engines.accelerators import known_as
from edge_agent.errors import ModelError
from edge_agent.modelfile import inspect
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.labels import read_labels
from edge_agent.models import archive, bundle, language, registry
from edge_agent.models.io_spec import Stated
from edge_agent.models.shipped import BUNDLES

MAX_VERSION = 64


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that has been found on disk, before it is loaded.

    Attributes:
        asked_for: the path or name in the settings.
        folder: what the inputs of its golden samples are relative to.
        compiled: the same model compiled for accelerators, by their names.
    """

    file: ModelFile
    version: str
    stated: Stated
    asked_for: Path
    folder: Path
    golden: tuple[bundle.Golden, ...]
    compiled: Mapping[str, ModelFile] = field(default_factory=dict)

    def file_for(self, accelerator: settings.Accelerator) -> ModelFile:
        """The file that runs on an accelerator."""
        return self.compiled.get(known_as(accelerator), self.file)


def find(model: settings.Model, folder: Path) -> ModelSource:
    """Finds a model on disk and reads what its file and bundle say.

    Args:
        model: its settings.
        folder: what relative paths are relative to.

    Raises:
        ModelError: there is no such model, or it can't be read.
    """
    path = archive.unpacked(locate(model.path, folder))
    if language.find(path) is not None:
        raise ModelError(
            f"{path}: a language model, which takes requests over MQTT: `inspect`, `bench` and `run` know it"
        )
    if path.is_dir():
        bundle_folder = path
        manifest: bundle.Manifest | None = bundle.read_manifest(path)
        path = path / bundle.choose_file(manifest, model.accelerators) if manifest else path
    else:
        bundle_folder = path.parent
        manifest = bundle.manifest_beside(path)
    file = inspect.read(path)
    labels_path = model.labels and resolve(model.labels, folder)
    if labels_path is None and manifest and manifest.labels:
        labels_path = bundle_folder / manifest.labels
    without_labels = (model.labels or (manifest and manifest.labels)) == NO_LABELS
    anchors = model.anchors and resolve(model.anchors, folder)
    if anchors is None and manifest and manifest.anchors:
        anchors = bundle_folder / manifest.anchors
    stated = Stated(
        decoder=model.decoder or (manifest.decoder if manifest else None),
        anchors=anchors,
        preprocess=_merged(model.preprocess, manifest.preprocess if manifest else settings.Preprocess()),
        input=model.input or (manifest.input if manifest else None),
        threshold=manifest.threshold if manifest else None,
        output=model.output or (manifest.output if manifest else None),
        labels=read_labels(labels_path) if labels_path and not without_labels else None,
        labels_from=str(labels_path or ""),
        without_labels=without_labels,
    )
    version = manifest.version if manifest else _version(file)
    return ModelSource(
        file,
        version,
        stated,
        model.path,
        bundle_folder,
        manifest.golden if manifest else (),
        _compiled(manifest, bundle_folder, file) if manifest else {},
    )


def locate(wanted: Path, folder: Path) -> Path:
    """The file or bundle folder that a path or a name from the registry means.

    Raises:
        ModelError: there is none.
    """
    path, name = resolve(wanted, folder), str(wanted)
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # ValueError: U+0000 in the name
        raise ModelError(f"{path}: can't be read: {getattr(error, 'strerror', error)}") from None
    else:
        return path
    if (bundle_folder := registry.resolve(name)) is not None:
        return bundle_folder
    known = registry.entries()
    if name in known:
        raise ModelError(f"{name}: not on this device yet: run `edge-agent models pull {name}`")
    nearest = difflib.get_close_matches(name.lower()[:MAX_VERSION], [*known, *BUNDLES], n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise ModelError(f"{path}: there is no such file or folder, and no model of that name in the registry{hint}")


def located(model: settings.Model, folder: Path) -> settings.Model:
    """The same settings, the delegates' libraries found from anywhere; a bare name is left to the system."""
    accelerators = tuple(
        accelerator.model_copy(update={"delegate": str(resolve(accelerator.delegate, folder))})
        if isinstance(accelerator, settings.Delegate) and "/" in accelerator.delegate
        else accelerator
        for accelerator in model.accelerators
    )
    return model if accelerators == model.accelerators else model.model_copy(update={"accelerators": accelerators})


def _compiled(manifest: bundle.Manifest, folder: Path, file: ModelFile) -> dict[str, ModelFile]:
    """What stands in for a bundle's file on accelerators: compiled files of its format, by the accelerators' names."""
    found = {name: inspect.read(folder / path) for name, path in manifest.compiled.items()}
    return {name: compiled for name, compiled in found.items() if compiled.format == file.format}


def _version(file: ModelFile) -> str:
    """The version that a bare file states of itself; an Ultralytics export states that of the exporter instead."""
    stated = "" if "stride" in file.metadata else file.metadata.get("version", "")
    return stated[:MAX_VERSION] or "1"


def _merged(first: settings.Preprocess, second: settings.Preprocess) -> settings.Preprocess:
    """Each key from the first that states it."""
    stated = {key: value for key in type(first).model_fields if (value := getattr(first, key)) is not None}
    return second.model_copy(update=stated)
