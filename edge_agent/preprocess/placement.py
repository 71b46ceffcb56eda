"""How coordinates of the model's input map back to the original image."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Resize = Literal["stretch", "letterbox", "center_crop"]


def center_square(columns: int, rows: int, width: int, height: int) -> tuple[int, int, int, int]:
    """The largest part in the middle of an image that has the aspect ratio of the model's input: x, y, width, height.

    Args:
        columns: width of the image, in pixels.
        rows: height of the image, in pixels.
        width: of the model's input, in pixels.
        height: of the model's input, in pixels.
    """
    scale = max(width / columns, height / rows)
    keep_x, keep_y = min(columns, max(1, round(width / scale))), min(rows, max(1, round(height / scale)))
    return (columns - keep_x) // 2, (rows - keep_y) // 2, keep_x, keep_y


def resized_for_crop(columns: int, rows: int, width: int, height: int, crop: float) -> tuple[int, int]:
    """The size to which an image is resized of which then the middle is kept, as large as the model's input.

    Args:
        columns: see `center_square`.
        rows: see `center_square`.
        width: see `center_square`.
        height: see `center_square`.
        crop: the part that is kept of the shorter side, below 1.
    """
    scale = max(width / columns, height / rows) / crop
    return max(width, round(columns * scale)), max(height, round(rows * scale))


@dataclass(frozen=True, slots=True)
class Placement:
    """The part of the original image that one item of a batch shows.

    Image coordinate = offset + (input coordinate - pad) / scale. Coordinates are continuous: 0 is the left edge of the
    first pixel, 1 its right edge.

    Attributes:
        region: name of the region, None for the whole frame.
        width, height: of the original image, in pixels.
        offset_x, offset_y: top left corner of the crop in the image, in image pixels.
        crop_width, crop_height: size of the crop, in image pixels. Results are clipped to it.
        scale_x, scale_y: input pixels per image pixel.
        pad_x, pad_y: input pixels left of and above the crop: 0, or negative where it was cut (center_crop).
    """

    region: str | None
    width: int
    height: int
    offset_x: float
    offset_y: float
    crop_width: float
    crop_height: float
    scale_x: float
    scale_y: float
    pad_x: float
    pad_y: float

    def to_picture(self, points: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Maps points from the model's input to the image.

        Args:
            points: (N, 2), x, y in input pixels.

        Returns:
            (N, 2), float32, x, y in image pixels, clipped to the crop and to the image.
        """
        points = (points - np.array([self.pad_x, self.pad_y])) / np.array([self.scale_x, self.scale_y])
        points = np.clip(points, 0, np.array([self.crop_width, self.crop_height]))
        points = np.clip(points + np.array([self.offset_x, self.offset_y]), 0, np.array([self.width, self.height]))
        return points.astype(np.float32)

    def boxes_to_picture(self, boxes: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Maps boxes from the model's input to the image.

        Args:
            boxes: (N, 4), x1, y1, x2, y2 in input pixels.

        Returns:
            (N, 4), float32, x1, y1, x2, y2 in image pixels, clipped to the crop and to the image.
        """
        return self.to_picture(boxes.reshape(-1, 2)).reshape(-1, 4)


def place(
    region: str | None,
    offset: tuple[float, float],
    crop_size: tuple[int, int],
    picture_size: tuple[int, int],
    input_size: tuple[int, int],
    resize: Resize,
    reduced: tuple[int, int] = (1, 1),
    crop: float = 1.0,
) -> Placement:
    """The placement of a crop that `image.fit` has resized to the model's input.

    Args:
        region: name of the region, None for the whole frame.
        offset: x, y of the crop's top left corner in the image, in image pixels.
        crop_size: width, height of the crop as passed to `fit`, in its own (maybe reduced) pixels.
        picture_size: width, height of the image, in pixels.
        input_size: width, height of the model's input, in pixels.
        resize: as passed to `fit`.
        reduced: factors, horizontal and vertical, by which the crop was reduced before `fit`.
        crop: as passed to `fit`.
    """
    (columns, rows), (width, height) = crop_size, input_size
    pad_x = pad_y = 0.0
    scale_x, scale_y = width / columns, height / rows
    # The same rounding as in `fit`: a letterboxed image ends on a whole pixel, a cropped one begins on one.
    if resize == "letterbox":
        scale = min(scale_x, scale_y)
        inner_x, inner_y = max(1, round(columns * scale)), max(1, round(rows * scale))
        scale_x, scale_y = inner_x / columns, inner_y / rows
    elif resize == "center_crop" and crop < 1:
        resized_x, resized_y = resized_for_crop(columns, rows, width, height, crop)
        scale_x, scale_y = resized_x / columns, resized_y / rows
        pad_x, pad_y = -float((resized_x - width) // 2), -float((resized_y - height) // 2)
    elif resize == "center_crop":
        x, y, keep_x, keep_y = center_square(columns, rows, width, height)
        scale_x, scale_y = width / keep_x, height / keep_y
        pad_x, pad_y = -x * scale_x, -y * scale_y
    return Placement(
        region=region,
        width=picture_size[0],
        height=picture_size[1],
        offset_x=offset[0],
        offset_y=offset[1],
        crop_width=columns * reduced[0],
        crop_height=rows * reduced[1],
        scale_x=scale_x / reduced[0],
        scale_y=scale_y / reduced[1],
        pad_x=pad_x,
        pad_y=pad_y,
    )
