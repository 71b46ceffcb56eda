"""Parses readings from lines of text: JSON, or CSV.

A line that can't be parsed is reported as an error and leaves a gap. The next line is parsed as usual. The time that a
line takes is proportional to its length, whatever is in it.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

import numpy as np

from edge_agent.errors import InputError
from edge_agent.samples import Series
from edge_agent.system.terminal import printable
from edge_agent.system.text import decode_lenient, parse_json

MAX_LINE = 65536
MAX_CHANNELS = 256
_MAX_QUOTED = 80
# Of a reading, whether they are used or not: the names of nested values repeat the names around them.
_MAX_VALUES, _MAX_NAME, _MAX_DEPTH = 4096, 256, 32
_LARGEST = float(np.finfo(np.float32).max)
_LINE_ENDS = bytes.maketrans(b"\r", b"\n")


# Name of a channel -> its value in one reading. Channels without names are "0", "1", …
Values = Mapping[str, Any]


class ReadingParser(Protocol):
    """Parses readings from lines."""

    def read(self, line: str) -> Iterator[Values | InputError]:
        """The reading that this line completes, if any, and errors."""
        ...


class Lines:
    """Parses a stream of lines; see `StreamFormat`.

    Args:
        parser: a new parser.
        channels: names of the channels to use, in order, or of the columns if they have no names; None: all numbers of
            the first reading.
        rate: readings per second, if it is known.
        begins_anywhere: the stream may start within a line, which is then skipped.
    """

    max_bytes_per_second = 1e6

    def __init__(
        self,
        parser: ReadingParser,
        channels: tuple[str, ...] | None,
        rate: float | None,
        *,
        begins_anywhere: bool = False,
    ) -> None:
        self._parser = parser
        self._stated = channels
        self._wanted = channels
        self._rate = rate
        self._rest = bytearray()
        self._skipping = begins_anywhere

    def feed(self, data: bytes) -> Iterator[Series | InputError]:
        """The readings that these bytes complete."""
        rows: list[list[float]] = []
        names: tuple[str, ...] = ()
        for reading in self._readings(data):
            if rows and (isinstance(reading, InputError) or reading[0] != names):
                yield Series(np.array(rows, np.float32), names, self._rate)
                rows = []
            if isinstance(reading, InputError):
                yield reading
            else:
                names, row = reading
                rows.append(row)
        if rows:
            yield Series(np.array(rows, np.float32), names, self._rate)

    def end(self) -> Iterator[InputError]:
        """An error if the stream ended within a line."""
        if self._rest and not self._skipping:
            yield InputError("the stream ended within a line")

    def _readings(self, data: bytes) -> "Iterator[tuple[tuple[str, ...], list[float]] | InputError]":
        # Of CRLF, a line and an empty one remain, which is left out.
        first, *more = data.translate(_LINE_ENDS).split(b"\n")
        self._rest += first
        lines: list[bytes | bytearray] = []
        if more:
            lines, self._rest = [self._rest, *more[:-1]], bytearray(more[-1])
        for line in lines:
            if self._skipping:
                self._skipping = False
            elif len(line) > MAX_LINE:
                yield InputError(f"a line of more than {MAX_LINE} bytes")
            else:
                for found in self._parser.read(decode_lenient(line)):
                    yield found if isinstance(found, InputError) else self._reading(found)
        if len(self._rest) > MAX_LINE:
            if not self._skipping:
                yield InputError(f"a line of more than {MAX_LINE} bytes")
            self._rest, self._skipping = bytearray(), True

    def _reading(self, found: Values) -> tuple[tuple[str, ...], list[float]] | InputError:
        """Names and values of the wanted channels; an error if one is missing or not a finite number."""
        unnamed = all(name.isdigit() for name in found)
        wanted = self._wanted or tuple(name for name, value in found.items() if unnamed or _is_number(value))
        if not 0 < len(wanted) <= MAX_CHANNELS:
            return InputError(f"a reading of {len(wanted)} numbers: 1 to {MAX_CHANNELS} are taken")
        if unnamed:
            if len(found) != len(wanted):
                return InputError(f"a reading of {len(found)} values: {len(wanted)} are expected")
            found = dict(zip(wanted, found.values(), strict=True))
        row: list[float] = []
        for name in wanted:
            if name not in found:
                return InputError(f"a reading without {_quoted(name)}: it has {_quoted(', '.join(found))}")
            value = found[name]
            if not _is_number(value) or not abs(value) <= _LARGEST:
                return InputError(f"{_quoted(name)} is no finite number: {_quoted(str(value))}")
            row.append(float(value))
        self._wanted = wanted
        return () if unnamed and self._stated is None else wanted, row


class Json:
    """One JSON document per reading: an object, a list, or a number. It may span several lines, if these are indented.

    Numbers within objects and lists are named by their path, `gyro.x`. The key `values` is not part of the path.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0
        self._depth = 0

    def read(self, line: str) -> Iterator[Values | InputError]:
        """See `ReadingParser.read`."""
        if self._lines and line[:1] in ("{", "["):
            yield InputError(f"a reading that is cut off: {_quoted(self._taken())}")
        if not line.strip():
            return
        self._lines.append(line)
        self._size += len(line)
        # Every other part stands between two strings, once the escaped quotes within them are gone.
        parts = line.replace("\\\\", "").replace('\\"', "").split('"')
        bare = "".join(parts[::2])
        self._depth += bare.count("{") + bare.count("[") - bare.count("}") - bare.count("]")
        within_string = len(parts) % 2 == 0  # which JSON does not continue on the next line
        if self._size > MAX_LINE:
            self._taken()
            yield InputError(f"a reading of more than {MAX_LINE} bytes")
        elif self._depth <= 0 or within_string:
            yield from _parsed(self._taken())

    def _taken(self) -> str:
        text = "\n".join(self._lines)
        self._lines, self._size, self._depth = [], 0, 0
        return text


