"""What a sample holds, as bytes and back again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent import settings
from edge_agent.errors import InputError
from edge_agent.postprocess.filters import in_pixels
from edge_agent.preprocess.decoding import decode_picture, image_format
from edge_agent.preprocess.opencv import cv2
from edge_agent.sample_store.segment import StoreError
from edge_agent.samples import PlanarFrame, Prediction, Sample, Series
from edge_agent.settings.keep import Encoding
from edge_agent.settings.shapes import Polygon
from edge_agent.system import text

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEDIA = {"JPEG": "image/jpeg", "PNG": "image/png", "BMP": "image/bmp", "WebP": "image/webp"}
SERIES = "application/x-float32"
SOUND, TEXT, JSON = "audio/wav", "text/plain", "application/json"
UNKNOWN = "application/octet-stream"
# Blocks to which the width and height of a blurred box are reduced.
BLOCKS = 8
MAX_CHANNELS = 10_000


@dataclass(frozen=True, slots=True)
class Encoder:
    """How pictures that do not come encoded are encoded.

    Attributes:
        encoding: `jpeg` or `png`.
        quality: of `jpeg`, 1 to 100.
    """

    encoding: Encoding
    quality: int

    def __call__(self, image: "NDArray[np.uint8]") -> tuple[bytes, dict[str, Any]]:
        """A picture as a file, and facts about it.

        Args:
            image: (height, width, 3), uint8, BGR.

        Raises:
            InputError: it can't be encoded; a JPEG has at most 65535 pixels a side.
        """
        try:
            if self.encoding == "png":  # level 1: a third larger than level 6 at a fifth of the time
                done, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            else:
                done, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        except cv2.error as error:
            raise InputError(f"a frame can't be encoded: {error.err}") from None
        if not done:
            raise InputError("a frame can't be encoded")
        if self.encoding == "png":
            return encoded.tobytes(), {"media": "image/png", "exact": True}
        return encoded.tobytes(), {"media": "image/jpeg", "exact": False, "quality": self.quality}


def encode(data: "bytes | NDArray[np.uint8] | PlanarFrame | Series", encoder: Encoder) -> tuple[bytes, dict[str, Any]]:
    """What a sample holds, as bytes, and facts that `decode` needs.

    Facts: `media`; `frame`: whether it came as a frame; `exact`: whether `decode` gives back the same to the bit.

    Raises:
        InputError: a frame can't be encoded.
    """
    if isinstance(data, bytes):
        return data, {"media": media_of(data), "frame": False, "exact": True}
    if isinstance(data, Series):
        facts = {"shape": list(data.values.shape), "channels": list(data.channels), "rate": data.rate, "gap": data.gap}
        return data.values.astype("<f4").tobytes(), {"media": SERIES, "frame": False, "exact": True} | facts
    if isinstance(data, PlanarFrame):  # the road reduces it before its colours are converted
        encoded, facts = encoder(data.pixels())
        return encoded, facts | {"frame": True, "exact": False}
    encoded, facts = encoder(data)
    return encoded, facts | {"frame": True}


def media_of(data: bytes) -> str:
    """What kind of file the bytes of a message are."""
    if (found := image_format(data)) in MEDIA:
        return MEDIA[found]
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return SOUND
    try:
        words = "".join(text.decode(data).split())
    except text.TextError:
        return UNKNOWN
    if not words.isprintable() or not words:
        return UNKNOWN
    return JSON if data.lstrip()[:1] in (b"{", b"[") else TEXT


def decode(data: bytes, facts: Mapping[str, Any]) -> "bytes | NDArray[np.uint8] | Series":
    """What a sample has held.

    Raises:
        StoreError: the facts do not fit the data.
        InputError: a frame can't be decoded.
    """
    if facts.get("media") == SERIES:
        shape, channels, rate = facts.get("shape"), facts.get("channels"), facts.get("rate")
        sizes = shape if isinstance(shape, list) and all(isinstance(one, int) and one >= 0 for one in shape) else []
        if len(sizes) != len(("readings", "channels")) or math.prod(sizes) * 4 != len(data):
            raise StoreError(f"{len(data)} bytes are no readings of the shape {shape}")
        names = tuple(map(str, channels[:MAX_CHANNELS])) if isinstance(channels, list) else ()
        values = np.frombuffer(data, "<f4").reshape(sizes).astype(np.float32)
        return Series(values, names, float(rate) if isinstance(rate, int | float) else None, facts.get("gap") is True)
    return decode_picture(data).pixels if facts.get("frame") is True else data


class Redaction:
    """Makes parts of pictures unrecognizable.

    Args:
        blur: which boxes are blurred; None: none.
        mask: polygons that are painted black.
        encoder: encodes what has been changed.
    """

    def __init__(self, blur: "settings.keep.Blur | None", mask: Sequence[Polygon], encoder: Encoder) -> None:
        self._labels = frozenset(blur.labels if blur is not None else ())
        self._mask = mask
        self._encoder = encoder

    @property
    def is_on(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._labels or self._mask)

    def __call__(
        self, data: "bytes | NDArray[np.uint8] | PlanarFrame", predictions: Sequence[Prediction] | None
    ) -> tuple[bytes, dict[str, Any]]:
        """A picture without what is to be hidden, encoded again.

        Args:
            data: an encoded picture or a frame.
            predictions: what was found in it; None: the model has not seen it.

        Raises:
            InputError: it is not known what is to be hidden, or the picture can't be decoded.
        """
        if self._labels and predictions is None:
            raise InputError("what is to be blurred is not known: the model has given no result")
        if isinstance(data, PlanarFrame):
            pixels = data.pixels()
        else:
            pixels = decode_picture(data).pixels if isinstance(data, bytes) else data.copy()
        # A box is given twice where filters have left it as it was.
        hidden = {one.box for one in predictions or () if one.box is not None and one.name in self._labels}
        for box in hidden:
            _blur(pixels, box)
        height, width = pixels.shape[:2]
        for polygon in self._mask:
            corners = np.asarray(in_pixels(polygon, width, height), np.float64).round().astype(np.int32)
            cv2.fillPoly(pixels, [corners], (0, 0, 0))
        encoded, facts = self._encoder(pixels)
        changed = {"blurred": len(hidden), "masked": len(self._mask)}
        return encoded, facts | {"frame": not isinstance(data, bytes), "exact": False} | changed


def _blur(pixels: "NDArray[np.uint8]", box: tuple[float, float, float, float]) -> None:
    """Reduces a box to `BLOCKS` x `BLOCKS` means of its pixels, which nothing can be restored from."""
    height, width = pixels.shape[:2]
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    if right <= left or bottom <= top:
        return
    part = pixels[top:bottom, left:right]
    small = cv2.resize(part, (min(BLOCKS, right - left), min(BLOCKS, bottom - top)), interpolation=cv2.INTER_AREA)
    pixels[top:bottom, left:right] = cv2.resize(small, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)


def size_of(sample: Sample) -> int:
    """Bytes that a sample takes in memory."""
    data = sample.data
    if isinstance(data, bytes):
        return len(data)
    if isinstance(data, Series):
        return int(data.values.nbytes)
    if isinstance(data, PlanarFrame):
        return data.size[0] * data.size[1] * 3 // 2
    return 0 if isinstance(data, InputError) else int(data.nbytes)
