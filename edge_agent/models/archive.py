"""Bundles and models as .zip archives: checked, then unpacked once into a folder of the cache."""

import fcntl
import hashlib
import re
import shutil
import zipfile
from io import BufferedReader
from pathlib import Path

from edge_agent.errors import ModelError
from edge_agent.modelfile import gate
from edge_agent.models.bundle import MANIFEST
from edge_agent.system.cache import cache_dir
from edge_agent.system.zip_files import DAMAGES, MAGIC, Bounds, RefusedError, check_directory, checked, extract

# Bounds on an archive; a bundle has one or two models, labels, and a few pictures.
BOUNDS = Bounds("a bundle", files=1000, directory_bytes=1_000_000, total_bytes=2 * 2**30, ratio=200)
# Unpacked bundles that are kept; older ones are unpacked again when they are needed.
MAX_UNPACKED = 16

_MODELS = (".tflite", ".onnx")
_SHOWN = 6


def unpacked(path: Path) -> Path:
    """The unpacked folder of a bundle that is a .zip, with `model.yaml` at the top or in its only folder.

    Of any other archive, such as a `.task` of MediaPipe or an export of Teachable Machine, the unpacked model file: its
    only one, or the one that the path names (`hand_landmarker.task/hand_detector.tflite`). Any other path is returned
    unchanged.

    Raises:
        ModelError: the archive is damaged or out of bounds, has not the model or several, or there is no place for its
            content.
    """
    named = ""
    if (outer := around(path)) is not None:
        path, named = outer, path.relative_to(outer).as_posix()
    try:
        if not path.is_file():
            return path
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                return path
            check_directory(file, BOUNDS)
            with zipfile.ZipFile(file) as archive:
                return _folder(archive, file) or _model(archive, file, named) or path
    except RefusedError as error:
        raise ModelError(f"{path}: {error}") from None
    except DAMAGES as error:
        raise ModelError(f"{path}: the archive is damaged ({error}): copy or download it again") from None
    except OSError as error:
        why = f"{error.strerror}: make room, or set XDG_CACHE_HOME to a folder that can be written"
        raise ModelError(f"{path}: can't be unpacked to {cache_dir()}: {why}") from None


def around(path: Path) -> Path | None:
    """The archive in which a path names a file; None if it names none in an archive."""
    try:
        outer = next((parent for parent in path.parents if parent.is_file()), None)
        if outer is not None:
            with outer.open("rb") as file:
                return outer if file.read(4) == MAGIC else None
    except OSError:
        pass
    return None


def forget(sha256: str) -> None:
    """Removes the unpacked folder of an archive."""
    shutil.rmtree(cache_dir() / "bundles" / sha256, ignore_errors=True)


def _folder(archive: zipfile.ZipFile, file: BufferedReader) -> Path | None:
    """The unpacked folder of the bundle; None if the archive is no bundle."""
    manifests = [name for name in archive.namelist() if re.fullmatch(rf"([^/]+/)?{re.escape(MANIFEST)}", name)]
    if not manifests:
        return None
    if len(manifests) > 1 and MANIFEST not in manifests:
        raise RefusedError(f"expected one bundle, found {len(manifests)}: unpack it and name one of its folders")
    return (_unpacked(archive, file) / min(manifests, key=len)).parent


def _model(archive: zipfile.ZipFile, file: BufferedReader, named: str) -> Path | None:
    """The unpacked model file of an archive that is no bundle; None if there is none.

    Args:
        archive: the archive.
        file: the same, as a file.
        named: the model in it that is wanted; "" for the only one.
    """
    models = [name for name in archive.namelist() if name.endswith(_MODELS)]
    if named and named not in models:
        raise RefusedError(f"there is no model {named} in it, but {', '.join(models[:_SHOWN]) or 'none at all'}")
    if len(models) > 1 and not named:
        listed = ", ".join(models[:_SHOWN]) + ("…" if len(models) > _SHOWN else "")
        raise RefusedError(
            f"expected one model, found {len(models)} ({listed}): name one, as in {file.name}/{models[0]}"
        )
    return _unpacked(archive, file) / (named or models[0]) if models else None


def _unpacked(archive: zipfile.ZipFile, file: BufferedReader) -> Path:
    """The folder of an archive's content, in the cache."""
    entries = checked(archive, BOUNDS)
    file.seek(0)
    folder = cache_dir() / "bundles" / hashlib.file_digest(file, "sha256").hexdigest()
    if not folder.exists():
        _unpack(archive, entries, folder)
    return folder


def _check_content(part: Path) -> None:
    try:
        gate.check_folder(part)
    except ModelError as error:
        raise RefusedError(str(error).removeprefix(f"{part}/")) from None


def _unpack(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], folder: Path) -> None:
    """Unpacks into a folder that exists completely or not at all, also after a power cut."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            extract(archive, entries, part, durable=True)
            _check_content(part)
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        folders = [path for path in folder.parent.iterdir() if path.is_dir()]
        for old in sorted(folders, key=lambda path: path.stat().st_mtime)[:-MAX_UNPACKED]:
            shutil.rmtree(old, ignore_errors=True)
