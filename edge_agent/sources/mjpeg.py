"""Splits a stream of JPEG images, with or without multipart headers between them."""

from collections.abc import Iterator

from edge_agent.errors import InputError
from edge_agent.preprocess.jpeg import START, EndFinder

MAX_FRAME = 50_000_000
# Bytes between two images; headers of a multipart stream are much shorter.
_MAX_BETWEEN = 4096


class Mjpeg:
    """Splits a stream into JPEG images; see `StreamFormat`."""

    max_bytes_per_second = 200e6

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._image: EndFinder | None = None  # of the image at the head of the buffer; None: its start is not there yet
        self._between = 0

    def feed(self, data: bytes) -> Iterator[bytes | InputError]:
        """The images that these bytes complete, encoded; an error for data that is no image."""
        self._buffer += data
        while True:
            if self._image is None:
                if (trouble := self._find_start()) is not None:
                    yield trouble
                if self._image is None:
                    return
            match self._image.find(self._buffer):
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
        if self._image:
            yield InputError(f"the stream ended within a JPEG picture, after {len(self._buffer)} bytes of it")

    def _find_start(self) -> InputError | None:
        start = self._buffer.find(START)
        skipped = start if start >= 0 else max(0, len(self._buffer) - len(START) + 1)
        del self._buffer[:skipped]
        reported = self._between > _MAX_BETWEEN
        self._between += skipped
        if start >= 0:
            self._image, self._between = EndFinder(), 0
        if skipped and not reported and self._between > _MAX_BETWEEN:
            return InputError(f"{self._between} bytes without a JPEG picture in them")
        return None

    def _cut(self, end: int) -> bytes:
        image = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._image = None
        return image
