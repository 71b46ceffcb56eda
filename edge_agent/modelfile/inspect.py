"""What a model file says of itself, read from its bytes: no runtime is imported and nothing in it is run."""

import ast
import hashlib
import json
import mmap
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.errors import ModelError

# Neither format can address more in one file.
MAX_FILE_BYTES = 2 * 1024**3
MAX_LITERAL_CHARACTERS = 256 * 1024

INTEGER_LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}
# Steps of a quantised value by which converters round the ends of a range.
ROUNDING = 2.0

Data = bytes | mmap.mmap


class DamagedError(Exception):
    """Bytes that no sound model file has; `read` turns it into a `ModelError` that names the file."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output.

    Attributes:
        name: as in the file; "" where it has none.
        shape: outermost dimension first; -1 is dynamic (a TFLite runtime begins with 1 there). `()` is a
            scalar, or a tensor whose shape the file leaves open, like those of TFLite_Detection_PostProcess.
        dtype: numpy's name, "str" for text. What numpy lacks keeps the format's own name: "bfloat16",
            "int4"; "sequence", "map", "optional" and "sparse" for ONNX values that are no tensors.
        scale: real = scale * (q - zero_point). None where the values are not quantised, where each channel
            has its own scale, and always for ONNX, which does not state how inputs and outputs are
            quantised.
        zero_point: see scale.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int = 0

    def covers(self, values: tuple[float, float]) -> bool:
        """Whether it is quantised so that its whole range is from the one value to the other, but for rounding."""
        if self.scale is None or self.dtype not in INTEGER_LIMITS:
            return False
        ends = [(limit - self.zero_point) * self.scale for limit in INTEGER_LIMITS[self.dtype]]
        return all(abs(end - value) <= ROUNDING * self.scale for end, value in zip(ends, values, strict=True))


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The facts that a model file carries.

    Attributes:
        path: the file.
        format: by the file's content, not by its ending.
        sha256: of the whole file, in hexadecimal.
        size: in bytes. Weights that an ONNX model keeps in files beside it are not counted.
        inputs: in the file's order; ONNX inputs that have a default (an initialiser) are left out.
        outputs: in the file's order.
        operators: name to number of uses in the main graph. TFLite: as in the schema ("CONV_2D"), custom
            ones by their custom name. ONNX: the type ("Conv"), outside of the runtime's own domains
            "domain.Type".
        custom_operators: those that a plain runtime may lack. TFLite: custom operators (Flex and compiled
            ones too) of all graphs. ONNX: those of the main graph whose domain is not one of ONNX Runtime's
            and which the file does not define as functions.
        output_operators: for each output the operator that computes it ("SOFTMAX", "Sigmoid"), looking
            through those that only change type or shape; "" where it cannot be told.
        version: "schema 3"; "opset 13, ir 7".
        description: what the file calls itself, or else what it was made with.
        metadata: flat facts. TFLite: text entries of the metadata (`min_runtime_version`, …), fields of the
            metadata table (`name`, `author`, …), `input0.name`, `input0.color_space`, `output1.name`, … for
            the tensors, `output1.signature` for a tensor's name in the first signature, `missing_files` for
            files that the metadata names and the archive at the end lacks. ONNX: metadata_props. Both: what
            an Ultralytics export says, each value as Python writes it.
        labels: of the first output that has any; position i is class i.
        labels_from: where the labels stand; "" without labels.
        normalization: (mean, std) of the first input, one value each or one a channel: x becomes (x - mean)
            / std before it is quantised. Pixels count from 0 to 255.
        associated_files: names in the zip archive at the end of a TFLite file.
    """

    path: Path
    format: Literal["tflite", "onnx"]
    sha256: str
    size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: Mapping[str, int]
    custom_operators: tuple[str, ...]
    output_operators: tuple[str, ...]
    version: str
    description: str
    metadata: Mapping[str, str]
    labels: tuple[str, ...] | None
    labels_from: str
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None
    associated_files: tuple[str, ...]


