"""Encoded images to pixels, with every bound checked on the header, before anything is allocated."""

import io
from typing import TYPE_CHECKING

import imagesize
import numpy as np

from edge_agent.errors import InputError
from edge_agent.opencv import MAX_PIXELS, cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIGNATURES = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "BMP": b"BM"}
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"


def image_format(data: bytes) -> str | None:
    """`JPEG`, `PNG`, `BMP` or `WebP`, told by the first bytes; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((name for name, signature in _SIGNATURES.items() if data.startswith(signature)), None)


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> "NDArray[np.uint8]":
    """Pixels of an encoded image, of shape (height, width, 3), uint8, BGR, turned upright as EXIF says.

    Raises:
        InputError: not a JPEG, PNG, BMP or WebP image, larger than `max_pixels`, or damaged.
    """
    if not data:
        raise InputError("the image is empty: 0 bytes")
    kind = image_format(data)
    if kind is None:
        raise InputError(f"not a JPEG, PNG, BMP or WebP image: starts with {data[:8].hex(' ')}, {len(data)} bytes")
    try:
        width, height = imagesize.get(io.BytesIO(data))
    except Exception as error:  # noqa: BLE001 - a parser at a loss over hostile bytes must not cost more than the input
        raise InputError(f"the {kind} image's header is damaged: {error}") from None
    if width <= 0 or height <= 0:
        raise InputError(f"the {kind} image's header is damaged: it states no size")
    if width * height > max_pixels:
        raise InputError(
            f"the {kind} image is {width} x {height} pixels: at most {max_pixels // 1_000_000} megapixels are decoded"
        )
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"the {kind} image can't be decoded: {error.err}") from None
    # OpenCV before version 5 makes up the missing part of a JPEG. Its end is the one after the last scan: a thumbnail
    # in the header has one too.
    if image is None or (kind == "JPEG" and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN)):
        raise InputError(f"the {kind} image ({width} x {height} pixels, {len(data)} bytes) is cut off or damaged")
    return np.asarray(image, np.uint8)
