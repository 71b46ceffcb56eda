"""From pictures to the model's input tensor: resize, colour order, normalise, quantise, layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_agent.decoders.placement import Placement, place
from edge_agent.opencv import cv2
from edge_agent.regions import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

Resize = Literal["stretch", "letterbox", "center_crop"]
Color = Literal["rgb", "bgr", "gray"]
Layout = Literal["nhwc", "nchw"]

LETTERBOX_GRAY = 114
_FROM_BGR = {"rgb": cv2.COLOR_BGR2RGB, "gray": cv2.COLOR_BGR2GRAY}


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How one model wants its pictures.

    Attributes:
        height, width: of the input tensor, in pixels.
        resize: how a picture of another shape is fitted.
        color: channel order of the tensor.
        layout: order of its axes.
        dtype: numpy name of its type.
        mean, std: one value, or one a channel: tensor = (pixel - mean) / std, pixel in 0..255. With a quantised input
            these already lead to the quantised values.
        reduced_decoding: whether a picture may be reduced while it is decoded.
    """

    height: int
    width: int
    resize: Resize
    color: Color
    layout: Layout
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reduced_decoding: bool = True

    def reduction(self, width: int, height: int) -> int:
        """By how much a picture may be reduced while it is decoded: it stays as large as it goes into the model.

        Args:
            width: of the picture, in pixels.
            height: likewise.
        """
        if not self.reduced_decoding:
            return 1
        across, down = width // self.width, height // self.height
        return max(1, max(across, down) if self.resize == "letterbox" else min(across, down))

    def __call__(self, images: Sequence["NDArray[np.uint8]"]) -> "NDArray[Any]":
        """The input tensor of a batch.

        Args:
            images: each (height, width, 3), uint8, BGR, of any size.

        Returns:
            (batch, height, width, channels) or (batch, channels, height, width), of the model's type.
        """
        if len(images) == 1:
            return self._one(images[0])[np.newaxis]  # stacked, it would be copied
        return np.stack([self._one(image) for image in images])

    def place(self, view: View) -> Placement:
        """Where in its picture the input made of a view comes from."""
        return place(
            view.region,
            (view.x, view.y),
            (view.pixels.shape[1], view.pixels.shape[0]),
            view.picture_size,
            (self.width, self.height),
            self.resize,
            view.reduced,
        )

    def blank(self, count: int) -> "tuple[NDArray[Any], list[Placement]]":
        """Black pictures, to warm up with: the tensor of a batch, and where its items come from."""
        black = np.zeros((self.height, self.width, 3), np.uint8)
        view = View(None, 0, 0, black, (self.width, self.height))
        return self([black] * count), [self.place(view)] * count

    def _one(self, image: "NDArray[np.uint8]") -> "NDArray[Any]":
        # Grey before resizing (a third of the work), colour after it (fewer pixels to swap).
        pixels = _from_bgr(image, "gray") if self.color == "gray" else image
        pixels = fit(pixels, self.width, self.height, self.resize)
        if self.color == "rgb":
            pixels = _from_bgr(pixels, "rgb")
        pixels = pixels.reshape(self.height, self.width, -1)
        values = self._values(pixels)
        return values if self.layout == "nhwc" else np.ascontiguousarray(values.transpose(2, 0, 1))

    def _values(self, pixels: "NDArray[np.uint8]") -> "NDArray[Any]":
        if self.dtype == "uint8" and set(self.mean) == {0.0} and set(self.std) == {1.0}:
            return pixels
        if self.dtype == "int8" and set(self.mean) == {128.0} and set(self.std) == {1.0}:
            return (pixels ^ np.uint8(128)).view(np.int8)  # pixel - 128, in one pass
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        values = pixels.astype(np.float32)
        values -= mean
        values *= 1 / std
        if self.dtype in ("uint8", "int8"):
            limits = np.iinfo(self.dtype)
            np.clip(np.rint(values, out=values), limits.min, limits.max, out=values)
        return values.astype(self.dtype, copy=False)


def _from_bgr(pixels: "NDArray[np.uint8]", color: Color) -> "NDArray[np.uint8]":
    return np.asarray(cv2.cvtColor(pixels, _FROM_BGR[color]), np.uint8)


def fit(pixels: "NDArray[np.uint8]", width: int, height: int, resize: Resize) -> "NDArray[np.uint8]":
    """A picture at the size of the model's input.

    Args:
        pixels: (height, width) or (height, width, channels), uint8.
        width: wanted, in pixels.
        height: wanted, in pixels.
        resize: `stretch`; `letterbox`: keeps the aspect ratio, padded with grey right and below; `center_crop`: keeps
            it, cuts.
    """
    rows, columns = pixels.shape[:2]
    if resize == "center_crop":
        scale = max(width / columns, height / rows)
        keep_x = min(columns, max(1, round(width / scale)))
        keep_y = min(rows, max(1, round(height / scale)))
        x, y = (columns - keep_x) // 2, (rows - keep_y) // 2
        return _resized(pixels[y : y + keep_y, x : x + keep_x], width, height)
    if resize == "letterbox":
        scale = min(width / columns, height / rows)
        inner_x, inner_y = max(1, round(columns * scale)), max(1, round(rows * scale))
        canvas = np.full((height, width, *pixels.shape[2:]), LETTERBOX_GRAY, np.uint8)
        canvas[:inner_y, :inner_x] = _resized(pixels, inner_x, inner_y)
        return canvas
    return _resized(pixels, width, height)


def _resized(pixels: "NDArray[np.uint8]", width: int, height: int) -> "NDArray[np.uint8]":
    rows, columns = pixels.shape[:2]
    if (columns, rows) == (width, height):
        return pixels
    shrinks = width <= columns and height <= rows
    return np.asarray(
        cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8
    )
