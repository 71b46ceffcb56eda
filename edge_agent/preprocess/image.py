"""From images to the model's input tensor: resize, colour order, normalise, quantise, layout."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_agent.preprocess.opencv import cv2
from edge_agent.preprocess.placement import Placement, Resize, center_square, place, resized_for_crop
from edge_agent.preprocess.regions import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

Color = Literal["rgb", "bgr", "gray"]
Layout = Literal["nhwc", "nchw"]

LETTERBOX_GRAY = 114
_FROM_BGR = {"rgb": cv2.COLOR_BGR2RGB, "gray": cv2.COLOR_BGR2GRAY}


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How images become the input tensor of a model.

    Attributes:
        height, width: of the input tensor, in pixels.
        resize: how an image of another size is fitted.
        color: channel order of the tensor.
        layout: axis order of the tensor.
        dtype: numpy name of the tensor's type.
        mean, std: one value, or one per channel: tensor = (pixel - mean) / std, pixel in 0..255. For a quantised input
            they include its scale and zero point.
        reduced_decoding: whether an image may be reduced before it is resized.
        channelless: whether the tensor has no axis for its one channel.
        crop: for `center_crop`: see `fit`.
        crops_unasked: whether it crops because models like this one usually do, and nothing states it.
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
    channelless: bool = False
    crop: float = 1.0
    crops_unasked: bool = field(default=False, compare=False)
    # Lookup table (256, channels) of pixel levels: several times as fast as arithmetic on each pixel.
    _values: "NDArray[Any]" = field(init=False, repr=False, compare=False)
    _are_pixels: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        mean, std = (np.asarray(values, np.float32) for values in (self.mean, self.std))
        levels = np.arange(256, dtype=np.float32)[:, np.newaxis].repeat(1 if self.color == "gray" else 3, axis=1)
        values = (levels - mean) * (1 / std)
        if np.issubdtype(self.dtype, np.integer):
            limits = np.iinfo(self.dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        object.__setattr__(self, "_values", values.astype(self.dtype))
        object.__setattr__(self, "_are_pixels", self.dtype == "uint8" and bool((values == levels).all()))

    def reduction(self, width: int, height: int) -> tuple[int, int]:
        """The factors, horizontal and vertical, by which an image may be reduced before it is resized.

        The reduced image is at least as large as the model's input. Both are equal where the aspect ratio must stay.

        Args:
            width: of the image, in pixels.
            height: of the image, in pixels.
        """
        if not self.reduced_decoding:
            return 1, 1
        if self.resize == "center_crop":
            width, height = int(width * self.crop), int(height * self.crop)
        across, down = max(1, width // self.width), max(1, height // self.height)
        if self.resize == "stretch":
            return across, down
        both = max(across, down) if self.resize == "letterbox" else min(across, down)
        return both, both

    def __call__(self, images: Sequence["NDArray[np.uint8]"], *, reduced: bool = False) -> "NDArray[Any]":
        """The input tensor of a batch.

        Args:
            images: each (height, width, 3), uint8, BGR, of any size.
            reduced: whether they have been reduced; a cheaper interpolation is then good enough.

        Returns:
            (batch, height, width, channels), (batch, channels, height, width) or (batch, height, width), of `dtype`.
        """
        if len(images) == 1:
            tensor = self._one(images[0], reduced=reduced)[np.newaxis]  # np.stack would copy it
        else:
            tensor = np.stack([self._one(image, reduced=reduced) for image in images])
        return tensor.reshape(-1, self.height, self.width) if self.channelless else tensor

    def place(self, view: View) -> Placement:
        """How coordinates of the model's input map to the image that a view is part of."""
        return place(
            view.region,
            (view.x, view.y),
            (view.pixels.shape[1], view.pixels.shape[0]),
            view.picture_size,
            (self.width, self.height),
            self.resize,
            view.reduced,
            self.crop,
        )

    def of_what_is_chosen(self) -> "Preprocess":
        """The same for regions and for what another model has found: nothing of those is cut off unasked."""
        return replace(self, resize="stretch", crop=1.0, crops_unasked=False) if self.crops_unasked else self

    def left_out(self, width: int, height: int) -> float:
        """The part of an image of this size that is cut off its longer side: 0 to 1."""
        if self.resize != "center_crop":
            return 0.0
        _, _, keep_x, keep_y = center_square(width, height, self.width, self.height)
        return 1 - keep_x * keep_y / (width * height)

    def blank(self, count: int) -> "tuple[NDArray[Any], list[Placement]]":
        """The input tensor of `count` black images and their placements, for warming up."""
        black = np.zeros((self.height, self.width, 3), np.uint8)
        view = View(None, 0, 0, black, (self.width, self.height))
        return self([black] * count), [self.place(view)] * count

    def _one(self, image: "NDArray[np.uint8]", *, reduced: bool) -> "NDArray[Any]":
        # Grey conversion before resizing (a third of the data to resize), colour swap after it (fewer pixels to swap).
        pixels = _from_bgr(image, "gray") if self.color == "gray" else image
        pixels = fit(pixels, self.width, self.height, self.resize, self.crop, reduced=reduced)
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
    pixels: "NDArray[np.uint8]", width: int, height: int, resize: Resize, crop: float = 1.0, *, reduced: bool = False
) -> "NDArray[np.uint8]":
    """Resizes an image to the size of the model's input.

    Args:
        pixels: (height, width) or (height, width, channels), uint8.
        width: of the model's input, in pixels.
        height: of the model's input, in pixels.
        resize: `stretch`; `letterbox`: keeps the aspect ratio, pads with grey right and below; `center_crop`: keeps the
            aspect ratio, cuts the longer side on both ends.
        crop: for `center_crop`: fraction of the shorter side that is kept. Below 1, the shorter side is resized to
            the input's, divided by this, and the middle is kept, as the models that need it were evaluated:
            https://github.com/pytorch/vision/blob/main/references/classification/presets.py.
        reduced: whether `pixels` has been reduced; a cheaper interpolation is then good enough.

    Returns:
        (height, width) or (height, width, channels), uint8.
    """
    rows, columns = pixels.shape[:2]
    if resize == "center_crop" and crop < 1:
        resized_x, resized_y = resized_for_crop(columns, rows, width, height, crop)
        pixels = _bilinear(pixels, resized_x, resized_y)
        x, y = (resized_x - width) // 2, (resized_y - height) // 2
        return np.ascontiguousarray(pixels[y : y + height, x : x + width])
    if resize == "center_crop":
        x, y, keep_x, keep_y = center_square(columns, rows, width, height)
        return _resized(pixels[y : y + keep_y, x : x + keep_x], width, height, reduced=reduced)
    if resize == "letterbox":
        scale = min(width / columns, height / rows)
        inner_x, inner_y = max(1, round(columns * scale)), max(1, round(rows * scale))
        canvas = np.full((height, width, *pixels.shape[2:]), LETTERBOX_GRAY, np.uint8)
        canvas[:inner_y, :inner_x] = _resized(pixels, inner_x, inner_y, reduced=reduced)
        return canvas
    return _resized(pixels, width, height, reduced=reduced)


def _bilinear(pixels: "NDArray[np.uint8]", width: int, height: int) -> "NDArray[np.uint8]":
    """Resizes by bilinear interpolation; means of whole blocks before it, where that alone would skip pixels."""
    rows, columns = pixels.shape[:2]
    by = min(columns // width, rows // height)
    if by > 1:
        size = columns // by, rows // by
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return pixels if pixels.shape[:2] == (height, width) else np.asarray(cv2.resize(pixels, (width, height)), np.uint8)


def _resized(pixels: "NDArray[np.uint8]", width: int, height: int, *, reduced: bool) -> "NDArray[np.uint8]":
    rows, columns = pixels.shape[:2]
    if (columns, rows) == (width, height):
        return pixels
    shrinks = width <= columns and height <= rows
    if shrinks and reduced and columns < 2 * width and rows < 2 * height:
        # Bilinear to twice the size, then 2 x 2 means: close to INTER_AREA at less than half of the cost.
        pixels = np.asarray(cv2.resize(pixels, (2 * width, 2 * height)), np.uint8)
    return np.asarray(
        cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8
    )
