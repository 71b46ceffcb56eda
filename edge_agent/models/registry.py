"""The registry of public models, by name, and their download.

A pulled model is a bundle: a folder with the model, its labels and a `model.yaml`. That file is written last, so that
a folder which has it is complete.
"""

import difflib
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import yaml
from pydantic import Field, TypeAdapter, model_validator

from edge_agent.errors import ConfigError, ModelError
from edge_agent.models.bundle import MANIFEST, TRANSCRIPTION, FileFormat, Manifest
from edge_agent.models.shipped import BUNDLES, shipped
from edge_agent.settings import Preprocess
from edge_agent.settings.base import Fraction, Frozen
from edge_agent.settings.models import Output
from edge_agent.settings.series import Input
from edge_agent.system import atomic_file
from edge_agent.system.home import expand_user, home

# Where the figures of `Measured` are from.
MACHINE = (
    "a busy x86-64 server (AMD EPYC, two hardware threads), LiteRT 2.3, ONNX Runtime 1.32 and llama.cpp of xllamacpp "
    "2026.10"
)
NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
LABELS_FILE = "labels.txt"
MIRROR_ADDRESS = re.compile(r"https?://[^\s/@?#]+(/[^\s?#]*)?|file:///[^?#]*")

# Called with (bytes done, bytes in all).
Progress = Callable[[int, int], None]

Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]
HttpsUrl = Annotated[str, Field(pattern=r"^https://[^\s@?#]+$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class File(Frozen):
    """One file of a model."""

    name: FileName
    """Name in the bundle's folder."""
    url: HttpsUrl
    """Where it is published; an address whose content does not change."""
    size: int = Field(gt=0, le=2_000_000_000)
    """In bytes."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the whole file."""


class Measured(Frozen):
    """What one model did on `MACHINE`, with the runtime of its file and no setting but those of its entry."""

    ms: float = Field(gt=0)
    """CPU time of one inference on one thread, in milliseconds: of 200, a tenth took less."""
    right: int = Field(ge=0)
    """How many answers were right."""
    of: int = Field(gt=0)
    """Out of how many."""
    inputs: str
    """Of what."""


class LanguageFacts(Frozen):
    """What a language model takes."""

    memory: int = Field(gt=0)
    """Bytes of memory, about: the file, the cache of a conversation of 2048 tokens, and 100 MB for its process."""
    tokens_per_second: float | None = Field(None, gt=0)
    """Tokens of answers per second of CPU time on one thread of `MACHINE`; None: not measured."""


class Entry(Frozen):
    """One model of the registry."""

    description: str
    """One line: what it recognises, from what input."""
    version: str = "1"
    """Of this entry; goes up when its files or settings change."""
    task: Literal["classification", "detection", "segmentation", "pose", "embedding", "ocr", "text", "transcription"]
    """What kind of predictions it makes."""
    licence: Literal["Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause"]
    """SPDX identifier."""
    source: HttpsUrl
    """Page of the repository that publishes it."""
    files: tuple[File, ...] = Field(min_length=1)
    """The model, as .tflite, .onnx or both from the same weights, or as .gguf, and the labels where they are a file. Or
    those of a Moonshine model."""
    labels: FileName | tuple[str, ...] | None = None
    """The labels' file among `files`, or the labels; default: the model carries them, or needs none."""
    preprocess: Preprocess = Preprocess()
    """How pixels become the input tensor, where the model file does not state it."""
    input: Input | None = None
    """The input, where it is no picture."""
    decoder: str | None = None
    """How the outputs are decoded, where the model file does not show it."""
    min_confidence: Fraction | None = None
    """Minimum confidence of pipelines that state none."""
    output: Output | None = None
    """What the scores of a classifier are, where the model file does not show it."""
    measured: Measured | None = None
    """How fast and how right it was when the entry was written."""
    language: LanguageFacts | None = None
    """Of a language model, instead."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        names = [file.name for file in self.files]
        if len({*names, MANIFEST, LABELS_FILE}) != len(names) + 2:
            raise ValueError(f"file names must differ, {MANIFEST} and {LABELS_FILE} are taken (got {names})")
        if not self._models() and self.task != TRANSCRIPTION:
            raise ValueError("one file must be a .tflite, .onnx or .gguf model")
        if isinstance(self.labels, str) and self.labels not in names:
            raise ValueError(f"labels must be one of the files {names} (got {self.labels!r})")
        return self

    def _models(self) -> dict[FileFormat, Path]:
        paths = [Path(file.name) for file in self.files]
        return {kind: path for path in paths for kind in get_args(FileFormat) if path.suffix == f".{kind}"}

    def manifest(self, name: str) -> Manifest:
        """The `model.yaml` of this model under the given name."""
        labels = LABELS_FILE if isinstance(self.labels, tuple) else self.labels
        return Manifest(
            name=name,
            version=self.version,
            task=self.task,
            licence=self.licence,
            source=self.source,
            files=self._models(),
            labels=Path(labels) if labels else None,
            preprocess=self.preprocess,
            input=self.input,
            decoder=self.decoder,
            output=self.output,
            min_confidence=self.min_confidence,
        )


def entries() -> dict[str, Entry]:
    """The registry of public models that comes with edge-agent, by name."""
    raw = yaml.safe_load(shipped("registry.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(dict[Name, Entry]).validate_python(raw)


def models_dir() -> Path:
    """The folder of pulled models.

    $EDGE_AGENT_MODELS; else, for a service of systemd, $STATE_DIRECTORY/models; else the user's
    $XDG_DATA_HOME/edge-agent/models (https://specifications.freedesktop.org/basedir-spec/).
    """
    if chosen := os.environ.get("EDGE_AGENT_MODELS"):
        return expand_user(chosen)
    if state := os.environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0]) / "models"
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (data if data.is_absolute() else home() / ".local" / "share") / "edge-agent" / "models"


def resolve(name: str) -> Path | None:
    """The bundle folder of a model that was pulled completely, or that comes with edge-agent; else None."""
    if NAME.fullmatch(name):
        for folder in (models_dir() / name, shipped(name)):
            if (folder / MANIFEST).is_file():
                return folder
    return None


def find(name: str) -> Entry:
    """The entry of a name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    known = entries()
    if name not in known:
        nearest = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "`edge-agent models list` shows all"
        raise ConfigError([f"there is no model {name!r} in the registry; {hint}"])
    return known[name]


def pull(name: str, into: Path, mirror: str | None = None, progress: Progress | None = None) -> Path:
    """Downloads the missing files of a model of the registry to the folder `into`/`name`.

    A mirror has the layout that `pull` makes, `MIRROR/NAME/FILE`: `edge-agent models pull NAME --into FOLDER` on a
    machine with internet makes a folder that any web server can serve as a mirror, or that can be copied. Sizes and
    hashes are those of the registry, wherever the files come from.

    Args:
        name: of the model. One that comes with edge-agent is not downloaded.
        into: folder of models; made if it is missing.
        mirror: an https://, http:// or file:// address or a folder, used instead of the published addresses; default:
            that of $EDGE_AGENT_MIRROR, if it is set.
        progress: called with (bytes done, bytes in all).

    Returns:
        The bundle's folder.

    Raises:
        ConfigError: there is no such model, or the mirror is no address.
        ModelError: a file can't be downloaded, is not the one of the registry, or can't be written.
    """
    if name in BUNDLES:
        return shipped(name)
    entry = find(name)
    mirror = mirror or os.environ.get("EDGE_AGENT_MIRROR") or None
    base = None if mirror is None else f"{_checked(mirror)}/{name}"
    folder = into / name
    try:
        with _only_writer(folder):
            missing = [file for file in entry.files if not _holds(folder / file.name, file.size, file.sha256)]
            done = entry.size - sum(file.size for file in missing)
            for file in missing:
                _fetch(file, base, folder, partial(_report, progress, done, entry.size))
                done += file.size
            _finish(name, entry, folder, missing)
    except OSError as error:
        raise ModelError(
            f"{error.filename or folder}: {error.strerror}: make {into} writable, with "
            f"{entry.size / 1e6:.1f} MB free, or choose another folder"
        ) from None
    _report(progress, 0, entry.size, entry.size)
    return folder


def _checked(mirror: str) -> str:
    """The mirror's address without a slash at its end; one with a password is refused, and not quoted."""
    if "://" in mirror and not MIRROR_ADDRESS.fullmatch(mirror):
        raise ConfigError(["mirror: must be https://HOST/PATH, http://…, file:///PATH or a folder; no password"])
    return mirror.rstrip("/")


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Makes the folder and locks it against other pulls; the lock of a killed process is released."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelError(f"{folder}: another pull writes here: wait until it has ended") from None
        yield


def _fetch(file: File, base: str | None, folder: Path, progress: Callable[[int], None]) -> None:
    # The HTTP client is needed for pulling only: an agent that only resolves names starts without it.
    from edge_agent.models.download import fetch

    source = file.url if base is None else f"{base}/{file.name}"
    fetch(source, _part(folder / file.name), file.size, file.sha256, progress)


def _report(progress: Progress | None, before: int, total: int, have: int) -> None:
    if progress is not None:
        progress(before + have, total)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _holds(path: Path, size: int, sha256: str) -> bool:
    if not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _finish(name: str, entry: Entry, folder: Path, fetched: list[File]) -> None:
    """Renames the fetched files, and writes `model.yaml` last: until then `resolve` does not find the bundle."""
    manifest = entry.manifest(name).model_dump(mode="json", exclude_defaults=True)
    texts = {MANIFEST: yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True).encode()}
    if isinstance(entry.labels, tuple):
        texts = {LABELS_FILE: "".join(f"{label}\n" for label in entry.labels).encode(), **texts}
    if not fetched and all(_holds(folder / file, len(text), _sha256(text)) for file, text in texts.items()):
        return
    (folder / MANIFEST).unlink(missing_ok=True)
    for file in fetched:
        _part(folder / file.name).replace(folder / file.name)
    for file_name, text in texts.items():
        atomic_file.write(folder / file_name, text)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
