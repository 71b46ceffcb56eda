"""Splits a stream of JPEG images, with or without multipart headers between them.

The end of an image is found by its markers (ITU-T T.81, annex B, https://www.w3.org/Graphics/JPEG/itu-t81.pdf).
Searching for the end marker alone does not do: an embedded thumbnail has one of its own, within a segment of stated
length. In compressed data, a byte 0xFF is followed by a zero.
"""

import re
from collections.abc import Iterator

from edge_agent.errors import InputError

MAX_FRAME = 50_000_000
# Bytes between two images; headers of a multipart stream are much shorter.
_MAX_BETWEEN = 4096
_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_START_CODE, _SCAN_CODE = 0xD8, 0xDA
# A marker, the length of its segment, and one more byte.
_HEAD = 5
# In compressed data: a marker, but not a stuffed zero, a restart marker or a fill byte.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class Mjpeg:
    """Splits a stream into JPEG images; see `StreamFormat`."""

    max_bytes_per_second = 200e6

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # how far the image at the head of the buffer has been parsed; 0: its start has not been found
        self._in_scan = False
        self._between = 0

    def feed(self, data: bytes) -> Iterator[bytes | InputError]:
        """The images that these bytes complete, encoded; an error for data that is no image."""
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
        """An error if the stream ended within an image."""
        if self._at:
            yield InputError(f"the stream ended within a JPEG picture, after {len(self._buffer)} bytes of it")

    def _find_start(self) -> InputError | None:
        start = self._buffer.find(_START)
        skipped = start if start >= 0 else max(0, len(self._buffer) - len(_START) + 1)
        del self._buffer[:skipped]
        reported = self._between > _MAX_BETWEEN
        self._between += skipped
        if start >= 0:
            self._at, self._in_scan, self._between = 2, False, 0
        if skipped and not reported and self._between > _MAX_BETWEEN:
            return InputError(f"{self._between} bytes without a JPEG picture in them")
        return None

    def _walk(self) -> tuple[int, bool] | None:
        """Offset of the image's end, and whether it is complete; None: it goes on beyond the buffer."""
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
            if head[2:] == _START:  # truncated just before a length
                return self._at + 2, False
            after = self._at + _length(head)
            if after > len(buffer):
                return None
            self._at, self._in_scan = after, head[1] == _SCAN_CODE

    def _cut(self, end: int) -> bytes:
        image = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._at, self._in_scan = 0, False
        return image


def _length(head: bytearray) -> int:
    """Length of a marker and its segment, if it has one."""
    code = head[1]
    if code == 0xFF:  # noqa: PLR2004 - fill
        return 1
    if code == 0x01 or 0xD0 <= code <= 0xD7:  # noqa: PLR2004 - markers without a segment
        return 2
    return 2 + int.from_bytes(head[2:4], "big")
