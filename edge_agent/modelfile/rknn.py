"""Reads a Rockchip RKNN file: a header, a flatbuffer with the network, and JSON with its inputs and outputs.

The format is not documented. What is read here was found in files of https://github.com/airockchip/rknn-toolkit2 of
versions 1.6 and 2.3, and what is not found is left out.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.modelfile import chips
from edge_agent.modelfile.facts import Compiled, DamagedError, ModelFile, Tensor, literal
from edge_agent.modelfile.flatbuffer import Table
from edge_agent.modelfile.view import View
from edge_agent.system.text import TextError, decode_lenient, parse_json

MAGIC = b"RKNN"
MAX_DESCRIPTION = 4 * 1024**2
MAX_TENSORS = 512
MAX_RANK = 16
MAX_NAME = 1000
_HEADER = struct.Struct("<8sQQ")
_BODY, _LENGTH_BYTES = 0x40, 8
# Fields of the flatbuffer's root.
_RUNTIME, _ATTRIBUTES, _COMPILER, _STORED_INPUTS, _STORED_OUTPUTS = 1, 3, 7, 12, 13
# Channels of pictures.
_PICTURES = (1, 3, 4)
_BITS_8 = 256


def read(path: Path, sha256: str, data: View) -> ModelFile:
    """Reads the facts of an RKNN file.

    The inputs are what the runtime takes: pixels from 0 to 255, height x width x channels, of which it subtracts the
    mean that is in the file; what is no picture, as float32. The outputs are what it gives as float32.

    Raises:
        DamagedError: it is cut off or inconsistent.
    """
    if len(data) < _BODY:
        raise DamagedError("it ends within its header")
    _, version, size = _HEADER.unpack(bytes(data[: _HEADER.size]))
    description = _description(data, size)
    root = Table.root(data[_BODY : _BODY + size])
    tensors = _tensors(description)
    attributes = _mapping(literal(root.text(_ATTRIBUTES)))
    stored = [*_stored(root, _STORED_INPUTS), *_stored(root, _STORED_OUTPUTS)]
    inputs = [_input(name, shape) for name, shape, is_input in tensors if is_input]
    outputs = [Tensor(name, shape, "float32") for name, shape, is_input in tensors if not is_input]
    targets = description.get("target_platform")
    target = str(targets[0])[:MAX_NAME] if isinstance(targets, list) and targets else ""
    if not target or not inputs or not outputs:
        raise DamagedError("it does not state its platform, its inputs or its outputs")
    compiler = _version(root.text(_COMPILER) or str(description.get("version", "")))
    facts = {
        "converted_from": str(description.get("ori_network_platform", ""))[:MAX_NAME],
        "runtime": root.text(_RUNTIME)[:MAX_NAME],
    }
    for place, tensor in enumerate(inputs):
        facts |= _pixels(f"input{place}", _mapping(_mapping(attributes.get("attrs")).get(tensor.name)))
    kinds = dict(stored)
    return ModelFile(
        path=path,
        format="rknn",
        sha256=sha256,
        size=len(data),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        operators={},
        custom_operators=(),
        output_operators=tuple("" for _ in outputs),
        version=f"version {version}",
        description=f"compiled for {target} with RKNN-Toolkit2 {compiler}",
        metadata={key: fact for key, fact in facts.items() if fact},
        labels=None,
        labels_from="",
        normalization=None,
        associated_files=(),
        compiled=Compiled(
            target=target,
            chips=chips.that_load(target.lower()),
            compiler=f"RKNN-Toolkit2 {compiler}",
            stored_inputs=tuple(_as_stored(one, kinds, attributes, tensors) for one in inputs),
            stored_outputs=tuple(_as_stored(one, kinds, attributes, tensors) for one in outputs),
        ),
    )


def _version(text: str) -> str:
    """`1.6.1 (compiler 1.6.1b12)` of `1.6.1-source_code(compiler version: 1.6.1b12 (2de89fcd7@2024-02-21))`."""
    compiler = text[:MAX_NAME].partition("compiler version: ")[2].partition(" ")[0].rstrip(")")
    return text[:MAX_NAME].partition("(")[0].removesuffix("-source_code") + (
        f" (compiler {compiler})" if compiler else ""
    )


def _description(data: View, size: int) -> dict[str, Any]:
    """The JSON behind the network."""
    start = _BODY + size
    if size > len(data) or start + _LENGTH_BYTES > len(data):
        raise DamagedError("it ends within its network")
    length = int.from_bytes(bytes(data[start : start + _LENGTH_BYTES]), "little")
    start += _LENGTH_BYTES
    if length > MAX_DESCRIPTION or start + length > len(data):
        raise DamagedError("it ends within its description")
    try:
        found = parse_json(decode_lenient(bytes(data[start : start + length])))
    except (TextError, ValueError, RecursionError) as error:
        raise DamagedError(f"its description is no JSON ({error})") from None
    return _mapping(found)


def _tensors(description: Mapping[str, Any]) -> list[tuple[str, tuple[int, ...], bool]]:
    """Name, shape and whether it goes in, of each tensor at the boundary, in the runtime's order."""
    known = {
        one.get("tensor_id"): one for one in _list(description.get("norm_tensor")) if isinstance(one.get("size"), list)
    }
    found = []
    for side in ("input", "output"):
        ends = [one for one in _list(description.get("graph")) if one.get("left") == side]
        for end in ends[:MAX_TENSORS]:
            tensor = known.get(_number(end.get("right_tensor_id")))
            if tensor is None:
                raise DamagedError(f"it has no tensor for one of its {side}s")
            shape = tuple(_number(length) for length in tensor["size"][:MAX_RANK])
            found.append((str(tensor.get("url", ""))[:MAX_NAME], shape, side == "input"))
    return found


