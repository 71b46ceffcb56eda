"""Reads a Hailo Executable Format file: its header, and the protocol buffers behind it.

Sources (layouts and field numbers), https://github.com/hailo-ai/hailort: hailort/libhailort/hef.proto,
hailort/libhailort/src/hef/hef_internal.hpp. Weights and instructions are passed over. Checksums are left to the
runtime, which verifies them when it loads the file.
"""

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.modelfile import chips
from edge_agent.modelfile.facts import Compiled, DamagedError, ModelFile, Suppression, Tensor
from edge_agent.modelfile.protobuf import Content, Message, Wire, integer, real
from edge_agent.modelfile.view import View

MAGIC = b"\x01HEF"
MAX_TENSORS = 512
MAX_NAMES = 64
_COMMON = struct.Struct(">4sII")
# Version of the header -> its own part, big-endian, and which of its numbers are sizes of what follows the messages.
_HEADERS: dict[int, tuple[struct.Struct, tuple[int, ...]]] = {
    0: (struct.Struct(">I16s"), ()),  # reserved, MD5
    1: (struct.Struct(">IQI"), (1,)),  # CRC, size, reserved
    2: (struct.Struct(">QQQQ"), (1,)),  # XXH3, size, 2 reserved
    3: (struct.Struct(">QQIQQQ"), (1, 3)),  # XXH3, size with padding, padding, size, XXH3 of the messages, reserved
}
_ARCHITECTURES = dict(enumerate(["HAILO8", "HAILO8P", "HAILO8R", "HAILO8L", "HAILO15M", "HAILO10H", "HAILO15L"])) | {
    103: "HAILO15H"
}
_DATA_TYPES = {1: "uint8", 2: "uint16", 4: "float32"}
_FORMAT_FLAT, _FORMAT_ARGMAX, _FORMAT_NMS = 2, 5, 6
_BOUNDARY, _TO_HOST = 0, 1
# Fields of the outermost message, and of an operation: its pads, and what it is.
_HEADER, _NETWORK, _EXTENSION = 1, 2, 5
_INPUT_PADS, _OUTPUT_PADS, _CORE, _SUPPRESS, _LOGITS_OF = 2, 3, 4, 5, 6
_UINT16 = 2
_LAYER_INFO, _LAYER_MUX, _LAYER_PLANES = 3, 4, 8
_MAX_MUX_DEPTH = 4
_SUPPRESSIONS = {7: "yolov5", 8: "yolox", 9: "ssd", 10: "iou", 11: "yolov5-seg", 12: "yolov8"}
_LOGITS = {0: "argmax", 1: "softmax"}
# Numbers of a box: four coordinates and a score.
_BOX_NUMBERS = 5
_MAX_NUMBERS = 1 << 28


@dataclass(frozen=True, slots=True)
class _Layer:
    """An input or output of the chip.

    Attributes:
        stored: as it is on the chip, with a batch of 1.
        is_input: whether it goes in.
        pad: number by which operations on the CPU refer to it; -1 if none does.
        suppression: that the chip itself does.
    """

    stored: Tensor
    is_input: bool
    pad: int = -1
    suppression: Suppression | None = None


