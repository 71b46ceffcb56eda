"""JPEG pictures one after the other in a stream, with or without multipart headers between them.

A picture ends where its own markers say (ITU-T T.81, annex B, https://www.w3.org/Graphics/JPEG/itu-t81.pdf): a
thumbnail inside it has markers of its own, which lie in a segment of stated length, and a byte 0xFF in the compressed
data is followed by a zero.
"""

import re
from collections.abc import Iterator

from edge_agent.errors import InputError

MAX_FRAME = 50_000_000
# Headers of a multipart stream are much shorter.
_MAX_BETWEEN = 4096
_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_START_CODE, _SCAN_CODE = 0xD8, 0xDA
# A marker, the length of its segment, and one more byte.
_HEAD = 5
# In compressed data: a marker that is neither a stuffed zero, nor a restart, nor fill.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class Mjpeg:
    """Splits a stream into pictures."""

    max_bytes_per_second = 200e6

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # up to here the picture at the head of the buffer is read; 0: its start is still looked for
        self._in_scan = False
        self._between = 0

    def feed(self, data: bytes) -> Iterator[bytes | InputError]:
        """The pictures that are complete with these bytes; an error for what is none."""
        self._buffer += data
        while True:
            if self._at == 0:
                if (trouble := self._find_start()) is not None:
                    yield trouble
                if self._at == 0:
                    return
            match self._walk():
                case None:
                    if len(self._buffer) > MAX_FRAME:
                        self._cut(len(self._buffer))
                        yield InputError(f"a JPEG picture of more than {MAX_FRAME} bytes")
                    return
                case (end, True):
                    yield self._cut(end)
                case (end, False):
                    size = len(self._cut(end))
                    yield InputError(f"a JPEG picture is cut off or damaged after {size} bytes")

    def end(self) -> Iterator[InputError]:
        """Says if the stream ended within a picture."""
        if self._at:
            yield InputError(f"the stream ended within a JPEG picture, after {len(self._buffer)} bytes of it")

    def _find_start(self) -> InputError | None:
        start = self._buffer.find(_START)
        skipped = start if start >= 0 else max(0, len(self._buffer) - len(_START) + 1)
        del self._buffer[:skipped]
        told = self._between > _MAX_BETWEEN
        self._between += skipped
        if start >= 0:
            self._at, self._in_scan, self._between = 2, False, 0
        if skipped and not told and self._between > _MAX_BETWEEN:
            return InputError(f"{self._between} bytes without a JPEG picture in them")
        return None

    def _walk(self) -> tuple[int, bool] | None:
        """Where the picture ends, and whether it is whole; None: it goes on beyond the buffer."""
        buffer = self._buffer
        while True:
            if self._in_scan:
                found = _MARKER_IN_SCAN.search(buffer, self._at)
                if found is None:
                    self._at = max(self._at, len(buffer) - 1)
                    return None
                self._at, self._in_scan = found.start(), False
            head = buffer[self._at : self._at + _HEAD]
            if head.startswith(_END):
                return self._at + len(_END), True
            if len(head) < _HEAD:
                return None
            if head[0] != 0xFF or head[1] == _START_CODE:  # noqa: PLR2004 - how markers begin
                return self._at, False
            if head[2:] == _START:  # cut off just before a length
                return self._at + 2, False
            after = self._at + _length(head)
            if after > len(buffer):
                return None
            self._at, self._in_scan = after, head[1] == _SCAN_CODE

    def _cut(self, end: int) -> bytes:
        picture = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._at, self._in_scan = 0, False
        return picture


def _length(head: bytearray) -> int:
    """Of a marker and, if one belongs to it, its segment."""
    code = head[1]
    if code == 0xFF:  # noqa: PLR2004 - fill
        return 1
    if code == 0x01 or 0xD0 <= code <= 0xD7:  # noqa: PLR2004 - markers without a segment
        return 2
    return 2 + int.from_bytes(head[2:4], "big")
