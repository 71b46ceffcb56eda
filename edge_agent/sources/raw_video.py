"""Raw video: frames of a known size and pixel format, one after the other."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import InputError
from edge_agent.preprocess.opencv import cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pixel format -> rows of bytes per row of pixels, bytes per pixel of such a row, OpenCV's conversion to BGR. yuv420p is
# one plane of full size and two of a quarter.
_LAYOUTS = {
    "bgr24": (1.0, 3, None),
    "rgb24": (1.0, 3, cv2.COLOR_RGB2BGR),
    "gray8": (1.0, 1, cv2.COLOR_GRAY2BGR),
    "yuv420p": (1.5, 1, cv2.COLOR_YUV2BGR_I420),
}


class RawVideo:
    """Splits a stream into frames (height, width, 3), uint8, BGR; see `StreamFormat`.

    Args:
        width: in pixels; even for yuv420p.
        height: in pixels; even for yuv420p.
        pixel_format: a key of `_LAYOUTS`, named as in FFmpeg.
    """

    max_bytes_per_second = 2e9

    def __init__(self, width: int, height: int, pixel_format: str) -> None:
        rows, depth, self._conversion = _LAYOUTS[pixel_format]
        self._shape = (round(height * rows), width, depth)
        self._size = round(height * rows) * width * depth
        self._buffer = bytearray()

    def feed(self, data: bytes) -> "Iterator[NDArray[np.uint8]]":
        """The frames that these bytes complete."""
        self._buffer += data
        while len(self._buffer) >= self._size:
            pixels = np.frombuffer(bytes(self._buffer[: self._size]), np.uint8).reshape(self._shape)
            del self._buffer[: self._size]
            yield pixels if self._conversion is None else np.asarray(cv2.cvtColor(pixels, self._conversion), np.uint8)

    def end(self) -> Iterator[InputError]:
        """An error if the stream ended within a frame."""
        if self._buffer:
            yield InputError(
                f"the stream ended within a frame, after {len(self._buffer)} of {self._size} bytes: "
                "are width, height and pixel_format what the program writes?"
            )