def read(path: Path) -> ModelFile:
    """Read what a TFLite or ONNX file says of itself; its format is told by its content.

    The file must stay as it is meanwhile: it is mapped into memory, and a file that shrinks under a mapping
    ends the process.

    Raises:
        ModelError: the file cannot be read, is damaged, is larger than 2 GiB or is something else (and what).
    """
    sha256, data = _map(path)
    try:
        if data[4:8] == b"TFL3":
            from edge_agent.modelfile import tflite

            return tflite.read(path, sha256, data)
        kind = _kind(data)
        if not kind:
            from edge_agent.modelfile import onnx

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
            # This reads every byte: a failing disk is an OSError here, and would be a signal in the mapping.
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return sha256, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ModelError(f"{path}: the model file cannot be read: {reason}") from error


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
# A zip archive is told by the names in it.
_ZIP_KINDS = (
    (b"data.pkl", "a PyTorch archive: export the model to ONNX or TFLite"),
    (b"model.weights.h5", "a Keras archive: convert it to TFLite or ONNX"),
    (b".tflite", "a zip archive with a .tflite file in it: unpack it"),
    (b".onnx", "a zip archive with an .onnx file in it: unpack it"),
)


def _kind(data: Data) -> str:
    """What a file is that is no TFLite model; "" if it may be ONNX."""
    for position, magic, kind in _KINDS:
        if data[position : position + len(magic)] == magic:
            return kind
    if data[:4] == b"PK\x03\x04":
        names = data[:4096] + data[-65536:]
        return next((kind for name, kind in _ZIP_KINDS if name in names), "a zip archive: unpack it")
    # Writers put fields in order: an ONNX file begins with field 1, a number, and that makes the byte 8.
    if data[:1] == b"\x08":
        return ""
    start = data[:256].decode("utf-8", "replace").strip()
    if start.lower().startswith(("<!doctype html", "<html")):
        return "a web page: the download did not lead to the model"
    # A character may have been cut in two at the end.
    if re.fullmatch(r"[^\x00-\x08\x0e-\x1f\x7f\ufffd]+\ufffd?", start):
        return f"text that begins with {start.splitlines()[0][:40]!r}"
    return f"unknown content (it begins with the bytes {data[:8].hex(' ')})"


# What Python's str() writes of dictionaries, lists, strings and numbers. The parser behind literal_eval would
# also take operators that nest without end, and it warns on standard error of malformed numbers and strings.
_LITERAL = re.compile(
    r"""(?:[\s\[\]{}(),:]"""
    r"""|'(?:[^'\\\n]|\\['"\\nrtxuU])*+'|"(?:[^"\\\n]|\\['"\\nrtxuU])*+\""""
    r"""|-?\d++(?:\.\d++)?+(?:e[+-]?\d++)?+(?![\w.])|(?:True|False|None)\b)*+"""
)


def embedded_facts(text: str) -> dict[str, str]:
    """The facts that an Ultralytics export writes into the model file: a mapping, as JSON or `str(dict)`.

    Values become strings as Python writes them, which is how the same facts stand in ONNX files. Text that is
    no such mapping, is longer than 256 Ki characters or nests too deeply gives no facts. The keys:
    https://github.com/ultralytics/ultralytics/blob/main/ultralytics/engine/exporter.py.
    """
    facts = _literal(text)
    return {str(key): str(value) for key, value in facts.items()} if isinstance(facts, dict) else {}


def embedded_names(text: str) -> tuple[str, ...] | None:
    """The class labels in the `names` of an Ultralytics export, `{0: 'person', 1: 'bicycle'}` or a list."""
    names = _literal(text)
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not (isinstance(names, dict) and names and all(isinstance(name, str | int) for name in names.values())):
        return None
    labels = {str(key): str(name) for key, name in names.items()}
    numbers = [str(number) for number in range(len(names))]
    return tuple(labels[number] for number in numbers) if labels.keys() == set(numbers) else None


def _literal(text: str) -> object:
    if len(text) > MAX_LITERAL_CHARACTERS:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text) if _LITERAL.fullmatch(text) else None
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    try:
        # What can be written here can be written by the callers, too.
        str(value)
    except RecursionError:
        return None
    return value