def read(path: Path, sha256: str, data: View) -> ModelFile:
    """Reads the facts of a HEF file.

    The inputs are what the runtime takes without conversion: pixels of type uint8, height x width x channels. The
    outputs are what it gives as float32. With non-maximum suppression by class, these are for each class the number of
    boxes, and room for the boxes: y_min, x_min, y_max, x_max from 0 to 1, and the score.

    Raises:
        DamagedError: it is cut off, or a message is invalid.
    """
    header_version, messages = _messages(data)
    wire = Wire(fixed=True)
    header: Message = {}
    groups: list[Message] = []
    layers: list[_Layer] = []
    outputs: list[Tensor] = []
    suppressions: list[Suppression] = []
    computed: list[str] = []
    extensions: list[str] = []
    for number, value in wire.fields(messages):
        if isinstance(value, int):
            continue
        if number == _HEADER:
            header = wire.message(value)
        elif number == _NETWORK and not groups:
            groups.append(wire.message(value))
            group = _Group(wire, value)
            layers, outputs = group.layers, group.outputs
            suppressions, computed = group.suppressions, group.computed
        elif number == _EXTENSION and len(extensions) < MAX_NAMES:
            extensions.append(wire.text(wire.message(value), 2))
    if not header or not groups:
        raise DamagedError("it has no header or no network in it")
    architecture = integer(header, 1)
    target = _ARCHITECTURES.get(architecture, f"architecture {architecture}")
    inputs = tuple(layer.stored for layer in layers if layer.is_input)
    compiler = _compiler(wire, header)
    facts = {
        "network": wire.text(groups[0], 10) or wire.text(wire.inner(groups[0], 1), 1),
        "compiled_at": _date(integer(header, 2)),
        "computed_on_cpu": ", ".join(computed),
        "extensions": ", ".join(filter(None, extensions)),
    }
    return ModelFile(
        path=path,
        format="hef",
        sha256=sha256,
        size=len(data),
        inputs=tuple(Tensor(one.name, one.shape, one.dtype) for one in inputs),
        outputs=tuple(outputs),
        operators={},
        custom_operators=(),
        output_operators=tuple("" for _ in outputs),
        version=f"header {header_version}",
        description=f"compiled for {target}" + (f" with {compiler}" if compiler else ""),
        metadata={key: fact for key, fact in facts.items() if fact},
        labels=None,
        labels_from="",
        normalization=None,
        associated_files=(),
        compiled=Compiled(
            target=target,
            chips=chips.that_load(target),
            compiler=compiler,
            stored_inputs=inputs,
            stored_outputs=tuple(layer.stored for layer in layers if not layer.is_input),
            suppression=suppressions[0] if suppressions else None,
        ),
    )


def _messages(data: View) -> tuple[int, View]:
    """The version of the header, and the part with the messages."""
    if len(data) < _COMMON.size:
        raise DamagedError("it ends within its header")
    _, version, size = _COMMON.unpack(bytes(data[: _COMMON.size]))
    if version not in _HEADERS:
        raise DamagedError(f"its header has version {version}, and 0 to {max(_HEADERS)} are known")
    layout, sizes = _HEADERS[version]
    start = _COMMON.size + layout.size
    if len(data) < start:
        raise DamagedError("it ends within its header")
    own = layout.unpack(bytes(data[_COMMON.size : start]))
    expected = start + size + sum(own[place] for place in sizes)
    if len(data) != expected:
        raise DamagedError(f"its header states {expected} bytes, and it has {len(data)}")
    return version, data[start : start + size]


