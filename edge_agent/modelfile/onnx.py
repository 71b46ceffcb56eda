"""Reads an ONNX file: the wire format of protocol buffers, and the ONNX messages with the facts of a model.

Sources: https://protobuf.dev/programming-guides/encoding and
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import DamagedError, Data, ModelFile, Tensor, embedded_names

# Besides its weights, a large model has some hundred thousand fields and a few megabytes of names.
MAX_FIELDS = 2_000_000
MAX_TEXT_BYTES = 64 * 1024**2
MAX_RANK = 64
# No message of ONNX has fields of higher numbers.
MAX_FIELD_NUMBER = 31

# TensorProto.DataType in the order of its numbers.
_DTYPE_NAMES = """
    undefined float32 uint8 int8 uint16 int16 int32 int64 str bool float16 float64 uint32 uint64 complex64
    complex128 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz uint4 int4 float4_e2m1fn
    float8_e8m0fnu uint2 int2
"""
_DTYPES = dict(enumerate(_DTYPE_NAMES.split()))
# The fields of TypeProto for values that are no dense tensors.
_OTHER_TYPES = {4: "sequence", 5: "map", 7: "opaque", 8: "sparse", 9: "optional"}
# The domains whose operators ONNX Runtime has built in; "" is the main one.
_ONNX_DOMAINS = {"", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"}
_OWN_DOMAINS = _ONNX_DOMAINS | {"com.microsoft", "com.microsoft.nchwc"}
# These change only the type or the shape of another operator's output.
_CHANGE_TYPE = {"Identity", "Cast", "DequantizeLinear", "QuantizeLinear"}
_SEEN_THROUGH = _CHANGE_TYPE | {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}

Message = dict[int, int | memoryview]


def read(path: Path, sha256: str, data: Data) -> ModelFile:
    """Reads the facts of an ONNX file; the weights are skipped.

    Args:
        path: the file.
        sha256: of its content.
        data: its content.

    Raises:
        DamagedError: a message ends early or is invalid.
        ModelError: the file is made of protocol buffers, but has no graph.
    """
    wire = _Wire()
    model: Message = {}
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    functions: set[str] = set()
    for number, value in wire.fields(memoryview(data)):
        match number, value:
            case 8, memoryview():  # opset_import
                opset = wire.message(value)
                opsets[_domain(wire.text(opset, 1))] = _integer(opset, 2)
            case 14, memoryview():  # metadata_props
                entry = wire.message(value)
                metadata[wire.text(entry, 1)] = wire.text(entry, 2)
            case 25, memoryview():  # functions
                function = wire.message(value)
                functions.add(_operator(wire.text(function, 10), wire.text(function, 1)))
            case _:
                model[number] = value
    content = model.get(7)
    if not isinstance(content, memoryview):
        raise ModelError(
            f"{path}: expected a TFLite or ONNX model, found protocol buffers without an ONNX graph "
            "(saved_model.pb and Core ML files are such): export the model to ONNX or TFLite"
        )
    graph = _Graph(wire, content)
    version = f"ir {_integer(model, 1)}"
    labels = embedded_names(metadata.get("names", ""))
    producer = f"{wire.text(model, 2)} {wire.text(model, 3)}".strip()
    made_with = f"{graph.name} (made with {producer})" if producer else graph.name
    return ModelFile(
        path=path,
        format="onnx",
        sha256=sha256,
        size=len(data),
        inputs=tuple(tensor for tensor in graph.inputs if tensor.name not in graph.defaults),
        outputs=tuple(graph.outputs),
        operators=dict(graph.operators),
        custom_operators=tuple(name for name in graph.operators if "." in name and name not in functions),
        output_operators=tuple(graph.computed_by(tensor.name) for tensor in graph.outputs),
        version=f"opset {opsets['']}, {version}" if "" in opsets else version,
        description=metadata.get("description") or wire.text(model, 6) or made_with,
        metadata=metadata,
        labels=labels,
        labels_from="`names` in the file's metadata" if labels else "",
        normalization=None,
        associated_files=(),
    )


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _operator(domain: str, kind: str) -> str:
    return kind if _domain(domain) in _OWN_DOMAINS else f"{domain}.{kind}"


class _Graph:
    """The main graph (GraphProto). Those inside of If, Loop and Scan are in attributes, and are not read."""

    def __init__(self, wire: "_Wire", content: memoryview) -> None:
        self.name = ""
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.operators: Counter[str] = Counter()
        self.defaults: set[str] = set()
        # Name of a value -> the operator that computes it, and the first input of that operator.
        self._producers: dict[str, tuple[str, str]] = {}
        for number, value in wire.fields(content):
            match number, value:
                case 1, memoryview():
                    self._add_node(wire, value)
                case 2, memoryview():
                    self.name = wire.string(value)
                case 5, memoryview():
                    self.defaults.add(wire.first_text(value, 8))
                case 11, memoryview():
                    self.inputs.append(_tensor(wire, value))
                case 12, memoryview():
                    self.outputs.append(_tensor(wire, value))
                case 15, memoryview():  # The name of a sparse default is that of its values, field 1.
                    self.defaults.add(wire.text(wire.inner(wire.message(value), 1), 8))

    def _add_node(self, wire: "_Wire", content: memoryview) -> None:
        node: Message = {}
        first_input = None
        outputs = []
        for number, value in wire.fields(content):
            match number, value:
                case 1, memoryview():
                    first_input = wire.string(value) if first_input is None else first_input
                case 2, memoryview():
                    outputs.append(wire.string(value))
                case _:
                    node[number] = value
        operator = _operator(wire.text(node, 7), wire.text(node, 4))
        self.operators[operator] += 1
        for output in outputs:
            self._producers[output] = (operator, first_input or "")

    def computed_by(self, name: str) -> str:
        """The operator that computes a value, looking through those that only change type or shape; "" for none."""
        for _ in range(64):  # A damaged graph may have a cycle.
            operator, name = self._producers.get(name, ("", ""))
            if operator not in _SEEN_THROUGH:
                return operator
        return ""


def _tensor(wire: "_Wire", content: memoryview) -> Tensor:
    """A ValueInfoProto."""
    info = wire.message(content)
    kind = wire.inner(info, 2)
    other = next((name for number, name in _OTHER_TYPES.items() if number in kind), "")
    tensor = wire.inner(kind, 1)
    elements = _integer(tensor, 1)
    dtype = other or _DTYPES.get(elements, f"type{elements}")
    shape = []
    dimensions = tensor.get(2)
    if isinstance(dimensions, memoryview):
        for number, value in wire.fields(dimensions):
            if number == 1 and isinstance(value, memoryview):
                # dim_value; a name (dim_param) or nothing is a dynamic size.
                shape.append(max(_integer(wire.message(value), 1, default=-1), -1))
    name = wire.text(info, 1)
    if len(shape) > MAX_RANK:
        raise DamagedError(f"{name!r} has {len(shape)} dimensions")
    return Tensor(name, tuple(shape), dtype)


def _integer(message: Message, number: int, default: int = 0) -> int:
    """A signed 64-bit field."""
    value = message.get(number)
    if not isinstance(value, int):
        return default
    return value - 2**64 if value >> 63 else value


_VARINT = 0
_LENGTH_DELIMITED = 2
_FIXED_BYTES = {1: 8, 5: 4}


class _Wire:
    """Reads messages, up to a number of fields and an amount of text that bound a whole file."""

    def __init__(self) -> None:
        self._fields_left = MAX_FIELDS
        self._text_left = MAX_TEXT_BYTES

    def fields(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """The fields of a message, as number and value; fields of fixed size are skipped."""
        position = 0
        while position < len(message):
            self._fields_left -= 1
            if self._fields_left < 0:
                raise DamagedError(f"it has more than {MAX_FIELDS} fields")
            key, position = _varint(message, position)
            number, wire_type = key >> 3, key & 7
            value: int | memoryview | None = None
            if wire_type == _VARINT:
                value, position = _varint(message, position)
            elif wire_type == _LENGTH_DELIMITED:
                length, position = _varint(message, position)
                value = message[position : position + length]
                position += length
            elif wire_type in _FIXED_BYTES:
                position += _FIXED_BYTES[wire_type]
            else:
                raise DamagedError(f"a field has the wire type {wire_type}, which ONNX does not use")
            if number == 0 or position > len(message):
                raise DamagedError(f"a message ends within its field {number}")
            if value is not None and number <= MAX_FIELD_NUMBER:
                yield number, value

    def message(self, content: memoryview) -> Message:
        """A message without repeated fields; of a repeated one the last value is kept."""
        return dict(self.fields(content))

    def inner(self, message: Message, number: int) -> Message:
        """The message in a field, empty where the field is absent."""
        value = message.get(number)
        return self.message(value) if isinstance(value, memoryview) else {}

    def text(self, message: Message, number: int) -> str:
        """The text in a field, "" where the field is absent."""
        value = message.get(number)
        return self.string(value) if isinstance(value, memoryview) else ""

    def first_text(self, content: memoryview, number: int) -> str:
        """The text in the first field of a number; the rest of the message, such as weights, is not read."""
        for found, value in self.fields(content):
            if found == number and isinstance(value, memoryview):
                return self.string(value)
        return ""

    def string(self, content: memoryview) -> str:
        self._text_left -= len(content)
        if self._text_left < 0:
            raise DamagedError(f"it has more than {MAX_TEXT_BYTES >> 20} MiB of names and texts")
        return str(content, "utf-8", "replace")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A varint (groups of seven bits, lowest first), and the position after it."""
    value = 0
    for index, byte in enumerate(message[position : position + 10]):
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value & (2**64 - 1), position + index + 1
    raise DamagedError("a number does not end")
