"""Parses messages of readings, and turns readings into a model's input tensor."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

import numpy as np

from edge_agent.errors import InputError
from edge_agent.settings.series import Input
from edge_agent.system.terminal import printable
from edge_agent.system.text import TextError, decode, lines, parse_json
from edge_agent.timeseries.fields import read_fields

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Parsing text takes about ten times its size in memory.
MAX_TEXT = 4_000_000
EXPECTED = (
    'numbers as text (21.5, or rows of CSV), as JSON ({"values": […]}, a list, or an object of named numbers), or as '
    "raw little-endian float32"
)
_CONTROL = bytes(code for code in (*range(0x20), 0x7F) if chr(code) not in "\t\n\r")
_DIGITS = set("0123456789+-.eE")
_SEPARATORS = (",", ";", "\t")
_MAX_QUOTED = 60
_FLOAT_BYTES = 4
# Milliseconds from one reading to the next.
_LEAST_INTERVAL = 1e-6

NumberFormat = Literal["text", "float32"] | Mapping[str, str] | None
"""How bytes hold numbers; None: bytes that are printable text are text, all others are float32. A mapping: as fields of
JSON messages, by dotted path, with their units."""


class Numbers(NamedTuple):
    """The numbers of a message.

    Attributes:
        values: float32, with the shape of the rows or of the nested lists; raw numbers, and those of a single row or
            column, have one axis.
        channels: the names of the columns, from the header of a CSV or the keys of JSON objects; () without.
        rate: readings a second, where the message states it.
    """

    values: "NDArray[np.float32]"
    channels: tuple[str, ...] = ()
    rate: float | None = None


def read_numbers(data: bytes, number_format: NumberFormat = None, wanted: Sequence[str] = ()) -> Numbers:
    """Parses the numbers of a message.

    Text is a number, rows of numbers separated by commas, semicolons, tabs or spaces, or JSON: `{"values": […]}` or a
    list, nested or not, or an object, or a list of objects, whose keys are names of channels, or Edge Impulse's
    `{"payload": {"values": …, "sensors": …}}`.

    Args:
        data: the message.
        number_format: as the source states it.
        wanted: names of the channels that the model takes, if they are stated. JSON objects may hold more; their order
            does not count.

    Raises:
        InputError: it is none of these; a value does not fit into float32; rows or lists differ in length.
    """
    if isinstance(number_format, Mapping):
        return _from_fields(data, tuple(number_format))
    if not data.strip():
        raise InputError(f"expected {EXPECTED}, found an empty message")
    text = None if number_format == "float32" else _as_text(data)
    if text is not None:
        try:
            found = _from_text(text.strip(), wanted)
        except InputError as error:
            hint = (
                "" if len(data) % _FLOAT_BYTES else ": if these are raw float32, state numbers: float32 in the source"
            )
            raise InputError(f"{error}{hint}") from None
    elif number_format == "text":
        raise InputError(f"expected text, as the source states with `numbers`, found bytes: {data[:8].hex(' ')}")
    elif len(data) % _FLOAT_BYTES:
        raise InputError(f"expected {EXPECTED}, found {len(data)} bytes that begin with {data[:8].hex(' ')}")
    else:
        found = Numbers(np.frombuffer(data, "<f4").astype(np.float32, copy=False))
    check_finite(found.values)
    return found


def _from_fields(data: bytes, fields: tuple[str, ...]) -> Numbers:
    found = read_fields(data, fields)
    if missing := [field for field in fields if field not in found]:
        raise InputError(f"expected all of {', '.join(fields)}, found none at {', '.join(missing)}")
    return Numbers(np.array([list(found.values())], np.float32), fields)


def _as_text(data: bytes) -> str | None:
    """The text in a message; None if it is none: raw numbers almost always hold bytes that text can't."""
    data = data.removesuffix(b"\0")  # as C ends a text; no float32 but the tiniest ends so after printable bytes
    if len(data.translate(None, _CONTROL)) != len(data):
        return None
    try:
        text = decode(data)
    except TextError:
        return None
    return text if data.isascii() or "".join(text.split()).isprintable() else None


def _from_text(text: str, wanted: Sequence[str]) -> Numbers:
    if len(text) > MAX_TEXT:
        raise InputError(f"expected at most {MAX_TEXT} bytes of text, found {len(text)}: send raw float32 instead")
    return _from_json(text, wanted) if text.startswith(("[", "{")) else _from_rows(text)


