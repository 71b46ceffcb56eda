"""Readings that come as bytes, and the way from readings to a model's input tensor."""

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

# JSON takes some ten times its size in memory while it is read.
MAX_JSON = 4_000_000
EXPECTED = 'numbers as JSON ({"values": […]} or a list) or as raw little-endian float32'
_CONTROL = bytes(code for code in range(0x20) if chr(code) not in "\t\n\r")
_FLOAT_BYTES = 4


def read_numbers(data: bytes) -> "NDArray[np.float32]":
    """Numbers of a message: JSON, `{"values": […]}` or a list, nested or not; or raw little-endian float32.

    Returns:
        float32, of the shape in which the lists are nested; raw numbers are one row.

    Raises:
        InputError: it is neither; a value is no number that float32 can hold; lists of one level differ in length.
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
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
        return values.astype(np.float32)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _is_text(data: bytes) -> bool:
    """Whether bytes that look like the begin of JSON are meant as text: a float may begin with any byte."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return len(data.translate(None, _CONTROL)) == len(data)


def check_finite(values: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """The same values.

    Raises:
        InputError: one is NaN or infinite.
    """
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"expected numbers, found {values.ravel()[first]:g} at place {first}")
    return values


@dataclass(frozen=True, slots=True)
class RawInput:
    """What an item of the batch is, where it is no picture.

    Attributes:
        values: the real values that went into the model, float32.
        region: there is none.
    """

    values: "NDArray[np.float32]"
    region: str | None = None


@dataclass(frozen=True, slots=True)
class SeriesPreprocess:
    """How one model wants its readings.

    Attributes:
        shape: of one input, without the axis of the batch.
        batched: whether the input tensor has such an axis.
        dtype: numpy name of its type.
        scale, zero_point: real value = scale * (stored value - zero_point); scale 0: real values go in as they are.
        mean, std: real value = (reading - mean) / std, one number, or one for each channel (the last axis).
        input: what is stated of it besides.
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
        """Readings of one input as the real values that the model was trained with, of its shape.

        Args:
            values: a row, or nested like the model's input; axes of size 1 do not matter.

        Raises:
            InputError: there are more or fewer, they are nested otherwise, or one is no number.
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
            items: as `real` gives them; one only where the model has no axis of the batch.

        Returns:
            (batch, *shape), or shape, of the model's type.
        """
        tensor = np.stack(items) if self.batched else items[0]
        if self.scale:
            limits = np.iinfo(self.dtype)
            tensor = np.clip(np.rint(tensor / np.float32(self.scale)) + self.zero_point, limits.min, limits.max)
        return tensor.astype(self.dtype, copy=False)

    def blank(self, count: int) -> "tuple[NDArray[Any], list[RawInput]]":
        """Input of no meaning, to warm up with: the tensor of a batch, and where its items come from."""
        nothing = np.zeros(self.shape, np.float32)
        return self([nothing] * count), [RawInput(nothing)] * count


def _axes(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1] or [1]