class _Group:
    """A network: the layers at its boundary, and what is computed from them on the CPU.

    Args:
        wire: reads it.
        group: message NetworkGroup.
    """

    def __init__(self, wire: Wire, group: Content) -> None:
        self._wire = wire
        self.layers: list[_Layer] = []
        self.suppressions: list[Suppression] = []
        self.computed: list[str] = []
        given: list[Tensor] = []
        taken: set[int] = set()
        edges: dict[int, int] = {}
        for edge in _each(wire, group, 9):
            message = wire.message(edge)
            edges[integer(message, 2)] = integer(message, 1)
        operations = list(_each(wire, group, 8))
        for operation in operations:
            self._add_core(operation)
        if not operations:  # as written before operations were part of the format
            self._add_contexts(group)
        for operation in operations:
            message = wire.message(operation)
            if _SUPPRESS not in message and _LOGITS_OF not in message:
                continue
            taken |= {edges.get(integer(wire.message(pad), 1), -1) for pad in _each(wire, operation, _INPUT_PADS)}
            given += self._computed(message, operation)
        on_chip = [layer for layer in self.layers if not layer.is_input and (layer.pad < 0 or layer.pad not in taken)]
        self.outputs = [*map(self._given, on_chip), *given]

    def _add_core(self, operation: Content) -> None:
        """Adds the layers of what runs on the chip."""
        core = self._wire.message(operation).get(_CORE)
        if core is None or isinstance(core, int):
            return
        self._add_contexts(core)
        if not self.layers:
            # What has no contexts of its own has them for each layout of the chip; all have the same boundary.
            for partial in itertools.islice(_each(self._wire, core, 7), 1):
                inner = self._wire.message(partial).get(1)
                if inner is not None and not isinstance(inner, int):
                    self._add_contexts(inner)
        if not self.layers:
            self._add_pads(operation)

    def _add_contexts(self, core: Content) -> None:
        for context in _each(self._wire, core, 3):
            metadata = self._wire.message(context).get(3)
            if metadata is not None and not isinstance(metadata, int):
                for layer in _each(self._wire, metadata, 2):
                    self._add_edge(self._wire.message(layer))

    def _add_edge(self, edge: Message) -> None:
        if integer(self._wire.inner(edge, 5), 3) != _BOUNDARY:
            return
        is_input, pad = integer(edge, 1) != _TO_HOST, integer(edge, 7, -1)
        for number in (_LAYER_INFO, _LAYER_MUX, _LAYER_PLANES):
            value = edge.get(number)
            if value is not None and not isinstance(value, int):
                for layer in self._layers(number, value, is_input=is_input, pad=pad, depth=0):
                    self._add(layer)

    def _layers(self, kind: int, value: Content, *, is_input: bool, pad: int, depth: int) -> Iterator[_Layer]:
        """The layers that one stream consists of."""
        message = self._wire.message(value)
        name = self._wire.text(message, 1)
        if kind == _LAYER_PLANES:
            yield _Layer(_tensor(name, (integer(message, 4), integer(message, 5), integer(message, 6)), 1), is_input)
        elif kind == _LAYER_MUX:
            if depth == _MAX_MUX_DEPTH:
                raise DamagedError(f"its outputs are nested more than {_MAX_MUX_DEPTH} deep")
            for part in _each(self._wire, value, 5):
                for number, inner in self._wire.message(part).items():
                    if number in (1, 2, 3) and not isinstance(inner, int):
                        kind = (_LAYER_INFO, _LAYER_MUX, _LAYER_PLANES)[number - 1]
                        yield from self._layers(kind, inner, is_input=is_input, pad=-1, depth=depth + 1)
        else:
            yield self._layer(message, name, is_input=is_input, pad=pad)

    def _layer(self, message: Message, name: str, *, is_input: bool, pad: int) -> _Layer:
        base = self._wire.inner(message, 2)
        form, width = integer(base, 7), integer(base, 12, 1)
        scale, zero_point = _quantisation(self._wire.inner(message, 3))
        if form == _FORMAT_NMS:
            nms = self._wire.inner(self._wire.inner(base, 11), 1)
            most = integer(nms, 3) * max(1, integer(nms, 7))
            found = Suppression("", integer(nms, 2), most)
            stored = Tensor(name, (1, found.classes, _BOX_NUMBERS, most), _DATA_TYPES.get(width, "uint16"))
            return _Layer(stored, is_input, pad, found)
        height, columns, features = integer(base, 1), integer(base, 3), integer(base, 5)
        if integer(message, 6) and form != _FORMAT_FLAT:
            height, columns = columns, height
        shape: tuple[int, ...] = (height, columns, features)
        if form == _FORMAT_FLAT and (height, columns) == (1, 1):
            shape = (features,)
        elif form == _FORMAT_ARGMAX:
            shape = (height, columns)
        return _Layer(_tensor(name, shape, width, scale, zero_point), is_input, pad)

    def _add_pads(self, operation: Content) -> None:
        """Adds the layers as the interface of the operation states them."""
        for number in (_INPUT_PADS, _OUTPUT_PADS):
            for value in _each(self._wire, operation, number):
                pad = self._wire.message(value)
                shape = self._wire.inner(pad, 6)
                sides = (integer(shape, 1), integer(shape, 3), integer(shape, 5))
                width = 2 if integer(pad, 8) == _UINT16 or (not integer(pad, 8) and integer(pad, 4) == 1) else 1
                stored = _tensor(self._wire.text(pad, 2), sides, width, *_quantisation(self._wire.inner(pad, 5)))
                self._add(_Layer(stored, number == _INPUT_PADS, integer(pad, 1)))

    def _add(self, layer: _Layer) -> None:
        if len(self.layers) == MAX_TENSORS:
            raise DamagedError(f"it has more than {MAX_TENSORS} inputs and outputs")
        self.layers.append(layer)

    def _computed(self, message: Message, operation: Content) -> list[Tensor]:
        """The outputs of an operation that the runtime does on the CPU."""
        pads = [
            self._wire.message(pad) for pad in itertools.islice(_each(self._wire, operation, _OUTPUT_PADS), MAX_TENSORS)
        ]
        if _SUPPRESS in message:
            nms = self._wire.inner(message, _SUPPRESS)
            kind = next((name for number, name in _SUPPRESSIONS.items() if number in nms), "")
            found = Suppression(kind, integer(nms, 4), integer(nms, 3), real(nms, 1, 0.0), real(nms, 2, 0.0))
            if not integer(nms, 13):  # boxes are decoded, and the weaker ones are left in
                self.suppressions.append(found)
                return [_by_class(self._wire.text(pad, 2), found) for pad in pads]
            self.computed.append(f"boxes of {kind}")
        else:
            kind = _LOGITS.get(integer(self._wire.inner(message, _LOGITS_OF), 1), "logits")
            self.computed.append(kind)
        return [Tensor(self._wire.text(pad, 2), self._sides(pad), "float32") for pad in pads]

    def _sides(self, pad: Message) -> tuple[int, ...]:
        shape = self._wire.inner(pad, 6)
        return 1, integer(shape, 1), integer(shape, 3), integer(shape, 5)

    def _given(self, layer: _Layer) -> Tensor:
        """An output of the chip as the runtime gives it."""
        if layer.suppression is not None:
            self.suppressions.append(layer.suppression)
            return _by_class(layer.stored.name, layer.suppression)
        return Tensor(layer.stored.name, layer.stored.shape, "float32")


