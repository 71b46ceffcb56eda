"""Models on disk: a path or a name becomes the files that it means, and what they and their bundle state."""

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from edge_agent import settings
from edge_agent.config import loader
from edge_agent.config.loader import NO_LABELS
from edge_agent.engines.accelerators import CPU, known_as
from edge_agent.errors import ModelError
from edge_agent.modelfile import chips, inspect
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.labels import read_labels
from edge_agent.models import archive, beside, bundle, export_folder, language, moonshine, registry, variants
from edge_agent.models.io_spec import Stated
from edge_agent.models.language import LanguageSource
from edge_agent.models.shipped import BUNDLES

log = logging.getLogger(__name__)

MAX_VERSION = 64


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that has been resolved: everything that is known of it before it is loaded.

    Attributes:
        options: its settings; libraries of delegates are found from any folder.
        file: the model file.
        version: as the bundle or the file states it.
        stated: by the settings and the bundle, the settings first.
        bundled: what the bundle states alone; its golden samples hold for that.
        folder: what the inputs of the golden samples are relative to.
        golden: the golden samples of the bundle.
        compiled: the same model in files for accelerators, by their names.
        unfit: accelerators for which the bundle has files -> why none of them is for this machine.
        evaluation: see `Manifest`.
        model_memory: bytes that all models may take; None: not stated.
        cores: how many it may keep busy; None: how it is run on the CPU is not measured.
        most_engines: for which there is memory.
    """

    options: settings.Model
    file: ModelFile
    version: str
    stated: Stated
    bundled: Stated
    folder: Path
    golden: tuple[bundle.Golden, ...]
    compiled: Mapping[str, ModelFile] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    evaluation: bundle.Required | None = None
    model_memory: int | None = field(default=None, compare=False)
    cores: int | None = field(default=None, compare=False)
    most_engines: int = field(default=1, compare=False)

    def on(self, accelerator: settings.Accelerator) -> "ModelSource":
        """The same model, with this accelerator as its only one."""
        return replace(self, options=self.options.model_copy(update={"accelerators": (accelerator,)}))

    def file_for(self, accelerator: settings.Accelerator) -> ModelFile:
        """The file that runs on an accelerator."""
        return self.compiled.get(known_as(accelerator), self.file)

    def stated_for(self, file: ModelFile) -> Stated:
        """What is stated of a file. Of one in another format, only what holds for the model in any format."""
        if file.format == self.file.format:
            return self.stated
        of_tensors = dict.fromkeys(("size", "layout", "normalize"))
        preprocess = self.stated.preprocess.model_copy(update=of_tensors)
        return replace(self.stated, decoder=None, anchors=None, preprocess=preprocess)

    def as_json(self) -> Any:
        """For another process of this machine."""
        return _adapter().dump_python(self, mode="json")

    @staticmethod
    def from_json(value: Any) -> "ModelSource":
        """What `as_json` has returned."""
        return _adapter().validate_python(value)


@cache
def _adapter() -> TypeAdapter[ModelSource]:
    return TypeAdapter(ModelSource)


def resolve(options: settings.Model, folder: Path) -> ModelSource | LanguageSource:
    """Resolves a model: finds its files, hashes them, and reads what they and the bundle state.

    Args:
        options: its settings.
        folder: what relative paths are relative to.

    Raises:
        ModelError: there is no such model, or it can't be read.
    """
    path = archive.unpacked(locate(options.path, folder))
    manifest = bundle.read_manifest(path) if (path / bundle.MANIFEST).is_file() else None
    if (path / moonshine.ENCODER).is_file():
        raise ModelError(
            f"{path}: a model of speech to text: state it in a pipeline, as "
            f"model: {{type: speech, path: {options.path}}}"
        )
    source = language.find(path, manifest) or _read(options, folder, path, manifest)
    log.debug("%s: resolved to %s, version %s", options.path, path, source.version)
    return source


def resolve_model(options: settings.Model, folder: Path) -> ModelSource:
    """See `resolve`, where a language model can't be used.

    Raises:
        ModelError: it is one, or there is no such model, or it can't be read.
    """
    source = resolve(options, folder)
    if isinstance(source, LanguageSource):
        raise ModelError(
            f"{source.path}: a language model, which takes requests over MQTT: `inspect`, `bench` and `run` know it"
        )
    return source


def locate(wanted: Path, folder: Path) -> Path:
    """The file or bundle folder that a path or a name from the registry means.

    Raises:
        ModelError: there is none.
    """
    path, name = loader.resolve(wanted, folder), str(wanted)
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # ValueError: U+0000 in the name
        if isinstance(error, NotADirectoryError) and archive.around(path):
            return path
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


def _read(options: settings.Model, folder: Path, path: Path, manifest: bundle.Manifest | None) -> ModelSource:
    """Reads a model file and its bundle.

    Args:
        options: see `resolve`.
        folder: see `resolve`.
        path: the file or the folder of the bundle.
        manifest: of the folder.
    """
    if path.is_dir() and manifest is None:
        path = export_folder.model_in(path) or path
    if path.is_dir():
        bundle_folder = path
        manifest = manifest or bundle.read_manifest(path)
        files = variants.fitting(manifest, path, options.accelerators)
    else:
        bundle_folder = path.parent
        manifest = bundle.manifest_beside(path)
        chosen = variants.fitting(manifest, bundle_folder, options.accelerators) if manifest else None
        given = inspect.read(path)
        files = replace(chosen or variants.Fitting(given), base=given)
    file = files.base
    stated = _stated(options, folder, manifest, bundle_folder)
    if manifest is None:
        file, stated = beside.completed(file, stated)
    bundled = _stated(settings.Model(path=path), folder, manifest, bundle_folder) if manifest else stated
    if file.format == "rpk" and options.accelerators == (CPU,):  # it runs nowhere else
        options = options.model_copy(update={"accelerators": ("imx500",)})
    return ModelSource(
        _with_absolute_delegates(_on_its_chip(options, file), folder),
        file,
        manifest.version if manifest else _version(file),
        stated,
        bundled,
        bundle_folder,
        manifest.golden if manifest else (),
        files.for_accelerators,
        files.unfit,
        manifest.evaluation if manifest else None,
    )


def _on_its_chip(options: settings.Model, file: ModelFile) -> settings.Model:
    """The settings; for a file that runs on one chip alone, and where they state none, with that."""
    if file.compiled is None or not file.compiled.chips or options.accelerators != (CPU,):
        return options
    name = chips.accelerator_of(file.compiled.chips[0])
    return options.model_copy(update={"accelerators": (name,)})


def _stated(options: settings.Model, folder: Path, manifest: bundle.Manifest | None, bundle_folder: Path) -> Stated:
    labels_path = options.labels and loader.resolve(options.labels, folder)
    if labels_path is None and manifest and manifest.labels:
        labels_path = bundle_folder / manifest.labels
    without_labels = (options.labels or (manifest and manifest.labels)) == NO_LABELS
    anchors = options.anchors and loader.resolve(options.anchors, folder)
    if anchors is None and manifest and manifest.anchors:
        anchors = bundle_folder / manifest.anchors
    return Stated(
        decoder=options.decoder or (manifest.decoder if manifest else None),
        anchors=anchors,
        preprocess=_merged(options.preprocess, manifest.preprocess if manifest else settings.Preprocess()),
        input=options.input or (manifest.input if manifest else None),
        threshold=manifest.threshold if manifest else None,
        min_confidence=manifest.calibrated if manifest else None,
        output=options.output or (manifest.output if manifest else None),
        labels=read_labels(labels_path) if labels_path and not without_labels else None,
        labels_from=str(labels_path or ""),
        without_labels=without_labels,
    )


def _with_absolute_delegates(options: settings.Model, folder: Path) -> settings.Model:
    """The same settings, the delegates' libraries found from anywhere; a bare name is left to the system."""
    accelerators = tuple(
        accelerator.model_copy(update={"delegate": str(loader.resolve(accelerator.delegate, folder))})
        if isinstance(accelerator, settings.Delegate) and "/" in accelerator.delegate
        else accelerator
        for accelerator in options.accelerators
    )
    return options.model_copy(update={"accelerators": accelerators})


def _version(file: ModelFile) -> str:
    """The version that a bare file states; an Ultralytics export states that of the exporter instead."""
    stated = "" if "stride" in file.metadata else file.metadata.get("version", "")
    return stated[:MAX_VERSION] or "1"


def _merged(first: settings.Preprocess, second: settings.Preprocess) -> settings.Preprocess:
    """Each key from the first that states it."""
    stated = {key: value for key in type(first).model_fields if (value := getattr(first, key)) is not None}
    return second.model_copy(update=stated)
