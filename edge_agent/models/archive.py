"""Bundles and models as .zip archives: checked, then unpacked once into a folder of the cache."""

import fcntl
import hashlib
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from io import BufferedReader
from pathlib import Path

from edge_agent.errors import ModelError
from edge_agent.modelfile import gate
from edge_agent.models.bundle import MANIFEST
from edge_agent.system.cache import cache_dir
from edge_agent.system.units import format_size

# Bounds on an archive; a bundle has one or two models, labels, and a few pictures.
MAX_ENTRIES = 1000
MAX_DIRECTORY_BYTES = 1_000_000
MAX_BYTES = 2 * 2**30
MAX_RATIO = 200
# Unpacked bundles that are kept; older ones are unpacked again when they are needed.
MAX_UNPACKED = 16

_FREE_BYTES = 1_000_000  # may always be unpacked, however well it is compressed
_MAX_DEPTH = 8
# The archive's last record: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.16.
_END = struct.Struct("<4x2x2x2xHI4xH")
_END_SIGNATURE, _LOCATOR_64_SIGNATURE, _LOCATOR_64_BYTES = b"PK\5\6", b"PK\6\7", 20
_MAX_COMMENT = 0xFFFF
_NAME = re.compile(r"[^\\:\x00-\x1f\x7f]{1,255}")
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_MODELS = (".tflite", ".onnx")
_SHOWN = 6


class _RefusedError(Exception):
    """The archive can't be used; as text: why."""


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
            if file.read(4) != b"PK\3\4":
                return path
            _check_directory(file)
            with zipfile.ZipFile(file) as archive:
                return _folder(archive, file) or _model(archive, file, named) or path
    except _RefusedError as error:
        raise ModelError(f"{path}: {error}") from None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError) as error:
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
                return outer if file.read(4) == b"PK\3\4" else None
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
        raise _RefusedError(f"expected one bundle, found {len(manifests)}: unpack it and name one of its folders")
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
        raise _RefusedError(f"there is no model {named} in it, but {', '.join(models[:_SHOWN]) or 'none at all'}")
    if len(models) > 1 and not named:
        listed = ", ".join(models[:_SHOWN]) + ("…" if len(models) > _SHOWN else "")
        raise _RefusedError(
            f"expected one model, found {len(models)} ({listed}): name one, as in {file.name}/{models[0]}"
        )
    return _unpacked(archive, file) / (named or models[0]) if models else None


def _unpacked(archive: zipfile.ZipFile, file: BufferedReader) -> Path:
    """The folder of an archive's content, in the cache."""
    entries = _checked(archive)
    file.seek(0)
    folder = cache_dir() / "bundles" / hashlib.file_digest(file, "sha256").hexdigest()
    if not folder.exists():
        _unpack(archive, entries, folder)
    return folder


def _check_directory(file: BufferedReader) -> None:
    """Checks the size of the archive's directory, which is read into memory as a whole."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - _MAX_COMMENT - _LOCATOR_64_BYTES))
    tail = file.read()
    end = tail.rfind(_END_SIGNATURE)
    if end < 0 or len(tail) - end < _END.size:
        raise _RefusedError("the archive is cut off: copy or download it again")
    entries, directory_bytes, _ = _END.unpack_from(tail, end)
    is_64_bit = tail[max(0, end - _LOCATOR_64_BYTES) : end].startswith(_LOCATOR_64_SIGNATURE)
    if is_64_bit or entries > MAX_ENTRIES or directory_bytes > MAX_DIRECTORY_BYTES:
        raise _RefusedError(f"expected a bundle of at most {MAX_ENTRIES} files, found {entries}")


def _checked(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of the archive, when names, types and sizes of all are checked."""
    entries = archive.infolist()
    for entry in entries:
        parts = entry.filename.removesuffix("/").split("/")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if len(parts) > _MAX_DEPTH or any(part in (".", "..") or not _NAME.fullmatch(part) for part in parts):
            raise _RefusedError(f"{entry.filename!r} in it is no name of a file in a folder")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _RefusedError(f"{entry.filename} in it is a link or a device: put the file itself there")
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _COMPRESSIONS:
            raise _RefusedError(f"{entry.filename} in it is encrypted or unusually compressed: use plain deflate")
    if len({entry.filename for entry in entries}) < len(entries):
        raise _RefusedError("two files in it have the same name")
    size, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if size > min(MAX_BYTES, _FREE_BYTES + MAX_RATIO * packed):
        raise _RefusedError(
            f"its {format_size(packed)} would become {format_size(size)}: at most {MAX_RATIO} times as much and "
            f"{format_size(MAX_BYTES)} are unpacked"
        )
    return [entry for entry in entries if not entry.is_dir()]


def _check_content(part: Path) -> None:
    try:
        gate.check_folder(part)
    except ModelError as error:
        raise _RefusedError(str(error).removeprefix(f"{part}/")) from None


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
            for entry in entries:
                target = part / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as content, target.open("xb") as out:
                    shutil.copyfileobj(content, out)
                    out.flush()
                    os.fsync(out.fileno())
            _check_content(part)
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        folders = [path for path in folder.parent.iterdir() if path.is_dir()]
        for old in sorted(folders, key=lambda path: path.stat().st_mtime)[:-MAX_UNPACKED]:
            shutil.rmtree(old, ignore_errors=True)