def _from_json(text: str, wanted: Sequence[str]) -> Numbers:
    try:
        document = parse_json(text, constant=_refuse)
    except TextError as error:
        raise InputError(f"expected {EXPECTED}, found {error}") from None
    if isinstance(document, dict):
        if isinstance(payload := document.get("payload"), dict) and "sensors" in payload:
            return _from_acquisition(payload)
        if "values" not in document:
            return _from_objects([document], wanted)
        document = document["values"]
    if isinstance(document, list) and document and all(isinstance(row, dict) for row in document):
        return _from_objects(document, wanted)
    return Numbers(_from_lists(document))


def _from_lists(document: Any) -> "NDArray[np.float32]":
    try:
        values = np.asarray(document)
    except ValueError:
        raise InputError("expected lists that are alike in length, found some that differ") from None
    if not isinstance(document, list) or values.dtype.kind not in "iuf":
        raise InputError(f"expected {EXPECTED}, found JSON with something else in it: {json.dumps(document)[:60]}")
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which is refused
        return values.astype(np.float32)


def _from_acquisition(payload: Mapping[str, Any]) -> Numbers:
    """The readings of a file of Edge Impulse.

    Source: https://docs.edgeimpulse.com/tools/specifications/data-acquisition/json-cbor
    """
    values, sensors, interval = _from_lists(payload.get("values")), payload["sensors"], payload.get("interval_ms")
    named = isinstance(sensors, list) and all(isinstance(one, dict) for one in sensors)
    names = tuple(one["name"] for one in sensors if isinstance(one.get("name"), str)) if named else ()
    if values.ndim != 2 or len(set(names)) != values.shape[1]:  # noqa: PLR2004 - readings, sensors
        raise InputError(f"expected a value of each of the sensors {printable(', '.join(names)[:100])} in each row")
    is_stated = isinstance(interval, int | float) and not isinstance(interval, bool) and interval >= _LEAST_INTERVAL
    return Numbers(values, names, 1000 / interval if is_stated and interval is not None else None)


def _from_objects(rows: Sequence[dict[str, Any]], wanted: Sequence[str]) -> Numbers:
    """The named numbers of JSON objects; true and false are 1 and 0."""
    names = tuple(wanted) or tuple(name for name, value in rows[0].items() if isinstance(value, int | float))
    keys = printable(", ".join(rows[0])[:100]) or "{}"
    if not names:
        raise InputError(f"expected {EXPECTED}, found JSON without `values`, and without a number in it: {keys}")
    if len(names) > 1 and not wanted:
        raise InputError(
            f"found JSON with the names {keys}, whose order does not count: state input.channels of the model, their "
            "names in the model's order"
        )
    for name in names:
        if not all(isinstance(row.get(name), int | float) for row in rows):
            raise InputError(f"expected a number called {name} in each JSON object, found {keys}")
    with np.errstate(over="ignore"):  # as above
        try:
            values = np.array([[float(row[name]) for name in names] for row in rows], np.float64).astype(np.float32)
        except OverflowError:
            raise InputError(f"expected numbers that fit into float32, found a larger one in {keys}") from None
    return Numbers(values, names)


def _from_rows(text: str) -> Numbers:
    written = [line for line in lines(text) if line.strip()]
    separator = next((one for one in _SEPARATORS if any(one in line for line in written[:2])), None)
    rows = [[cell.strip() for cell in line.split(separator)] for line in written] or [[""]]
    names: tuple[str, ...] = ()
    if len(rows) > 1 and not any(map(_is_number, rows[0])):
        names, rows = tuple(cell.strip('"') for cell in rows[0]), rows[1:]
        if len(set(names)) < len(names):
            raise InputError(f"expected columns with names that differ, found {_quoted(', '.join(names))}")
    if any(len(row) != len(names or rows[0]) for row in rows):
        raise InputError("expected rows that are alike in length, found some that differ")
    if (wrong := next((cell for row in rows for cell in row if not _is_number(cell)), None)) is not None:
        which = "" if wrong == text else f", in which {_quoted(wrong) or 'an empty place'} is no number"
        raise InputError(f"expected {EXPECTED}, found the text {_quoted(text)}{which}")
    with np.errstate(over="ignore"):  # as above
        values = np.array(rows, np.float64).astype(np.float32)
    return Numbers(values if min(values.shape) > 1 or names else values.ravel(), names)


