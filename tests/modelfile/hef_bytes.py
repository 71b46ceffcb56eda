"""Small HEF files, written byte by byte from hailort's hef.proto and hef_internal.hpp: no chip could run them."""

import hashlib
import struct
import zlib
from typing import Literal

from tests.models.model_bytes import message, varint

Kind = Literal["detector", "raw detector", "classifier", "digits", "nms on chip", "old", "partial", "pads only"]
ARCHITECTURES = {
    **{f"HAILO{name}": number for number, name in enumerate(["8", "8P", "8R", "8L", "15M", "10H", "15L"])},
    "HAILO15H": 103,
}
COMPILED_AT = 1764460800  # 2025-11-30
_FLAT, _NMS = 2, 6
_WEIGHTS = b"weights and instructions" * 40


def hef(version: int = 2, architecture: str = "HAILO8L", kind: Kind = "detector", classes: int = 80) -> bytes:
    """A file with a header of this version.

    Args:
        version: 0 to 3.
        architecture: a key of `ARCHITECTURES`.
        kind: what the network gives. Detectors have an input of 640 x 640, classifiers of 224 x 224, and `digits` is
            what the bundled reader of digits would be.
        classes: their number.
    """
    messages = message(
        (1, message((1, ARCHITECTURES[architecture]), (2, COMPILED_AT), (3, "3.33.0"), (4, version))),
        (2, _network(kind, classes)),
        (4, message((8, 1))),
        (5, message((1, 13), (2, "hailo_net_flow"))),
    )
    return _with_header(version, messages, _WEIGHTS if version else b"")


def _with_header(version: int, messages: bytes, rest: bytes) -> bytes:
    content = messages + rest
    match version:
        case 0:
            own = struct.pack(">I16s", 0, hashlib.md5(content).digest())
        case 1:
            own = struct.pack(">IQI", zlib.crc32(content), len(rest), 0)
        case 2:
            own = struct.pack(">QQQQ", 0, len(rest), 0, 0)
        case _:
            own = struct.pack(">QQIQQQ", 0, len(rest) - 8, 4, 8, 0, 0)
    return struct.pack(">4sII", b"\x01HEF", version, len(messages)) + own + content


def _network(kind: Kind, classes: int) -> bytes:
    sides = {"classifier": (224, 224, 3), "digits": (32, 24, 1)}.get(kind, (640, 640, 3))
    name = "digits" if kind == "digits" else "net"
    layers = [_edge(_layer(f"{name}/input_layer1", sides, (0.0, 1 / 255)), to_host=False)]
    match kind:
        case "digits":
            layers.append(_edge(_layer("digits/softmax1", (1, 1, 11), (0.0, 1 / 256), form=_FLAT), to_host=True))
        case "classifier":
            layers.append(_edge(_layer("net/softmax1", (1, 1, classes), (0.0, 1 / 256), form=_FLAT), to_host=True))
        case "nms on chip":
            layers.append(_edge(_nms_layer("net/nms1", classes), to_host=True))
        case _:
            maps = [(f"net/conv{place}", (640 // step, 640 // step)) for place, step in enumerate((8, 16, 32))]
            shapes = [
                (f"{name}_{part}", (*cells, n)) for name, cells in maps for part, n in (("b", 64), ("c", classes))
            ]
            layers += [
                _edge(_layer(name, shape, (120.0, 0.05)), to_host=True, pad=place)
                for place, (name, shape) in enumerate(shapes)
            ]
    context = message((3, message((1, "context_0"), *((2, layer) for layer in layers))))
    description = message((1, "net"), (4, struct.pack("<d", 0.0)))
    if kind == "old":
        return message((1, description), (3, context), (4, "net/conv0_b"))
    if kind == "pads only":
        pads = [(2, _pad(20, "net/input_layer1", (640, 640, 3))), (3, _pad(0, "net/conv0_b", (80, 80, 64)))]
        return message((8, message((1, "core"), *pads, (4, message((1, description))))), (10, "net"))
    core = message((1, description), (3, context))
    if kind == "partial":
        core = message((1, description), (7, message((1, core))))
    operations = [message((1, "core"), (4, core))]
    edges = []
    if kind == "detector":
        pads = [(2, message((1, 10 + place))) for place in range(6)]
        edges = [message((1, place), (2, 10 + place)) for place in range(6)]
        out = message((1, 30), (2, "net/yolov8_nms_postprocess"), (3, 9), (7, message((1, classes), (2, 100))))
        yolo = message((4, message((1, 8), (2, 10), (3, 11))), (5, 16))
        nms = _fixed(1, 0.2) + _fixed(2, 0.7) + message((3, 100), (4, classes), (12, yolo))
        operations.append(message((1, "nms"), *pads, (3, out), (5, nms)))
    return message(*((8, one) for one in operations), *((9, one) for one in edges), (10, "net"))


def _layer(name: str, shape: tuple[int, int, int], quantised: tuple[float, float], form: int = 0) -> bytes:
    height, width, features = shape
    base = message((1, height), (2, height), (3, width), (4, width), (5, features), (6, features), (7, form), (12, 1))
    return message((1, name), (2, base), (3, _numbers(*quantised)))


def _nms_layer(name: str, classes: int) -> bytes:
    nms = message((2, classes), (3, 20), (4, 5), (7, 2))
    base = message((7, _NMS), (11, message((1, nms))), (12, 2))
    return message((1, name), (2, base), (3, _numbers(0.0, 0.1)))


def _edge(layer: bytes, *, to_host: bool, pad: int | None = None) -> bytes:
    return message((1, int(to_host)), (3, layer), (5, message((3, 0))), *([] if pad is None else [(7, pad)]))


def _pad(index: int, name: str, shape: tuple[int, int, int]) -> bytes:
    height, width, features = shape
    sides = message((1, height), (3, width), (5, features))
    return message((1, index), (2, name), (3, 1), (8, 1), (5, _numbers(3.0, 0.25)), (6, sides))


def _numbers(zero_point: float, scale: float) -> bytes:
    return b"".join(
        varint(field << 3 | 5) + struct.pack("<f", value)
        for field, value in ((1, zero_point), (2, scale), (3, 0.0), (4, 1.0))
    )


def _fixed(field: int, value: float) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<d", value)
