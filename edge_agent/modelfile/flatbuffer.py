"""Reads untrusted flatbuffers, by field number and without generated code.

Source: https://flatbuffers.dev/internals.
"""

import struct
from collections.abc import Iterator
from typing import Any

from edge_agent.modelfile.facts import DamagedError
from edge_agent.modelfile.view import View
from edge_agent.system.text import decode_lenient

MAX_TEXT_BYTES = 16 * 1024
MAX_TABLES = 512


class Table:
    """A table. Methods raise `DamagedError` if an offset points outside of the data."""

    def __init__(self, data: View, position: int) -> None:
        self.data = data
        self._position = position
        self._layout = position - self._unpack("i", position)
        self._layout_bytes = self._unpack("H", self._layout)

    @classmethod
    def root(cls, data: View) -> "Table":
        """The outermost table."""
        return cls(data, _unpack(data, "I", 0))

    def _unpack(self, code: str, position: int) -> int:
        return int(_unpack(self.data, code, position))

    def _offset(self, field: int) -> int:
        """Where a field stands within the table; 0 where it is absent."""
        entry = 4 + 2 * field
        return self._unpack("H", self._layout + entry) if entry < self._layout_bytes else 0

    def _indirect(self, position: int) -> int:
        """Where the table or vector is that is referred to at a position."""
        return position + self._unpack("I", position)

    def number(self, field: int, code: str) -> int:
        """A whole number, `code` being a letter of the struct module; 0 where the field is absent."""
        offset = self._offset(field)
        return self._unpack(code, self._position + offset) if offset else 0

    def vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """The position of a vector's items in the data, and their number; (0, 0) where the field is absent."""
        offset = self._offset(field)
        if not offset:
            return 0, 0
        at = self._indirect(self._position + offset)
        start, length = at + 4, self._unpack("I", at)
        if start + length * item_bytes > len(self.data):
            raise DamagedError(f"one of its lists has {length} items, more than the file can hold")
        return start, length

    def numbers(self, field: int, code: str, at_most: int) -> tuple[Any, ...]:
        """A vector of numbers, `code` being a letter of the struct module."""
        start, length = self.vector(field, struct.calcsize(f"<{code}"))
        _check_length(length, at_most)
        return struct.unpack(f"<{length}{code}", bytes(self.data[start : start + length * struct.calcsize(f"<{code}")]))

    def text(self, field: int) -> str:
        """A text, cut at 16 KiB; "" where the field is absent."""
        start, length = self.vector(field, 1)
        return decode_lenient(bytes(self.data[start : start + min(length, MAX_TEXT_BYTES)]))

    def inner(self, field: int) -> "Table | None":
        """The table in a field."""
        offset = self._offset(field)
        return Table(self.data, self._indirect(self._position + offset)) if offset else None

    def element(self, field: int, index: int) -> "Table":
        """One table of a vector of tables."""
        start, length = self.vector(field, 4)
        if not 0 <= index < length:
            raise DamagedError(f"it refers to item {index} of a list of {length}")
        return Table(self.data, self._indirect(start + 4 * index))

    def tables(self, field: int, at_most: int = MAX_TABLES) -> Iterator["Table"]:
        """A vector of tables."""
        start, length = self.vector(field, 4)
        _check_length(length, at_most)
        for position in range(start, start + 4 * length, 4):
            yield Table(self.data, self._indirect(position))


def _check_length(length: int, at_most: int) -> None:
    if length > at_most:
        raise DamagedError(f"one of its lists has {length} items, expected at most {at_most}")


def _unpack(data: View, code: str, position: int) -> Any:
    size = struct.calcsize(f"<{code}")
    if not 0 <= position <= len(data) - size:
        raise DamagedError("something in it points outside of the file")
    return struct.unpack(f"<{code}", bytes(data[position : position + size]))[0]
