"""The wire format of protocol buffers, read with bounds: https://protobuf.dev/programming-guides/encoding."""

import math
import struct
from collections.abc import Iterator

from edge_agent.modelfile.facts import DamagedError
from edge_agent.modelfile.view import View

# Beside its weights, a large model has some hundred thousand fields and a few megabytes of names.
MAX_FIELDS = 2_000_000
MAX_TEXT_BYTES = 64 * 1024**2
# No message that is read here has fields of higher numbers.
MAX_FIELD_NUMBER = 31
# A message of up to this many bytes is read at once.
_AT_ONCE = 1 << 16

Content = View | memoryview
Message = dict[int, int | Content]

_VARINT = 0
_LENGTH_DELIMITED = 2
_FIXED_BYTES = {1: 8, 5: 4}
_REALS = {4: "<f", 8: "<d"}


class Wire:
    """Reads messages, up to a number of fields and an amount of text that bound a whole file.

    Args:
        fixed: whether fields of fixed size are wanted as well, as their bytes; else they are skipped.
    """

    def __init__(self, *, fixed: bool = False) -> None:
        self._fixed = fixed
        self._fields_left = MAX_FIELDS
        self._text_left = MAX_TEXT_BYTES

    def fields(self, message: Content) -> Iterator[tuple[int, int | Content]]:
        """The fields of a message, as number and value."""
        if isinstance(message, View) and len(message) <= _AT_ONCE:
            message = memoryview(bytes(message))
        position = 0
        while position < len(message):
            self._fields_left -= 1
            if self._fields_left < 0:
                raise DamagedError(f"it has more than {MAX_FIELDS} fields")
            key, position = _varint(message, position)
            number, wire_type = key >> 3, key & 7
            value: int | Content | None = None
            if wire_type == _VARINT:
                value, position = _varint(message, position)
            elif wire_type == _LENGTH_DELIMITED:
                length, position = _varint(message, position)
                value = message[position : position + length]
                position += length
            elif wire_type in _FIXED_BYTES:
                width = _FIXED_BYTES[wire_type]
                value = message[position : position + width] if self._fixed else None
                position += width
            else:
                raise DamagedError(f"a field has the wire type {wire_type}, which is not in use")
            if number == 0 or position > len(message):
                raise DamagedError(f"a message ends within its field {number}")
            if value is not None and number <= MAX_FIELD_NUMBER:
                yield number, value

    def message(self, content: Content) -> Message:
        """A message without repeated fields; of a repeated one the last value is kept."""
        return dict(self.fields(content))

    def inner(self, message: Message, number: int) -> Message:
        """The message in a field, empty where the field is absent."""
        value = message.get(number)
        return self.message(value) if not isinstance(value, int | None) else {}

    def text(self, message: Message, number: int) -> str:
        """The text in a field, "" where the field is absent."""
        value = message.get(number)
        return self.string(value) if not isinstance(value, int | None) else ""

    def first_text(self, content: Content, number: int) -> str:
        """The text in the first field of a number; the rest of the message, such as weights, is not read."""
        for found, value in self.fields(content):
            if found == number and not isinstance(value, int | None):
                return self.string(value)
        return ""

    def string(self, content: Content) -> str:
        """Bytes as text."""
        self._text_left -= len(content)
        if self._text_left < 0:
            raise DamagedError(f"it has more than {MAX_TEXT_BYTES >> 20} MiB of names and texts")
        return str(bytes(content), "utf-8", "replace")


def _varint(message: Content, position: int) -> tuple[int, int]:
    """A varint (groups of seven bits, lowest first), and the position after it."""
    value = 0
    for index, byte in enumerate(bytes(message[position : position + 10])):
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value & (2**64 - 1), position + index + 1
    raise DamagedError("a number does not end")


def real(message: Message, number: int, default: float | None = None) -> float | None:
    """A float or a double; only of a `Wire` that gives fields of fixed size."""
    value = message.get(number)
    if value is None or isinstance(value, int) or len(value) not in _REALS:
        return default
    found = float(struct.unpack(_REALS[len(value)], bytes(value))[0])
    return found if math.isfinite(found) else default


def integer(message: Message, number: int, default: int = 0) -> int:
    """A signed 64-bit number."""
    value = message.get(number)
    if not isinstance(value, int):
        return default
    return value - 2**64 if value >> 63 else value