def _input(name: str, shape: tuple[int, ...]) -> Tensor:
    match shape:
        case batch, channels, height, width if channels in _PICTURES:
            return Tensor(name, (batch, height, width, channels), "uint8")
    return Tensor(name, shape, "float32")


def _stored(root: Table, field: int) -> list[tuple[str, str]]:
    """Names of tensors with their types on the chip."""
    try:
        found = _mapping(parse_json(root.text(field) or "{}"))
    except (ValueError, RecursionError):
        return []
    return [(name, str(_mapping(facts).get("dtype", ""))[:MAX_NAME]) for name, facts in found.items()]


def _as_stored(
    tensor: Tensor,
    kinds: Mapping[str, str],
    attributes: Mapping[str, Any],
    tensors: list[tuple[str, tuple[int, ...], bool]],
) -> Tensor:
    """A tensor as it is on the chip; its scale follows from the range that it was quantised with."""
    kind = kinds.get(tensor.name, "")
    shape = next(shape for name, shape, _ in tensors if name == tensor.name)
    quantised = _mapping(_mapping(attributes.get("quant_tab")).get(tensor.name))
    least, most = _list_of_numbers(quantised.get("min")), _list_of_numbers(quantised.get("max"))
    if kind != "int8" or len(least) != 1 or len(most) != 1:
        return Tensor(tensor.name, shape, kind or "float16")
    low, high = min(least[0], 0.0), max(most[0], 0.0)
    scale = (high - low) / (_BITS_8 - 1)
    if not 0 < scale < float("inf"):
        return Tensor(tensor.name, shape, kind)
    return Tensor(tensor.name, shape, kind, scale, round(-_BITS_8 / 2 - low / scale))


def _pixels(prefix: str, attributes: Mapping[str, Any]) -> dict[str, str]:
    """What the chip does with the pixels of an input."""
    facts = {f"{prefix}.{key}": str(attributes[key])[:MAX_NAME] for key in ("mean", "std") if attributes.get(key)}
    return facts | ({f"{prefix}.order": "bgr"} if attributes.get("rgb2bgr") is True else {})


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _list_of_numbers(value: object) -> list[float]:
    found = value if isinstance(value, list) else []
    return [float(one) for one in found if isinstance(one, int | float) and abs(one) < float("inf")]


def _number(value: object) -> int:
    if type(value) is not int or not -1 <= value < 1 << 31:
        raise DamagedError("a size in its description is no whole number")
    return value
