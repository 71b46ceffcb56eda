"""Reads a network for the Sony IMX500: blocks for the sensor, and a cpio archive that describes them.

The format is not documented. What is read here was found in https://github.com/raspberrypi/imx500-models; the table of
inputs and outputs in the first block is the one that the sensor sends with each frame (`apParams` in the parser of
libcamera, https://github.com/raspberrypi/libcamera/tree/main/src/ipa/rpi/cam_helper/imx500_tensor_parser).
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_agent.modelfile import chips
from edge_agent.modelfile.facts import Compiled, DamagedError, ModelFile, Suppression, Tensor
from edge_agent.modelfile.flatbuffer import Table
from edge_agent.modelfile.view import View
from edge_agent.system.text import TextError, decode_lenient, lines, parse_json

MAGIC, _BLOCK_END, _ENTRY = b"9464", b"3695", b"070701"
TARGET = "IMX500"
MAX_BLOCKS = 64
MAX_ENTRIES = 64
MAX_NAME = 255
MAX_TEXT = 64 * 1024
MAX_INTRINSICS = 4 * 1024**2
MAX_TENSORS = 64
MAX_RANK = 16
MAX_LABELS = 100_000
_BLOCK_HEADER, _BLOCK_SIZE = 60, struct.Struct(">4sI")
# The table, in words with the highest byte first, and where the first block states its size.
_TABLE, _TABLE_SIZE_AT, _WORD = 0x60, 0x48, 4
_ENTRY_BYTES, _ENTRY_FIELDS, _SIZE_FIELD, _NAME_FIELD = 110, 13, 6, 11
_INFO, _INTRINSICS, _LAST = "network_info.txt", "network_intrinsics", "TRAILER!!!"
# Fields of the table's messages: of an input or output name, dimensions, and by which of them bits, shift and scale.
_NETWORK_NAME, _INPUTS, _OUTPUTS = 1, 3, 4
_NAME, _DIMENSIONS = 1, 3
_INPUT_SHIFT, _INPUT_SCALE = 4, 5
_OUTPUT_BITS, _OUTPUT_SHIFT, _OUTPUT_SCALE, _OUTPUT_FORMAT = 4, 5, 6, 7
_DETECTIONS = ("boxes", "scores", "classes", "number of objects")


def read(path: Path, sha256: str, data: View) -> ModelFile:
    """Reads the facts of a network for the IMX500.

    The input is what the sensor gives the network: a picture of this size. The outputs are what libcamera makes of the
    sensor's, as float32, with a batch of 1.

    Raises:
        DamagedError: it is cut off or inconsistent.
    """
    archive = _blocks_end(data)
    files = dict(_entries(data[archive:]))
    info = _info(files.get(_INFO, b""))
    intrinsics = _intrinsics(files.get(_INTRINSICS, b""))
    network = _network(data)
    inputs = [_tensor(table, _INPUT_SHIFT, _INPUT_SCALE) for table in network.tables(_INPUTS, MAX_TENSORS)]
    stored = [
        _tensor(table, _OUTPUT_SHIFT, _OUTPUT_SCALE, table.number(_OUTPUT_BITS, "B"))
        for table in network.tables(_OUTPUTS, MAX_TENSORS)
    ]
    if not inputs or not stored or not info:
        raise DamagedError("it does not state its inputs or outputs")
    labels = _labels(intrinsics)
    name, task = network.text(_NETWORK_NAME), str(intrinsics.get("task", ""))[:MAX_NAME]
    facts = {
        "name": name,
        "task": task,
        "inference_rate": str(intrinsics.get("inference_rate", ""))[:MAX_NAME],
        "network_version": info.get("version", ""),
        **_processing(intrinsics),
    }
    sides = tuple(int(info.get(key, "0")) for key in ("inputTensorHeight", "inputTensorWidth"))
    return ModelFile(
        path=path,
        format="rpk",
        sha256=sha256,
        size=len(data),
        inputs=(Tensor(inputs[0].name, (1, *sides, 3), "uint8"),),
        outputs=tuple(Tensor(one.name, one.shape, "float32") for one in stored),
        operators={},
        custom_operators=(),
        output_operators=tuple("" for _ in stored),
        version=f"blocks for {TARGET}",
        description=f"{name}, compiled for {TARGET}",
        metadata={key: fact for key, fact in facts.items() if fact},
        labels=labels,
        labels_from=_INTRINSICS if labels else "",
        normalization=None,
        associated_files=tuple(files),
        compiled=Compiled(
            target=TARGET,
            chips=chips.that_load(TARGET),
            compiler="",
            stored_inputs=tuple(inputs),
            stored_outputs=tuple(stored),
            suppression=_suppression(stored),
        ),
    )


def _blocks_end(data: View) -> int:
    """Where the blocks for the sensor end; all must be there."""
    at = 0
    for _ in range(MAX_BLOCKS):
        head = bytes(data[at : at + _BLOCK_SIZE.size])
        if not head.startswith(MAGIC):
            break
        if len(head) < _BLOCK_SIZE.size:
            raise DamagedError("it ends within a block")
        end = at + _BLOCK_HEADER + _BLOCK_SIZE.unpack(head)[1]
        if bytes(data[end : end + len(_BLOCK_END)]) != _BLOCK_END:
            raise DamagedError("one of its blocks has no end")
        at = end + len(_BLOCK_END)
    return at


def _entries(archive: View) -> Iterator[tuple[str, bytes]]:
    """The texts in a cpio archive (newc): https://www.kernel.org/doc/html/latest/driver-api/early-userspace/."""
    at = 0
    for _ in range(MAX_ENTRIES):
        head = bytes(archive[at : at + _ENTRY_BYTES])
        if len(head) < _ENTRY_BYTES or not head.startswith(_ENTRY):
            raise DamagedError("its archive is cut off")
        try:
            fields = [int(head[6 + 8 * place : 14 + 8 * place], 16) for place in range(_ENTRY_FIELDS)]
        except ValueError:
            raise DamagedError("its archive is no cpio archive") from None
        size, name_bytes = fields[_SIZE_FIELD], fields[_NAME_FIELD]
        if not 0 < name_bytes <= MAX_NAME or not 0 <= size <= len(archive):
            raise DamagedError("its archive is no cpio archive")
        start = _padded(at + _ENTRY_BYTES + name_bytes)
        name = decode_lenient(bytes(archive[at + _ENTRY_BYTES : at + _ENTRY_BYTES + name_bytes - 1]))
        if name == _LAST:
            return
        limit = MAX_INTRINSICS if name == _INTRINSICS else MAX_TEXT
        if name in (_INFO, _INTRINSICS) and size > limit:
            raise DamagedError(f"its {name} has {size} bytes, expected at most {limit}")
        content = bytes(archive[start : start + min(size, limit)])
        if start + size > len(archive):
            raise DamagedError("its archive is cut off")
        yield name, content
        at = _padded(start + size)


