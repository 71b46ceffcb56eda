"""Reads the facts of a model file from its bytes: no runtime is imported, and the model is not run."""

import hashlib
import mmap
import re
import stat
from pathlib import Path

from edge_agent.errors import ModelError
from edge_agent.modelfile import onnx, tflite
from edge_agent.modelfile.facts import DamagedError, Data, ModelFile
from edge_agent.system.text import decode_lenient

# Neither format can address more in one file.
MAX_FILE_BYTES = 2 * 1024**3


def read(path: Path) -> ModelFile:
    """Reads the facts that a TFLite or ONNX file carries; the format is detected from the content.

    The file must not change meanwhile: it is mapped into memory, and truncating a mapped file ends the process.

    Raises:
        ModelError: the file cannot be read, is damaged, is larger than 2 GiB, or has another format, which is named.
    """
    sha256, data = _map(path)
    try:
        if data[4:8] == b"TFL3":
            return tflite.read(path, sha256, data)
        kind = _kind(data)
        if not kind:
            return onnx.read(path, sha256, data)
    except DamagedError as error:
        raise ModelError(f"{path}: the model file is damaged: {error}: copy or download it again") from error
    raise ModelError(f"{path}: expected a TFLite or ONNX model, found {kind}")


def _map(path: Path) -> tuple[str, Data]:
    """The sha256 and the content of a file."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            kind = "a folder: name the model file in it"
            if (path / "saved_model.pb").exists():
                kind = "a SavedModel folder: convert it to TFLite or ONNX"
            raise ModelError(f"{path}: expected a TFLite or ONNX model, found {kind}")
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path}: expected a TFLite or ONNX model, found a device or a pipe")
        if not status.st_size:
            raise ModelError(f"{path}: the model file is empty: copy or download it again")
        if status.st_size > MAX_FILE_BYTES:
            size = status.st_size / 1024**3
            raise ModelError(f"{path}: expected a model file of at most 2 GiB, found {size:.1f} GiB")
        with path.open("rb") as file:
            # This reads every byte: a failing disk raises OSError here, and would be a signal in the mapping.
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return sha256, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ModelError(f"{path}: the model file cannot be read: {reason}") from error


# Position of the bytes, the bytes, and what such a file is and needs.
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


def _kind(data: Data) -> str:
    """What kind of file it is if it is no TFLite model; "" if it may be ONNX."""
    for position, magic, kind in _KINDS:
        if data[position : position + len(magic)] == magic:
            return kind
    if data[:4] == b"PK\x03\x04":
        names = data[:4096] + data[-65536:]
        return next((kind for name, kind in _ZIP_KINDS if name in names), "a zip archive: unpack it")
    # Writers put fields in order: an ONNX file begins with field 1, a number, and that makes the byte 8.
    if data[:1] == b"\x08":
        return ""
    start = decode_lenient(data[:256]).strip()
    if start.lower().startswith(("<!doctype html", "<html")):
        return "a web page: the download did not lead to the model"
    # A character may have been cut in two at the end.
    if re.fullmatch(r"[^\x00-\x08\x0e-\x1f\x7f\ufffd]+\ufffd?", start):
        return f"text that begins with {start.splitlines()[0][:40]!r}"
    return f"unknown content (it begins with the bytes {data[:8].hex(' ')})"
