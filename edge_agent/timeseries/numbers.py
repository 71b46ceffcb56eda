"""Parses messages of readings, and turns readings into a model's input tensor."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from edge_agent.errors import InputError
from edge_agent.settings.series import Input

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Parsing JSON takes about ten times its size in memory.
MAX_JSON = 4_000_000
EXPECTED = 'numbers as JSON ({"values": […]} or a list) or as raw little-endian float32'
_CONTROL = bytes(code for code in range(0x20) if chr(code) not in "\t\n\r")
_FLOAT_BYTES = 4


def read_numbers(data: bytes) -> "NDArray[np.float32]":
    """Parses the numbers of a message: JSON, `{"values": […]}` or a list, nested or not; or raw little-endian float32.

    Returns:
        float32, with the shape of the nested lists; raw numbers are one row.

    Raises:
        InputError: it is neither; a value does not fit into float32; lists of one level differ in length.
    """
    if not data:
        raise InputError(f"expected {EXPECTED}, found an empty message")
    if data.lstrip()[:1] in (b"[", b"{"):
        try:
            return check_finite(_from_json(data))
        except InputError:
            if _is_text(data):
                raise
    if len(data) % _FLOAT_BYTES:
        raise InputError(f"expected {EXPECTED}, found {len(data)} bytes that begin with {data[:8].hex(' ')}")
    return check_finite(np.frombuffer(data, "<f4").astype(np.float32, copy=False))


def _from_json(data: bytes) -> "NDArray[np.float32]":
    if len(data) > MAX_JSON:
        raise InputError(f"expected at most {MAX_JSON} bytes of JSON, found {len(data)}: send raw float32 instead")
    try:
        document = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"expected {EXPECTED}, found JSON that can't be read: {error}") from None
    if isinstance(document, dict):
        if "values" not in document:
            raise InputError(f"expected {EXPECTED}, found JSON without `values`: {', '.join(document)[:100] or '{}'}")
        document = document["values"]
    try:
        values = np.asarray(document)
    except ValueError:
        raise InputError("expected lists that are alike in length, found some that differ") from None
    if not isinstance(document, list) or values.dtype.kind not in "iuf":
        raise InputError(f"expected {EXPECTED}, found JSON with something else in it: {json.dumps(document)[:60]}")
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which is refused
        return values.astype(np.float32)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _is_text(data: bytes) -> bool:
    """Whether bytes that start like JSON are text at all: a raw float may start with any byte."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return len(data.translate(None, _CONTROL)) == len(data)


def check_finite(values: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Returns the values unchanged.

    Raises:
        InputError: one is NaN or infinite.
    """
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"expected numbers, found {values.ravel()[first]:g} at place {first}")
    return values


@dataclass(frozen=True, slots=True)
class RawInput:
    """An item of a batch of readings or sound; the counterpart of `Placement` for images.

    Attributes:
        values: the real values that went into the model: the shape of one input, float32.
        region: always None.
    """

    values: "NDArray[np.float32]"
    region: str | None = None


@dataclass(frozen=True, slots=True)
class SeriesPreprocess:
    """How readings become the input tensor of a model.

    Attributes:
        shape: of one input, without the batch axis.
        batched: whether the input tensor has a batch axis.
        dtype: numpy name of the tensor's type.
        scale, zero_point: real value = scale * (stored value - zero_point); scale 0: the tensor holds real values.
        mean, std: real value = (reading - mean) / std; one number, or one per channel (the last axis).
        input: its settings.
    """

    shape: tuple[int, ...]
    batched: bool
    dtype: str
    scale: float
    zero_point: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    input: Input = field(default_factory=lambda: Input(kind="series"))

    def real(self, values: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Normalises the readings of one input.

        Args:
            values: a row, or the shape of the model's input; axes of size 1 do not matter.

        Returns:
            (reading - mean) / std: `shape`, float32.

        Raises:
            InputError: the number of values or their shape is wrong, or one is not finite.
        """
        axes, wanted = _axes(values.shape), _axes(self.shape)
        if values.size != math.prod(self.shape) or (len(axes) > 1 and axes != wanted):
            shape = " x ".join(map(str, wanted))
            raise InputError(f"expected {shape} numbers, found {' x '.join(map(str, axes))}")
        check_finite(values)
        values = values.reshape(self.shape)
        if self.mean == (0.0,) and self.std == (1.0,):
            return values
        return np.asarray((values - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32), np.float32)

    def __call__(self, items: Sequence["NDArray[Any]"]) -> "NDArray[Any]":
        """The input tensor of a batch.

        Args:
            items: each of `shape`, as returned by `real`; only one if the model has no batch axis.

        Returns:
            (batch, *shape), or `shape` without a batch axis, of `dtype`.
        """
        tensor = np.stack(items) if self.batched else items[0]
        if self.scale:
            limits = np.iinfo(self.dtype)
            tensor = np.clip(np.rint(tensor / np.float32(self.scale)) + self.zero_point, limits.min, limits.max)
        return tensor.astype(self.dtype, copy=False)

    def blank(self, count: int) -> "tuple[NDArray[Any], list[RawInput]]":
        """The input tensor of `count` inputs of zeros and its items, for warming up."""
        zeros = np.zeros(self.shape, np.float32)
        return self([zeros] * count), [RawInput(zeros)] * count


def _axes(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1] or [1]
