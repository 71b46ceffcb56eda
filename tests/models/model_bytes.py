"""Small model files, written byte by byte: no runtime and no exporter is needed."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flatbuffers


@dataclass(frozen=True)
class Scalar:
    """A number in a flatbuffers table; `kind` as in the builder's methods ("Int8", "Uint32")."""

    kind: str
    value: int


@dataclass(frozen=True)
class Numbers:
    """A vector of numbers in a flatbuffers table."""

    kind: str
    values: tuple[float, ...]


BYTES_OF = {"Int32": 4, "Float32": 4, "Int64": 8, "Byte": 1}


def flatbuffer(table: Mapping[int, Any], identifier: bytes) -> bytes:
    """Fields by number: Scalar, Numbers, str, bytes, a dict (a table) or a list of dicts (their vector)."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, table), file_identifier=identifier)
    return bytes(builder.Output())


def _table(builder: Any, table: Mapping[int, Any]) -> int:
    offsets = {field: _reference(builder, value) for field, value in table.items() if not isinstance(value, Scalar)}
    builder.StartObject(max(table, default=0) + 1)
    for field, value in table.items():
        if isinstance(value, Scalar):
            getattr(builder, f"Prepend{value.kind}Slot")(field, value.value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, offsets[field], 0)
    return int(builder.EndObject())


def _reference(builder: Any, value: Any) -> int:
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, bytes):
        return int(builder.CreateByteVector(value))
    if isinstance(value, Numbers):
        size = BYTES_OF[value.kind]
        builder.StartVector(size, len(value.values), size)
        for number in reversed(value.values):
            getattr(builder, f"Prepend{value.kind}")(number)
        return int(builder.EndVector())
    if isinstance(value, dict):
        return _table(builder, value)
    offsets = [_table(builder, item) for item in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def int32s(*values: int) -> Numbers:
    return Numbers("Int32", values)


def floats(*values: float) -> Numbers:
    return Numbers("Float32", values)


def int64s(*values: int) -> Numbers:
    return Numbers("Int64", values)


def builtin(number: int) -> dict[int, Any]:
    """An OperatorCode as today's converters write it."""
    return {0: Scalar("Int8", min(number, 127)), 3: Scalar("Int32", number)}


def operator(code: int, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> dict[int, Any]:
    return {0: Scalar("Uint32", code), 1: int32s(*inputs), 2: int32s(*outputs)}


def quantized(scale: float, zero_point: int) -> dict[int, Any]:
    return {2: floats(scale), 3: int64s(zero_point)}


def tflite(**changes: Any) -> bytes:
    """A classifier of 8x8 pixels: CONV_2D, SOFTMAX, DEQUANTIZE.

    Args:
        changes: replace `tensors`, `inputs`, `outputs`, `codes`, `operators`, `metadata` (name to bytes) or
            `signatures`.
    """
    tensors = [
        {0: int32s(1, 8, 8, 3), 1: Scalar("Int8", 3), 3: "image", 4: quantized(0.0078125, 128)},
        {0: int32s(1, 3), 1: Scalar("Int8", 3), 3: "scores", 4: quantized(0.1, 3)},
        {0: int32s(1, 3), 1: Scalar("Int8", 3), 3: "softmax", 4: quantized(1 / 256, 0)},
        {0: int32s(1, 3), 1: Scalar("Int8", 0), 3: "probabilities"},
    ]
    metadata = changes.get("metadata", {})
    graph = {
        0: changes.get("tensors", tensors),
        1: int32s(*changes.get("inputs", (0,))),
        2: int32s(*changes.get("outputs", (3,))),
        3: changes.get("operators", [operator(0, (0,), (1,)), operator(1, (1,), (2,)), operator(2, (2,), (3,))]),
    }
    model = {
        0: Scalar("Uint32", 3),
        1: changes.get("codes", [builtin(3), builtin(25), builtin(6)]),
        2: [graph],
        3: "made by a test",
        4: [{}, *({0: content} for content in metadata.values())],
        6: [{0: name, 1: Scalar("Uint32", index + 1)} for index, name in enumerate(metadata)],
        7: changes.get("signatures", []),
    }
    return flatbuffer(model, b"TFL3")


def tflite_metadata(label_file: str = "labels.txt", label_type: int = 2) -> bytes:
    """A metadata table: an RGB image normalised to -1..1 goes in, scores with a label file come out."""
    content = {0: Scalar("Uint8", 2), 1: {0: Scalar("Int8", 1)}}
    normalization = {0: Scalar("Uint8", 1), 1: {0: floats(127.5), 1: floats(127.5)}}
    labels = {0: label_file, 2: Scalar("Int8", label_type)}
    graph = {
        2: [{0: "image", 3: content, 4: [normalization]}],
        3: [{0: "probability", 6: [labels]}],
    }
    table = {0: "Shapes", 1: "Tells shapes.", 2: "v7", 3: [graph], 4: "Ada", 5: "CC0"}
    return flatbuffer(table, b"M001")


def zipped(files: Mapping[str, str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F)
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A protocol buffers message of numbers, texts and inner messages."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [varint(number << 3), varint(value)]
        else:
            payload = value.encode() if isinstance(value, str) else value
            parts += [varint(number << 3 | 2), varint(len(payload)), payload]
    return b"".join(parts)


def value_info(name: str, dtype: int, *shape: int | str) -> bytes:
    """An input or output of an ONNX graph; a text is a dynamic dimension's name."""
    dimensions = [message((2 if isinstance(size, str) else 1, size)) for size in shape]
    tensor = message((1, dtype), (2, message(*((1, size) for size in dimensions))))
    return message((1, name), (2, message((1, tensor))))


def node(kind: str, inputs: tuple[str, ...], outputs: tuple[str, ...], domain: str = "") -> bytes:
    return message(*((1, name) for name in inputs), *((2, name) for name in outputs), (4, kind), (7, domain))


def onnx(
    *nodes: bytes, metadata: Mapping[str, str] | None = None, functions: tuple[bytes, ...] = (), **graph: Any
) -> bytes:
    """A classifier: Gemm with a weight that is also an input, then what `nodes` say, by default Softmax.

    Args:
        nodes: after the Gemm, whose output is "scores"; the last one's output should be "probabilities".
        metadata: metadata_props.
        functions: FunctionProto messages.
        graph: replaces the `inputs` and `outputs`.
    """
    inputs = graph.get("inputs", (value_info("image", 1, "batch", 4), value_info("weight", 1, 4, 3)))
    outputs = graph.get("outputs", (value_info("probabilities", 1, "batch", 3),))
    weight = message((1, 4), (1, 3), (2, 1), (8, "weight"), (9, bytes(4 * 4 * 3)))
    content = message(
        (1, node("Gemm", ("image", "weight"), ("scores",))),
        *((1, one) for one in nodes or [node("Softmax", ("scores",), ("probabilities",))]),
        (2, "shapes"),
        (5, weight),
        *((11, one) for one in inputs),
        *((12, one) for one in outputs),
    )
    return message(
        (1, 7),
        (2, "a test"),
        (3, "1.0"),
        (7, content),
        (8, message((1, ""), (2, 13))),
        (8, message((1, "com.microsoft"), (2, 1))),
        *((14, message((1, key), (2, text))) for key, text in (metadata or {}).items()),
        *((25, one) for one in functions),
    )