class Csv:
    """Comma-separated numbers. A header with names may come first, and again when a device restarts."""

    def __init__(self) -> None:
        self._header: tuple[str, ...] = ()
        self._columns = 0

    def read(self, line: str) -> Iterator[Values | InputError]:
        """See `ReadingParser.read`."""
        if not line.strip():
            return
        if line.count(",") >= _MAX_VALUES:
            yield InputError(f"a line of more than {_MAX_VALUES} fields: {_quoted(line)}")
            return
        fields = [field.strip().strip('"') for field in line.split(",")]
        values = [_number(field) for field in fields]
        if not any(map(_is_number, values)):
            yield from self._take_header(tuple(fields))
            return
        if not self._columns:
            self._columns = len(fields)
            if len(self._header) != len(fields):
                self._header = ()  # it was other text
        if len(fields) == self._columns:
            yield dict(zip(self._header or map(str, range(len(fields))), values, strict=True))
        else:
            yield InputError(f"a line of {len(fields)} fields, not {self._columns}: {_quoted(line)}")

    def _take_header(self, names: tuple[str, ...]) -> Iterator[InputError]:
        """Stores a line without numbers as the header. Only the last one before the first numbers can be it."""
        if names == self._header:
            return
        refused = names
        if not self._columns and len(set(names)) == len(names):
            refused, self._header = self._header, names
        if refused:
            yield InputError(f"no numbers in it: {_quoted(','.join(refused))}")


def _parsed(text: str) -> Iterator[Values | InputError]:
    try:
        found = dict(islice(_leaves(parse_json(text)), _MAX_VALUES + 1))
    except ValueError:
        yield InputError(f"expected JSON, found: {_quoted(text)}")
        return
    if len(found) > _MAX_VALUES:
        yield InputError(f"a reading of more than {_MAX_VALUES} values")
    elif found:  # termux-sensor begins with an empty object
        yield found


def _leaves(document: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    if isinstance(document, dict | list):
        parts = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in parts:
            inner = name if key == "values" else f"{name}.{key}".removeprefix(".")
            if len(inner) > _MAX_NAME or depth >= _MAX_DEPTH:
                raise ValueError("a name that is too long, or too many lists in each other")
            yield from _leaves(value, inner, depth + 1)
    else:
        yield name or "0", document


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(field: str) -> float | str:
    try:
        return float(field)
    except ValueError:
        return field


def _quoted(text: str) -> str:
    return printable(text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}...")