def _padded(position: int) -> int:
    return -(-position // _WORD) * _WORD


def _network(data: View) -> Table:
    """The table of inputs and outputs."""
    size = int.from_bytes(bytes(data[_TABLE_SIZE_AT : _TABLE_SIZE_AT + _WORD]), "big")
    words = bytes(data[_TABLE : _TABLE + min(size, MAX_TEXT)])
    content = b"".join(words[at : at + _WORD][::-1] for at in range(0, len(words), _WORD))
    table = Table.root(View(lambda _: content, 0, len(content)))
    return table.element(0, 0)


def _tensor(table: Table, shift: int, scale: int, bits: int = 8) -> Tensor:
    """A tensor as it is on the sensor, with a batch of 1: real = scale * (stored - shift)."""
    shape = tuple(dimension.number(1, "H") for dimension in table.tables(_DIMENSIONS, MAX_RANK))
    signed = shift == _OUTPUT_SHIFT and not table.number(_OUTPUT_FORMAT, "B")
    dtype = f"{'' if signed else 'u'}int{16 if bits > 8 else 8}"  # noqa: PLR2004 - bits of a byte
    factor = struct.unpack("<f", struct.pack("<I", table.number(scale, "I")))[0]
    usable = math.isfinite(factor) and factor > 0
    return Tensor(table.text(_NAME), (1, *shape), dtype, factor if usable else None, table.number(shift, "H"))


def _info(content: bytes) -> dict[str, str]:
    """The lines `key=value` of network_info.txt."""
    found = dict(line.strip().partition("=")[::2] for line in lines(decode_lenient(content)))
    for key in ("inputTensorWidth", "inputTensorHeight"):
        if found and not (found.get(key, "").isdecimal() and len(found[key]) <= 5):  # noqa: PLR2004 - digits of a size
            raise DamagedError(f"its {_INFO} does not state {key}")
    return found


def _intrinsics(content: bytes) -> dict[str, Any]:
    """The JSON that says what the network is for; {} where there is none."""
    try:
        found = parse_json(decode_lenient(content)) if content else {}
    except (TextError, ValueError, RecursionError) as error:
        raise DamagedError(f"its {_INTRINSICS} are no JSON ({error})") from None
    return found if isinstance(found, dict) else {}


def _labels(intrinsics: dict[str, Any]) -> tuple[str, ...] | None:
    classes = intrinsics.get("classes")
    found = classes.get("labels") if isinstance(classes, dict) else None
    if not isinstance(found, list) or not found or len(found) > MAX_LABELS:
        return None
    return tuple(found) if all(isinstance(label, str) for label in found) else None


def _processing(intrinsics: dict[str, Any]) -> dict[str, str]:
    """What is left for the CPU to do, as picamera2 reads it."""
    cpu = intrinsics.get("cpu")
    return {
        f"cpu.{key}"[:MAX_NAME]: str(value)[:MAX_NAME] for key, value in (cpu if isinstance(cpu, dict) else {}).items()
    }


def _suppression(outputs: list[Tensor]) -> Suppression | None:
    """Found by the outputs of its four parts: boxes, scores, classes and the number of objects."""
    if len(outputs) != len(_DETECTIONS):
        return None
    boxes, scores, classes, count = (one.shape[1:] for one in outputs)
    fits = len(boxes) == len(("box", "coordinate")) and boxes[1:] == (4,) and scores == classes == boxes[:1]
    return Suppression("") if fits and count == (1,) else None
