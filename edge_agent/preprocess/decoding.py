"""Decodes images. Limits are checked on the header, before memory for the pixels is allocated."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import imagesize
import numpy as np

from edge_agent.errors import InputError
from edge_agent.preprocess.jpeg import EndFinder
from edge_agent.preprocess.opencv import MAX_PIXELS, cv2
from edge_agent.samples import PlanarFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIGNATURES = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "BMP": b"BM"}
# Image formats that are refused, by their first bytes: OpenCV reads some of them, but not everywhere.
_OTHERS = {
    "GIF": (b"GIF8",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "JPEG 2000": (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    "JPEG XL": (b"\0\0\0\x0cJXL ", b"\xff\x0a"),
    "PDF": (b"%PDF-",),
    "SVG": (b"<svg",),
    "Base64-encoded": (b"/9j/", b"iVBORw0KGgo", b"data:image/"),
}
# Kinds of files of the ISO base media format, by their brands, https://mp4ra.org/registered-types/brands
_BRANDS = {"AVIF": (b"avif", b"avis"), "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")}
_HINTS = {
    "HEIC": ": set the phone's camera to JPEG (iPhone: Settings, Camera, Formats, Most Compatible)",
    "Base64-encoded": ": send the bytes of the image themselves",
}
_MARKER, _JPEG_SCAN, _JPEG_END, _EXIF = b"\xff", b"\xff\xda", b"\xff\xd9", b"Exif\0\0"
# Factors of OpenCV's scaled JPEG decoding.
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}

# Width, height of an image in pixels -> the largest factors, horizontal and vertical, by which it may be reduced. If
# they are equal, the aspect ratio must stay.
Reduction = Callable[[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image, in full or reduced resolution.

    Attributes:
        pixels: (height, width, 3), uint8, BGR, upright.
        size: width, height of the full image in pixels.
        reduced: factors, horizontal and vertical, by which `pixels` is smaller than the full image. The last pixel of a
            row or column may cover less than a full block.
    """

    pixels: "NDArray[np.uint8]"
    size: tuple[int, int]
    reduced: tuple[int, int] = (1, 1)


