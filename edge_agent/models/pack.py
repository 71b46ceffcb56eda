"""Makes a bundle of a model file and the facts that are stated for it."""

import math
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edge_agent import settings
from edge_agent.config.loader import NO_LABELS
from edge_agent.errors import InputError, ModelError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.models import golden
from edge_agent.models import model as models
from edge_agent.models.bundle import MANIFEST, Golden, Manifest, Quantized
from edge_agent.models.io_spec import IOSpec, Stated, derive
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import ModelSource, resolve_model
from edge_agent.models.self_test import run_self_test
from edge_agent.preprocess.files import read_file
from edge_agent.preprocess.image import Preprocess
from edge_agent.system.terminal import printable

LABELS_FILE, ANCHORS_FILE, GOLDEN_FOLDER = "labels.txt", "anchors.txt", "golden"
# The earliest time that a zip archive can hold: the same content makes the same bytes.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_TAKEN = "{}: is there already: remove it, or name another place"


@dataclass(frozen=True, slots=True)
class About:
    """Facts of a bundle that no model file carries."""

    name: str
    version: str
    licence: str


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """What a quantized file was made from, and what was measured of both."""

    file: ModelFile
    figures: Quantized


def pack(model: settings.Model, folder: Path, about: About, pictures: Sequence[Path], out: Path) -> Manifest:
    """Writes a bundle: a folder or, if `out` ends in .zip, one archive.

    Args:
        model: the file, and what is stated for it.
        folder: what relative paths in `model` are relative to.
        about: of the bundle.
        pictures: these, with the predictions that the model makes of them now, become its golden samples.
        out: the path of the bundle, which must not exist yet.

    Raises:
        ModelError: the model can't be read or run, a picture makes no golden sample, or `out` can't be written.
    """
    if out.exists():
        raise ModelError(_TAKEN.format(out))
    return pack_source(resolve_model(model, folder), about, pictures, out)


def pack_source(
    source: ModelSource, about: About, pictures: Sequence[Path], out: Path, made_from: "MadeFrom | None" = None
) -> Manifest:
    """See `pack`.

    Args:
        source: the model, resolved.
        about: see `pack`.
        pictures: see `pack`.
        out: see `pack`.
        made_from: of a quantized file, its original, which is kept in the bundle.
    """
    if out.exists():
        raise ModelError(_TAKEN.format(out))
    spec = derive(source.file, source.stated)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            part = Path(scratch).resolve() / "bundle"
            part.mkdir()
            manifest = _write(source, spec, about, part)
            if made_from is not None:
                _copy(made_from.file.identity, part / made_from.figures.original)
                manifest = manifest.model_copy(update={"quantized": made_from.figures})
                _write_manifest(manifest, spec, part)
            if pictures:
                _copy_pictures(pictures, part / GOLDEN_FOLDER)
                manifest = manifest.model_copy(update={"golden": _record(about.name, part)})
                _write_manifest(manifest, spec, part)
            if out.suffix == ".zip":
                zip_folder(part, part.with_suffix(".zip"))
                part = part.with_suffix(".zip")
            part.rename(out)
    except OSError as error:
        raise ModelError(f"{error.filename or out}: {error.strerror}") from None
    return manifest


def _write(source: ModelSource, spec: IOSpec, about: About, part: Path) -> Manifest:
    """Writes all but the golden samples: the files, and what is stated and was derived."""
    stated, file_name = source.stated, f"model.{source.file.format}"
    _copy(source.file.identity, part / file_name)
    if stated.labels is not None:
        (part / LABELS_FILE).write_text("".join(f"{label}\n" for label in stated.labels), encoding="utf-8")
    if stated.anchors is not None:
        shutil.copyfile(stated.anchors, part / ANCHORS_FILE)
    found = settings.Preprocess()
    if isinstance(how := spec.preprocess, Preprocess):
        found = settings.Preprocess(
            resize=how.resize,
            crop=how.crop if how.crop < 1 else None,
            color=how.color,
            layout=how.layout,
            size=stated.preprocess.size,
            reduced_decoding=stated.preprocess.reduced_decoding,
        )
    manifest = Manifest(
        name=about.name,
        version=about.version,
        task=spec.task,
        licence=about.licence,
        files={source.file.format: Path(file_name)},
        labels=_labels(stated),
        decoder=spec.family,
        anchors=Path(ANCHORS_FILE) if stated.anchors is not None else None,
        output=stated.output,
        preprocess=found.model_copy(update={"normalize": stated.preprocess.normalize}),
        input=stated.input,
        threshold=stated.threshold,
        min_confidence=stated.min_confidence,
    )
    _write_manifest(manifest, spec, part)
    return manifest


def _copy(identity: FileIdentity, out: Path) -> None:
    """Writes a model file, and beside it the files that it names."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(identity.content())
    for name, content in identity.named_contents().items():
        place = out.parent / name
        if place.name in (MANIFEST, LABELS_FILE, ANCHORS_FILE, out.name):
            raise ModelError(f"{identity.path}: keeps weights in another file, {name}: export it under another name")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"".join(content))


def _labels(stated: Stated) -> Path | None:
    if stated.without_labels:
        return NO_LABELS
    return Path(LABELS_FILE) if stated.labels is not None else None


def _write_manifest(manifest: Manifest, spec: IOSpec, part: Path) -> None:
    facts = manifest.model_dump(mode="json", exclude_none=True, exclude_defaults=True, exclude={"golden"})
    lines = [line.model_dump(mode="json", exclude_none=True, exclude_unset=True) for line in manifest.golden]
    evidence = "".join(f"# {printable(sentence)}\n" for sentence in spec.evidence)
    text = _yaml(facts, flow=None) + ("golden:\n" if lines else "")
    text += "".join(f"  - {_yaml(line, flow=True)}" for line in lines)
    (part / MANIFEST).write_text(f"{text}# How it is read, and why:\n{evidence}", encoding="utf-8")


def _yaml(facts: dict[str, Any], *, flow: bool | None) -> str:
    text: str = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=flow)
    return text


def _copy_pictures(pictures: Sequence[Path], folder: Path) -> None:
    folder.mkdir()
    for picture in pictures:
        name = re.sub(r"[^\w.-]", "-", picture.name)
        if (folder / name).exists():
            raise ModelError(f"{picture}: another golden sample is called {name} as well: rename one")
        shutil.copyfile(picture, folder / name)


def _record(name: str, part: Path) -> tuple[Golden, ...]:
    """The golden samples of an unfinished bundle: the predictions that its model makes of the pictures in it."""
    source = resolve_model(settings.Model(path=part), part)
    run_self_test(source)
    model = models.load_unqualified(name, source)
    predictor = Predictor(model, top_k=None, min_confidence=None)
    lines: list[Golden] = []
    try:
        for picture in sorted((part / GOLDEN_FOLDER).iterdir()):
            predictions = predictor.ask(read_file(picture)).predictions
            lines += golden.record(f"{GOLDEN_FOLDER}/{picture.name}", model.decode.task, predictions)
    except InputError as error:
        raise ModelError(f"{picture.name}: can't be a golden sample: {error}") from None
    finally:
        model.close()
    return tuple(lines)


def zip_folder(folder: Path, out: Path) -> None:
    """Makes an archive of a bundle; the same content makes the same bytes."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(str(path.relative_to(folder)), _NO_TIME)
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
