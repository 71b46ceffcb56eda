"""Where a JPEG image ends, found by its markers (ITU-T T.81, annex B, https://www.w3.org/Graphics/JPEG/itu-t81.pdf).

Searching for the end marker alone does not do: an embedded thumbnail has one of its own, within a segment of stated
length, and behind the image a phone may have put a video. In compressed data, a byte 0xFF is followed by a zero.
"""

import re

START = b"\xff\xd8\xff"
_END = b"\xff\xd9"
_START_CODE, _SCAN_CODE = 0xD8, 0xDA
# A marker, the length of its segment, and one more byte.
_HEAD = 5
# In compressed data: a marker, but not a stuffed zero, a restart marker or a fill byte.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class EndFinder:
    """Finds the end of one image, whose bytes may come in pieces."""

    def __init__(self) -> None:
        self._at = 2  # how far the image has been parsed
        self._in_scan = False

    def find(self, image: bytes | bytearray) -> tuple[int, bool] | None:
        """Offset of the image's end, and whether it is complete; None: it goes on beyond these bytes.

        Args:
            image: all bytes of the image so far, from its start marker; more of them at each call.
        """
        while True:
            if self._in_scan:
                found = _MARKER_IN_SCAN.search(image, self._at)
                if found is None:
                    self._at = max(self._at, len(image) - 1)
                    return None
                self._at, self._in_scan = found.start(), False
            head = image[self._at : self._at + _HEAD]
            if head.startswith(_END):
                return self._at + len(_END), True
            if len(head) < _HEAD:
                return None
            if head[0] != 0xFF or head[1] == _START_CODE:  # noqa: PLR2004 - how markers begin
                return self._at, False
            if head[2:] == START:  # truncated just before a length
                return self._at + 2, False
            after = self._at + _length(head)
            if after > len(image):
                return None
            self._at, self._in_scan = after, head[1] == _SCAN_CODE


def _length(head: bytes | bytearray) -> int:
    """Length of a marker and its segment, if it has one."""
    code = head[1]
    if code == 0xFF:  # noqa: PLR2004 - fill
        return 1
    if code == 0x01 or 0xD0 <= code <= 0xD7:  # noqa: PLR2004 - markers without a segment
        return 2
    return 2 + int.from_bytes(head[2:4], "big")
