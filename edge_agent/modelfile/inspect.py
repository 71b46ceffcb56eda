"""Reads the facts of a model file from its bytes: no runtime is imported, and the model is not run."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BufferedReader
from pathlib import Path

from edge_agent.errors import ModelError
from edge_agent.modelfile import gate, hef, onnx, rknn, rpk, tflite
from edge_agent.modelfile.facts import DamagedError, ModelFile
from edge_agent.modelfile.identity import NamedFile
from edge_agent.modelfile.onnx_files import NamedFiles
from edge_agent.modelfile.view import View
from edge_agent.system.regular_file import open_regular
from edge_agent.system.text import decode_lenient

# Formats that are for chips alone, by how they begin.
_COMPILED = {hef.MAGIC: hef.read, rknn.MAGIC: rknn.read, rpk.MAGIC: rpk.read}
# Neither TFLite nor ONNX can address more in one file.
MAX_FILE_BYTES = 2 * 1024**3


def read(path: Path) -> ModelFile:
    """Reads the facts that a model file carries; the format is detected from the content.

    The file is read, never mapped into memory: truncating a mapped file ends the process.

    Raises:
        ModelError: the file cannot be read, is damaged, is larger than 2 GiB, has another format, which is named, or
            names files that it must not name.
    """
    with _opened(path) as (file, size):
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        data = View.of(file.fileno(), size)
        if bytes(data[4:8]) == b"TFL3":
            return tflite.read(path, sha256, data, file)
        if compiled := _COMPILED.get(bytes(data[:4])):
            return compiled(path, sha256, data)
        if kind := _kind(data):
            raise ModelError(f"{path}: expected a TFLite or ONNX model, found {kind}")
        return replace(onnx.read(path, sha256, data), named_files=_named_files(path, data))


def named_files(path: Path) -> tuple[NamedFile, ...]:
    """The other files that an ONNX file names, whatever else it may be.

    Raises:
        ModelError: it cannot be read, or names files that it must not name.
    """
    with _opened(path) as (file, size):
        return _named_files(path, View.of(file.fileno(), size))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """A model file, open for reading, and its size.

    Raises:
        ModelError: it can't be a model file, or is changed meanwhile.
    """
    try:
        if path.is_dir():
            kind = "a folder: name the model file in it"
            if (path / "saved_model.pb").exists():
                kind = "a SavedModel folder: convert it to TFLite or ONNX"
            raise ModelError(f"{path}: expected a TFLite or ONNX model, found {kind}")
        if not path.is_file() and path.exists():
            raise ModelError(f"{path}: expected a TFLite or ONNX model, found a device or a pipe")
        with open_regular(path) as file:
            before = os.fstat(file.fileno())
            if not before.st_size:
                raise ModelError(f"{path}: the model file is empty: copy or download it again")
            if before.st_size > MAX_FILE_BYTES:
                size = before.st_size / 1024**3
                raise ModelError(f"{path}: expected a model file of at most 2 GiB, found {size:.1f} GiB")
            try:
                yield file, before.st_size
            except DamagedError as error:
                raise ModelError(f"{path}: the model file is damaged: {error}: copy or download it again") from error
            after = os.fstat(file.fileno())
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise ModelError(f"{path}: the model file is being written: try again when that is done")
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ModelError(f"{path}: the model file cannot be read: {reason}") from error


def _named_files(path: Path, data: View) -> tuple[NamedFile, ...]:
    named = NamedFiles(data)
    return (
        *(_named(path, name, compiled=False) for name in sorted(named.weights)),
        *(_named(path, name, compiled=True) for name in sorted(named.compiled)),
    )


def _named(path: Path, name: str, *, compiled: bool) -> NamedFile:
    """A file that a model file names.

    Raises:
        ModelError: it must not name it, or it is not there.
    """
    what = "a part that is compiled for an accelerator" if compiled else "weights"
    try:
        found = gate.inside(path.parent, name)
        gate.check_file(found)
        with open_regular(found) as file:
            return NamedFile(name, hashlib.file_digest(file, "sha256").hexdigest(), found.stat().st_size, compiled)
    except ModelError as error:
        hint = "" if os.path.lexists(path.parent / name) else ": copy it into the folder of the model file"
        raise ModelError(f"{path}: keeps {what} in another file, {error}{hint}") from None


# Where the bytes stand, the bytes, and what such a file is and needs.
_KINDS = (
    (0, b"version https://git-lfs", "a Git LFS pointer file, not the model itself: run `git lfs pull`"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"BM", "a BMP image"),
    (0, b"RIFF", "a WebP, WAV or AVI file"),
    (4, b"ftyp", "an MP4 or HEIF file"),
    (0, b"\x89HDF", "a Keras HDF5 file: convert it to TFLite or ONNX"),
    (0, b"GGUF", "a GGUF language model: language models run from an ONNX Runtime GenAI folder"),
    (0, b"LITERTLM", "a LiteRT-LM language model: language models run from an ONNX Runtime GenAI folder"),
    (4, b"ORTM", "an ONNX Runtime .ort file: use the .onnx file that it was made from"),
    (8, b'{"', "a safetensors file, which holds no graph: export the model to ONNX or TFLite"),
    (0, b"\x80\x02", "a Python pickle, as PyTorch writes them: export the model to ONNX or TFLite"),
    (0, b"\x80\x04", "a Python pickle: export the model to ONNX or TFLite"),
    (0, b"\x7fELF", "a program or library (an Edge Impulse .eim is one): export the model as TFLite"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it"),
    (0, b"\xfd7zXZ", "an xz archive: unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive: unpack it"),
    (0, b"BZh", "a bzip2 archive: unpack it"),
    (257, b"ustar", "a tar archive: unpack it"),
)
# A zip archive is recognised by the names in it.
_ZIP_KINDS = (
    (b"data.pkl", "a PyTorch archive: export the model to ONNX or TFLite"),
    (b"model.weights.h5", "a Keras archive: convert it to TFLite or ONNX"),
    (b".tflite", "a zip archive with a .tflite file in it: unpack it"),
    (b".onnx", "a zip archive with an .onnx file in it: unpack it"),
)


def _kind(data: View) -> str:
    """What kind of file it is if it is no TFLite model; "" if it may be ONNX."""
    begin = bytes(data[:4096])
    for position, magic, kind in _KINDS:
        if begin[position : position + len(magic)] == magic:
            return kind
    if begin[:4] == b"PK\x03\x04":
        names = begin + bytes(data[-65536:])
        return next((kind for name, kind in _ZIP_KINDS if name in names), "a zip archive: unpack it")
    # Writers put fields in order: an ONNX file begins with field 1, a number, and that makes the byte 8.
    if begin[:1] == b"\x08":
        return ""
    start = decode_lenient(begin[:256]).strip()
    if start.lower().startswith(("<!doctype html", "<html")):
        return "a web page: the download did not lead to the model"
    # A character may have been cut in two at the end.
    if re.fullmatch(r"[^\x00-\x08\x0e-\x1f\x7f\ufffd]+\ufffd?", start):
        return f"text that begins with {start.splitlines()[0][:40]!r}"
    return f"unknown content (it begins with the bytes {begin[:8].hex(' ')})"
