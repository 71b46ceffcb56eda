"""Encoded images to pixels, with every bound checked on the header, before anything is allocated."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import imagesize
import numpy as np

from edge_agent.errors import InputError
from edge_agent.preprocess.opencv import MAX_PIXELS, cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIGNATURES = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "BMP": b"BM"}
_MARKER, _JPEG_SCAN, _JPEG_END, _EXIF = b"\xff", b"\xff\xda", b"\xff\xd9", b"Exif\0\0"
# What the decoder of a JPEG can make of it: all of its pixels, or the averages of so many, across and down.
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}

# Width and height of a picture -> by how much it may be reduced, across and down; by the same if both are the same.
Reduction = Callable[[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels, all that an image has or fewer.

    Attributes:
        pixels: (height, width, 3), uint8, BGR, upright.
        size: width, height of the image.
        reduced: how many pixels of the image, across and down, each of `pixels` stands for; the last ones of a row or
            column may stand for fewer.
    """

    pixels: "NDArray[np.uint8]"
    size: tuple[int, int]
    reduced: tuple[int, int] = (1, 1)


def image_format(data: bytes) -> str | None:
    """`JPEG`, `PNG`, `BMP` or `WebP`, told by the first bytes; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((name for name, signature in _SIGNATURES.items() if data.startswith(signature)), None)


def decode_picture(data: bytes, reduction: Reduction | None = None) -> Picture:
    """An encoded image as a picture, turned upright as EXIF says.

    Args:
        data: of a JPEG, PNG, BMP or WebP image.
        reduction: by how much it may be reduced, if at all. A JPEG's decoder reduces at little cost: it computes the
            averages from the file's coefficients, and the single pixels never (libjpeg's scaled decoding).

    Raises:
        InputError: not a JPEG, PNG, BMP or WebP image, larger than `MAX_PIXELS`, or damaged.
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
    if width * height > MAX_PIXELS:
        raise InputError(
            f"the {kind} image is {width} x {height} pixels: at most {MAX_PIXELS // 1_000_000} megapixels are decoded"
        )
    by = _reduced(data, width, height, min(reduction(width, height))) if reduction and kind == "JPEG" else 1
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED.get(by, cv2.IMREAD_COLOR))
    except cv2.error as error:
        raise InputError(f"the {kind} image can't be decoded: {error.err}") from None
    # OpenCV before version 5 makes up the missing part of a JPEG.
    if image is None or (kind == "JPEG" and not _is_complete(data)):
        raise InputError(f"the {kind} image ({width} x {height} pixels, {len(data)} bytes) is cut off or damaged")
    pixels = np.asarray(image, np.uint8)
    turned = by == 1 or _has_exif(data)
    return Picture(pixels, (pixels.shape[1] * by, pixels.shape[0] * by) if turned else (width, height), (by, by))


def reduce_pixels(pixels: "NDArray[np.uint8]", reduction: Reduction | None = None) -> Picture:
    """Pixels as a picture, halved, across and down, as often as may be and comes out even.

    Args:
        pixels: (height, width, 3), uint8, BGR.
        reduction: by how much it may be reduced, if at all.
    """
    rows, columns = pixels.shape[:2]
    size = columns, rows
    most_across, most_down = reduction(*size) if reduction else (1, 1)
    across = down = 1
    while True:
        narrower = 2 * across <= most_across and columns % 2 == 0
        lower = 2 * down <= most_down and rows % 2 == 0
        if not (narrower or lower) or (most_across == most_down and narrower != lower):
            return Picture(pixels, size, (across, down))
        across, down = across << narrower, down << lower
        columns, rows = columns >> narrower, rows >> lower
        # What OpenCV interpolates in the middle between pixels is their mean.
        pixels = np.asarray(cv2.resize(pixels, (columns, rows)), np.uint8)


def _is_complete(jpeg: bytes) -> bool:
    """Whether its end is there: the one after the last scan, since a thumbnail in the header has one too."""
    end = jpeg.rfind(_JPEG_END)
    return end >= 0 and jpeg.find(_JPEG_SCAN, end) < 0


def _has_exif(jpeg: bytes) -> bool:
    """Whether there is an EXIF segment before the first scan, or there may be: the segments can't be followed."""
    at = 2
    while jpeg[at : at + 1] == _MARKER and jpeg[at : at + 2] != _JPEG_SCAN:
        if jpeg[at + 4 : at + 10] == _EXIF:
            return True
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return jpeg[at : at + 2] != _JPEG_SCAN


def _reduced(data: bytes, width: int, height: int, most: int) -> int:
    """By how much a JPEG is reduced: one of `_REDUCED`, or 1."""
    # The last row and column may stand for less than the others. If EXIF turns the picture, they may come to lie left
    # or above, and everything would seem to have moved: then only what goes without a remainder.
    turned = _has_exif(data)
    return next((by for by in _REDUCED if by <= most and not (turned and (width % by or height % by))), 1)
