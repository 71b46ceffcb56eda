"""Reads an ONNX file: the wire format of protocol buffers, and the ONNX messages with the facts of a model.

Sources: https://protobuf.dev/programming-guides/encoding and
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from collections import Counter
from pathlib import Path

from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import DamagedError, ModelFile, Tensor, embedded_names
from edge_agent.modelfile.protobuf import Content, Message, Wire, integer
from edge_agent.modelfile.view import View
from edge_agent.system.text import lines

MAX_RANK = 64

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
# Classifiers of tables, and what makes maps of their scores: an attribute has the labels, in the order of the scores.
_LABELLED = ("ZipMap", "LinearClassifier", "TreeEnsembleClassifier", "SVMClassifier")
_LABEL_ATTRIBUTES = ("classlabels_int64s", "classlabels_strings", "classlabels_ints")
# These change only the type or the shape of another operator's output.
_CHANGE_TYPE = {"Identity", "Cast", "DequantizeLinear", "QuantizeLinear"}
_SEEN_THROUGH = _CHANGE_TYPE | {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}


def read(path: Path, sha256: str, data: View) -> ModelFile:
    """Read the facts of an ONNX file; the weights are passed over.

    Raises:
        DamagedError: a message ends early or is invalid.
        ModelError: the file is made of protocol buffers, but has no graph.
    """
    wire = Wire()
    model: Message = {}
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    functions: set[str] = set()
    for number, value in wire.fields(data):
        match number, value:
            case 8, View() | memoryview():  # opset_import
                opset = wire.message(value)
                opsets[_domain(wire.text(opset, 1))] = integer(opset, 2)
            case 14, View() | memoryview():  # metadata_props
                entry = wire.message(value)
                metadata[wire.text(entry, 1)] = wire.text(entry, 2)
            case 25, View() | memoryview():  # functions
                function = wire.message(value)
                functions.add(_operator(wire.text(function, 10), wire.text(function, 1)))
            case _:
                model[number] = value
    content = model.get(7)
    if not isinstance(content, View | memoryview):
        raise ModelError(
            f"{path}: expected a TFLite or ONNX model, found protocol buffers without an ONNX graph "
            "(saved_model.pb and Core ML files are such): export the model to ONNX or TFLite"
        )
    graph = _Graph(wire, content)
    version = f"ir {integer(model, 1)}"
    labels, labels_from = embedded_names(metadata.get("names", "")), "`names` in the file's metadata"
    if not labels and "character" in metadata:  # RapidOCR's exports of PP-OCR
        labels, labels_from = tuple(lines(metadata["character"])), "`character` in the file's metadata"
    if not labels:
        labels, labels_from = graph.class_labels()
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
        labels_from=labels_from if labels else "",
        normalization=None,
        associated_files=(),
    )


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _operator(domain: str, kind: str) -> str:
    return kind if _domain(domain) in _OWN_DOMAINS else f"{domain}.{kind}"


class _Graph:
    """The main graph (GraphProto). Those inside of If, Loop and Scan are in attributes, and are not read."""

    def __init__(self, wire: Wire, content: Content) -> None:
        self.name = ""
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.operators: Counter[str] = Counter()
        self.defaults: set[str] = set()
        # Name of a value -> the operator that computes it, and the first input of that operator.
        self._producers: dict[str, tuple[str, str]] = {}
        # Operator -> the labels in its attributes.
        self._labels: dict[str, tuple[int | str, ...]] = {}
        for number, value in wire.fields(content):
            match number, value:
                case 1, View() | memoryview():
                    self._add_node(wire, value)
                case 2, View() | memoryview():
                    self.name = wire.string(value)
                case 5, View() | memoryview():
                    self.defaults.add(wire.first_text(value, 8))
                case 11, View() | memoryview():
                    self.inputs.append(_tensor(wire, value))
                case 12, View() | memoryview():
                    self.outputs.append(_tensor(wire, value))
                case 15, View() | memoryview():  # A sparse default bears the name of its values, field 1.
                    self.defaults.add(wire.text(wire.inner(wire.message(value), 1), 8))

    def _add_node(self, wire: Wire, content: Content) -> None:
        node: Message = {}
        first_input = None
        outputs = []
        labels: tuple[int | str, ...] = ()
        for number, value in wire.fields(content):
            match number, value:
                case 5, View() | memoryview():
                    if wire.first_text(value, 1) in _LABEL_ATTRIBUTES:
                        labels = labels or _labels(wire, value)
                case 1, View() | memoryview():
                    first_input = wire.string(value) if first_input is None else first_input
                case 2, View() | memoryview():
                    outputs.append(wire.string(value))
                case _:
                    node[number] = value
        operator = _operator(wire.text(node, 7), wire.text(node, 4))
        self.operators[operator] += 1
        if operator in _LABELLED:
            self._labels.setdefault(operator, labels)
        for output in outputs:
            self._producers[output] = (operator, first_input or "")

    def class_labels(self) -> tuple[tuple[str, ...] | None, str]:
        """The labels of a classifier's scores, in their order, and where they were found."""
        found = next((name for name in _LABELLED if self._labels.get(name)), None)
        if found is None:
            return None, ""
        # The runtime gives the entries of a map in the order of their keys.
        labels = sorted(self._labels[found], key=_key) if found == "ZipMap" else self._labels[found]
        return tuple(str(label) for label in labels), f"of {found} in the file"

    def computed_by(self, name: str) -> str:
        """The operator that computes a value, looking through those that only change type or shape; "" for none."""
        for _ in range(64):  # A damaged graph may have a cycle.
            operator, name = self._producers.get(name, ("", ""))
            if operator not in _SEEN_THROUGH:
                return operator
        return ""


def _key(label: int | str) -> tuple[int, str]:
    return (label, "") if isinstance(label, int) else (0, label)


def _labels(wire: Wire, content: Content) -> tuple[int | str, ...]:
    """The whole numbers or texts of an AttributeProto."""
    found: list[int | str] = []
    for number, value in wire.fields(content):
        match number, value:
            case 8, int():
                found.append(value - 2**64 if value >> 63 else value)
            case 9, View() | memoryview():
                found.append(wire.string(value))
    return tuple(found)


def _tensor(wire: Wire, content: Content) -> Tensor:
    """A ValueInfoProto."""
    info = wire.message(content)
    kind = wire.inner(info, 2)
    other = next((name for number, name in _OTHER_TYPES.items() if number in kind), "")
    tensor = wire.inner(kind, 1)
    elements = integer(tensor, 1)
    dtype = other or _DTYPES.get(elements, f"type{elements}")
    shape = []
    dimensions = tensor.get(2)
    if isinstance(dimensions, View | memoryview):
        for number, value in wire.fields(dimensions):
            if number == 1 and isinstance(value, View | memoryview):
                # dim_value; a name (dim_param) or nothing at all is a dynamic one.
                shape.append(max(integer(wire.message(value), 1, default=-1), -1))
    name = wire.text(info, 1)
    if len(shape) > MAX_RANK:
        raise DamagedError(f"{name!r} has {len(shape)} dimensions")
    return Tensor(name, tuple(shape), dtype)