def image_format(data: bytes) -> str | None:
    """`JPEG`, `PNG`, `BMP` or `WebP`, derived from the first bytes; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((name for name, signature in _SIGNATURES.items() if data.startswith(signature)), None)


def _described(data: bytes) -> str:
    """What a file is that is not accepted, and what to do."""
    name = next((name for name, starts in _OTHERS.items() if data.startswith(starts)), "")
    if data[4:8] == b"ftyp":
        length = min(max(int.from_bytes(data[:4], "big"), 16), 256)
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, length, 4))}
        name = next((name for name, known in _BRANDS.items() if not brands.isdisjoint(known)), "")
        if not name:
            return "it is a video (MP4 or MOV)"
    if not name:
        return f"starts with {data[:8].hex(' ')}"
    return f"it is {'an' if name[0] in 'AS' else 'a'} {name} image{_HINTS.get(name, '')}"


def decode_picture(data: bytes, reduction: Reduction | None = None) -> Picture:
    """Decodes an image and rotates it as its EXIF orientation says.

    Args:
        data: a JPEG, PNG, BMP or WebP file.
        reduction: by how much it may be reduced; None: not at all. Only JPEGs are reduced: libjpeg's scaled decoding
            computes block averages from the coefficients, without the single pixels, at little cost.

    Raises:
        InputError: not a JPEG, PNG, BMP or WebP image, larger than `MAX_PIXELS`, or damaged.
    """
    if not data:
        raise InputError("the image is empty: 0 bytes")
    kind = image_format(data)
    if kind is None:
        raise InputError(f"not a JPEG, PNG, BMP or WebP image: {_described(data)}, {len(data)} bytes")
    try:
        width, height = imagesize.get(io.BytesIO(data))
    except Exception as error:  # noqa: BLE001 - a parser error on hostile bytes must cost this input only
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
    # OpenCV before version 5 fills the missing part of a truncated JPEG.
    if image is None or (kind == "JPEG" and not _is_complete(data)):
        raise InputError(f"the {kind} image ({width} x {height} pixels, {len(data)} bytes) is cut off or damaged")
    pixels = np.asarray(image, np.uint8)
    turned = by == 1 or _has_exif(data)
    return Picture(pixels, (pixels.shape[1] * by, pixels.shape[0] * by) if turned else (width, height), (by, by))


def reduce_pixels(pixels: "NDArray[np.uint8]", reduction: Reduction | None = None) -> Picture:
    """Halves width and height as often as `reduction` allows and they are even.

    Args:
        pixels: (height, width, 3), uint8, BGR.
        reduction: by how much it may be reduced; None: not at all.
    """
    size = columns, rows = pixels.shape[1], pixels.shape[0]
    by = (1, 1)
    for across, down in _halvings(size, reduction):
        by = across, down
        # At half the size, bilinear interpolation is the mean of 2 x 2 pixels.
        pixels = np.asarray(cv2.resize(pixels, (columns // across, rows // down)), np.uint8)
    return Picture(pixels, size, by)


def convert_frame(frame: PlanarFrame, reduction: Reduction | None = None) -> Picture:
    """Converts the colours of a video's frame, which is reduced as `reduce_pixels` does, but before that.

    Args:
        frame: as its decoder leaves it.
        reduction: by how much it may be reduced; None: not at all.
    """
    *_, by = [(1, 1), *_halvings(frame.size, reduction)]
    return Picture(frame.pixels(*by), frame.size, by)


def pixels_of(data: object) -> "NDArray[np.uint8] | None":
    """The picture that an input is, at its full size: (height, width, 3), uint8, BGR; None where it is none.

    Args:
        data: of a sample.
    """
    if isinstance(data, PlanarFrame):
        return convert_frame(data).pixels
    if isinstance(data, bytes):
        try:
            return decode_picture(data).pixels
        except InputError:
            return None
    return data if isinstance(data, np.ndarray) and data.ndim == len(("rows", "columns", "colours")) else None


def _halvings(size: tuple[int, int], reduction: Reduction | None) -> Iterator[tuple[int, int]]:
    """The factors after each step, as long as width and height are even and `reduction` allows it."""
    columns, rows = size
    most_across, most_down = reduction(*size) if reduction else (1, 1)
    across = down = 1
    while True:
        narrower = 2 * across <= most_across and columns % 2 == 0
        lower = 2 * down <= most_down and rows % 2 == 0
        if not (narrower or lower) or (most_across == most_down and narrower != lower):
            return
        across, down = across << narrower, down << lower
        columns, rows = columns >> narrower, rows >> lower
        yield across, down


def _is_complete(jpeg: bytes) -> bool:
    """Whether there is an end-of-image marker after the last scan; an embedded thumbnail has one of its own."""
    end = jpeg.rfind(_JPEG_END)
    if end >= 0 and jpeg.find(_JPEG_SCAN, end) < 0:
        return True
    # Either it is cut off, or more is behind it, as the video of a phone's Motion Photo.
    found = EndFinder().find(jpeg)
    return found is not None and found[1]


def _has_exif(jpeg: bytes) -> bool:
    """Whether there is an EXIF segment before the first scan. True as well if the segments can't be parsed."""
    at = 2
    while jpeg[at : at + 1] == _MARKER and jpeg[at : at + 2] != _JPEG_SCAN:
        if jpeg[at + 4 : at + 10] == _EXIF:
            return True
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return jpeg[at : at + 2] != _JPEG_SCAN


def _reduced(data: bytes, width: int, height: int, most: int) -> int:
    """The factor by which a JPEG is reduced: one of `_REDUCED`, or 1."""
    # The last row and column may cover partial blocks. If EXIF rotates the image, these may end up left or on top and
    # shift all coordinates, so then only factors without a remainder are used.
    turned = _has_exif(data)
    return next((by for by in _REDUCED if by <= most and not (turned and (width % by or height % by))), 1)