def _is_number(cell: str) -> bool:
    if not _DIGITS.issuperset(cell):
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _quoted(text: str) -> str:
    return printable(text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}...")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def check_finite(values: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Returns the values unchanged.

    Raises:
        InputError: one is NaN or infinite.
    """
    if not np.logical_and.reduce(np.isfinite(values), axis=None):  # `all` takes twice as long
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"expected numbers, found {values.ravel()[first]:g} at place {first}")
    return values


# Made for every input, and not to be changed: frozen, it takes ten times as long to make.
@dataclass(slots=True)
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
        columns: numpy name of the type of each channel, where the model has an input of its own for each.
    """

    shape: tuple[int, ...]
    batched: bool
    dtype: str
    scale: float
    zero_point: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    input: Input = field(default_factory=lambda: Input(kind="series"))
    columns: tuple[str, ...] = ()

    @property
    def _types(self) -> tuple[str, ...]:
        """The types that the values of an input have to fit, in equal parts; any value fits a quantised type."""
        return ("float32",) if self.scale else self.columns or (self.dtype,)

    @property
    def takes_whole_numbers(self) -> bool:
        """Whether it takes whole numbers only, if only for some channels."""
        return not all(dtype.startswith("float") for dtype in self._types)

    def real(self, values: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Normalises the readings of one input.

        Args:
            values: a row, or the shape of the model's input; axes of size 1 do not matter.

        Returns:
            (reading - mean) / std: `shape`, float32.

        Raises:
            InputError: the number of values or their shape is wrong, or one is not finite, or not one of the whole
                numbers that the model takes.
        """
        axes, wanted = _axes(values.shape), _axes(self.shape)
        if values.size != math.prod(self.shape) or (len(axes) > 1 and axes != wanted):
            shape = " x ".join(map(str, wanted))
            raise InputError(f"expected {shape} numbers, found {' x '.join(map(str, axes))}")
        check_finite(values)
        values = values.reshape(self.shape)
        if self.mean != (0.0,) or self.std != (1.0,):
            values = (values - _constants(self.mean)) / _constants(self.std)
        types = self._types
        if types != ("float32",):
            for column, dtype in zip(values.reshape(len(types), -1), types, strict=True):
                _check_whole(column, dtype)
        return values

    def __call__(self, items: Sequence["NDArray[Any]"]) -> "NDArray[Any]":
        """The input tensor of a batch.

        Args:
            items: each of `shape`, as returned by `real`; only one if the model has no batch axis.

        Returns:
            (batch, *shape), or `shape` without a batch axis, of `dtype`.
        """
        tensor = items[0] if not self.batched else items[0][np.newaxis] if len(items) == 1 else np.stack(items)
        if self.scale:
            least, most = _limits(self.dtype)  # `out_of_range` counts what is cut off here
            stored = np.rint(tensor / np.float32(self.scale)) + self.zero_point
            tensor = np.minimum(np.maximum(stored, least), most)
        return tensor.astype(self.dtype, copy=False)

    def out_of_range(self, values: "NDArray[np.float32]") -> int:
        """How many values, as returned by `real`, are beyond what a quantised input can hold; they become its ends."""
        if not self.scale:
            return 0
        # More than one step beyond the ends, after rounding.
        least, most = (end - self.zero_point for end in _limits(self.dtype))
        beyond = (values < (least - 1.5) * self.scale) | (values > (most + 1.5) * self.scale)
        return int(np.count_nonzero(beyond))

    def blank(self, count: int) -> "tuple[NDArray[Any], list[RawInput]]":
        """The input tensor of `count` inputs of zeros and its items, for warming up."""
        zeros = np.zeros(self.shape, np.float32)
        return self([zeros] * count), [RawInput(zeros)] * count


@lru_cache(maxsize=64)
def _constants(numbers: tuple[float, ...]) -> "NDArray[np.float32]":
    """Numbers of a model as an array, float32: made once, and not for each input."""
    return np.asarray(numbers, np.float32)


@cache
def _limits(dtype: str) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def _check_whole(values: "NDArray[np.float32]", dtype: str) -> None:
    """Refuses values that an integer type can't hold."""
    if dtype.startswith("float"):
        return
    least, most = _limits(dtype)
    wrong = (values != np.rint(values)) | (values < least) | (values > most)
    if wrong.any():
        raise InputError(f"expected whole numbers, since the model takes {dtype}, found {values[wrong].flat[0]:g}")


def _axes(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1] or [1]
