"""From pictures to the model's input tensor: resize, colour order, normalise, quantise, layout."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_agent.preprocess.opencv import cv2
from edge_agent.preprocess.placement import Placement, Resize, place
from edge_agent.preprocess.regions import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
        reduced_decoding: whether a picture may be reduced before it is resized.
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
    # The value of each of the 256 levels of each channel: to look it up is several times as fast as to compute it.
    _values: "NDArray[Any]" = field(init=False, repr=False, compare=False)
    _are_pixels: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        mean, std = (np.asarray(values, np.float32) for values in (self.mean, self.std))
        levels = np.arange(256, dtype=np.float32)[:, np.newaxis].repeat(1 if self.color == "gray" else 3, axis=1)
        values = (levels - mean) * (1 / std)
        if self.dtype in ("uint8", "int8"):
            limits = np.iinfo(self.dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        object.__setattr__(self, "_values", values.astype(self.dtype))
        object.__setattr__(self, "_are_pixels", self.dtype == "uint8" and bool((values == levels).all()))

    def reduction(self, width: int, height: int) -> tuple[int, int]:
        """By how much, across and down, a picture may be reduced before it is resized.

        It stays as large as it goes into the model. Where its shape has to stay, both are the same.

        Args:
            width: of the picture, in pixels.
            height: likewise.
        """
        if not self.reduced_decoding:
            return 1, 1
        across, down = max(1, width // self.width), max(1, height // self.height)
        if self.resize == "stretch":
            return across, down
        both = max(across, down) if self.resize == "letterbox" else min(across, down)
        return both, both

    def __call__(self, images: Sequence["NDArray[np.uint8]"], *, reduced: bool = False) -> "NDArray[Any]":
        """The input tensor of a batch.

        Args:
            images: each (height, width, 3), uint8, BGR, of any size.
            reduced: whether they have been reduced, so that what is left to do may be done less exactly.

        Returns:
            (batch, height, width, channels) or (batch, channels, height, width), of the model's type.
        """
        if len(images) == 1:
            return self._one(images[0], reduced=reduced)[np.newaxis]  # stacked, it would be copied
        return np.stack([self._one(image, reduced=reduced) for image in images])

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

    def _one(self, image: "NDArray[np.uint8]", *, reduced: bool) -> "NDArray[Any]":
        # Grey before resizing (a third of the work), colour after it (fewer pixels to swap).
        pixels = _from_bgr(image, "gray") if self.color == "gray" else image
        pixels = fit(pixels, self.width, self.height, self.resize, reduced=reduced)
        if self.color == "rgb":
            pixels = _from_bgr(pixels, "rgb")
        if self.layout == "nhwc":
            values = pixels if self._are_pixels else np.asarray(cv2.LUT(pixels, self._values[np.newaxis]))
            return values.reshape(self.height, self.width, -1)
        planes = np.empty((self._values.shape[1], self.height, self.width), self.dtype)
        for plane, values, channel in zip(planes, self._values.T, cv2.split(pixels), strict=True):
            cv2.LUT(channel, np.ascontiguousarray(values), plane)
        return planes


def _from_bgr(pixels: "NDArray[np.uint8]", color: Color) -> "NDArray[np.uint8]":
    return np.asarray(cv2.cvtColor(pixels, _FROM_BGR[color]), np.uint8)


def fit(
    pixels: "NDArray[np.uint8]", width: int, height: int, resize: Resize, *, reduced: bool = False
) -> "NDArray[np.uint8]":
    """A picture at the size of the model's input.

    Args:
        pixels: (height, width) or (height, width, channels), uint8.
        width: wanted, in pixels.
        height: wanted, in pixels.
        resize: `stretch`; `letterbox`: keeps the aspect ratio, padded with grey right and below; `center_crop`: keeps
            it, cuts.
        reduced: whether it has been reduced, so that what is left to do may be done less exactly.
    """
    rows, columns = pixels.shape[:2]
    if resize == "center_crop":
        scale = max(width / columns, height / rows)
        keep_x = min(columns, max(1, round(width / scale)))
        keep_y = min(rows, max(1, round(height / scale)))
        x, y = (columns - keep_x) // 2, (rows - keep_y) // 2
        return _resized(pixels[y : y + keep_y, x : x + keep_x], width, height, reduced=reduced)
    if resize == "letterbox":
        scale = min(width / columns, height / rows)
        inner_x, inner_y = max(1, round(columns * scale)), max(1, round(rows * scale))
        canvas = np.full((height, width, *pixels.shape[2:]), LETTERBOX_GRAY, np.uint8)
        canvas[:inner_y, :inner_x] = _resized(pixels, inner_x, inner_y, reduced=reduced)
        return canvas
    return _resized(pixels, width, height, reduced=reduced)


def _resized(pixels: "NDArray[np.uint8]", width: int, height: int, *, reduced: bool) -> "NDArray[np.uint8]":
    rows, columns = pixels.shape[:2]
    if (columns, rows) == (width, height):
        return pixels
    shrinks = width <= columns and height <= rows
    if shrinks and reduced and columns < 2 * width and rows < 2 * height:
        # The mean of four interpolated pixels is nearly that of the area, at less than half of the cost.
        pixels = np.asarray(cv2.resize(pixels, (2 * width, 2 * height)), np.uint8)
    return np.asarray(
        cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8
    )
