"""Reads untrusted flatbuffers, by field number and without generated code.

Source: https://flatbuffers.dev/internals.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

from flatbuffers import number_types, table

from edge_agent.modelfile.facts import DamagedError, Data
from edge_agent.system.text import decode_lenient

MAX_TEXT_BYTES = 16 * 1024
MAX_TABLES = 512


class Table:
    """A table. Methods raise `DamagedError` if an offset points outside of the data."""

    def __init__(self, data: Data, position: int) -> None:
        self.data = data
        self._position = position
        self._raw = _checked(table.Table, data, position)
        # flatbuffers would read a negative position from the end of the data.
        if _checked(self._raw.Get, number_types.SOffsetTFlags, position) > position:
            raise DamagedError("the layout of one of its tables stands before its beginning")

    @classmethod
    def root(cls, data: Data) -> "Table":
        """The outermost table."""
        return cls(data, _checked(table.Table(data, 0).Indirect, 0))

    def _offset(self, field: int) -> int:
        """The offset of a field within the table; 0 where it is absent."""
        return int(_checked(self._raw.Offset, 4 + 2 * field))

    def number(self, field: int, kind: Any) -> int:
        """An integer, `kind` being one of `flatbuffers.number_types`; 0 where the field is absent."""
        offset = self._offset(field)
        return int(_checked(self._raw.Get, kind, self._position + offset)) if offset else 0

    def vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """The position of a vector's items in the data, and their number; (0, 0) where the field is absent."""
        offset = self._offset(field)
        if not offset:
            return 0, 0
        start, length = _checked(self._raw.Vector, offset), _checked(self._raw.VectorLen, offset)
        if start + length * item_bytes > len(self.data):
            raise DamagedError(f"one of its lists has {length} items, more than the file can hold")
        return start, length

    def numbers(self, field: int, code: str, at_most: int) -> tuple[Any, ...]:
        """A vector of numbers, `code` being a letter of the struct module."""
        start, length = self.vector(field, struct.calcsize(f"<{code}"))
        _check_length(length, at_most)
        return struct.unpack_from(f"<{length}{code}", self.data, start)

    def text(self, field: int) -> str:
        """A text, cut at 16 KiB; "" where the field is absent."""
        start, length = self.vector(field, 1)
        return decode_lenient(self.data[start : start + min(length, MAX_TEXT_BYTES)])

    def inner(self, field: int) -> "Table | None":
        """The table in a field."""
        offset = self._offset(field)
        return Table(self.data, _checked(self._raw.Indirect, self._position + offset)) if offset else None

    def element(self, field: int, index: int) -> "Table":
        """One table of a vector of tables."""
        start, length = self.vector(field, 4)
        if not 0 <= index < length:
            raise DamagedError(f"it refers to item {index} of a list of {length}")
        return Table(self.data, _checked(self._raw.Indirect, start + 4 * index))

    def tables(self, field: int, at_most: int = MAX_TABLES) -> Iterator["Table"]:
        """A vector of tables."""
        start, length = self.vector(field, 4)
        _check_length(length, at_most)
        for position in range(start, start + 4 * length, 4):
            yield Table(self.data, _checked(self._raw.Indirect, position))


def _check_length(length: int, at_most: int) -> None:
    if length > at_most:
        raise DamagedError(f"one of its lists has {length} items, expected at most {at_most}")


def _checked(read: Callable[..., Any], *arguments: object) -> Any:
    """Calls flatbuffers, which raises these two errors for positions outside of the data."""
    try:
        return read(*arguments)
    except (struct.error, TypeError) as error:
        raise DamagedError("something in it points outside of the file") from error