def _each(wire: Wire, message: Content, number: int) -> Iterator[Content]:
    """The messages in a repeated field."""
    for found, value in wire.fields(message):
        if found == number and not isinstance(value, int):
            yield value


def _tensor(name: str, sides: tuple[int, ...], width: int, scale: float | None = None, zero_point: int = 0) -> Tensor:
    return Tensor(name, (1, *sides), _DATA_TYPES.get(width, "uint8"), scale, zero_point)


def _by_class(name: str, found: Suppression) -> Tensor:
    numbers = found.classes * (1 + _BOX_NUMBERS * found.max_per_class)
    if not 0 < numbers < _MAX_NUMBERS:
        raise DamagedError(f"its suppression gives {found.max_per_class} boxes for each of {found.classes} classes")
    return Tensor(name, (1, numbers), "float32")


def _quantisation(info: Message) -> tuple[float | None, int]:
    """Scale and zero point of all channels; (None, 0) where each has its own, or there are none."""
    scale, zero_point = real(info, 2), real(info, 1, 0.0)
    return (scale, round(zero_point or 0.0)) if scale and abs(zero_point or 0.0) < 1 << 31 else (None, 0)


def _compiler(wire: Wire, header: Message) -> str:
    numbers = wire.inner(header, 5)
    version = wire.text(header, 3) or ".".join(str(integer(numbers, place)) for place in (1, 2, 3) if numbers)
    return f"Dataflow Compiler {version}" if version else ""


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat() if seconds > 0 else ""
    except (OverflowError, ValueError, OSError):
        return ""
