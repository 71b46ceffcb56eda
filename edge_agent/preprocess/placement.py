"""Where in a picture the items of a batch come from, and the way back from the model's input to that picture."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Resize = Literal["stretch", "letterbox", "center_crop"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where in the original picture one item of the batch comes from.

    Pixel of the picture = offset + (pixel of the model's input - pad) / scale. Coordinates are continuous: 0 is the
    left edge of the first pixel, 1 its right edge.

    Attributes:
        region: name of the region, None for the whole frame.
        width, height: of the original picture, in pixels.
        offset_x, offset_y: top left corner of the crop in the picture.
        crop_width, crop_height: size of the crop, in pixels of the picture; nothing is seen outside of it.
        scale_x, scale_y: input pixels for each picture pixel.
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
        """Points (N, 2) of x, y in input pixels as points of the picture, clipped to the crop and to the picture."""
        points = (points - np.array([self.pad_x, self.pad_y])) / np.array([self.scale_x, self.scale_y])
        points = np.clip(points, 0, np.array([self.crop_width, self.crop_height]))
        points = np.clip(points + np.array([self.offset_x, self.offset_y]), 0, np.array([self.width, self.height]))
        return points.astype(np.float32)

    def boxes_to_picture(self, boxes: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Boxes (N, 4) of x1, y1, x2, y2 in input pixels as boxes of the picture, clipped like points."""
        return self.to_picture(boxes.reshape(-1, 2)).reshape(-1, 4)


def place(
    region: str | None,
    offset: tuple[float, float],
    crop_size: tuple[int, int],
    picture_size: tuple[int, int],
    input_size: tuple[int, int],
    resize: Resize,
    reduced: tuple[int, int] = (1, 1),
) -> Placement:
    """The placement of a crop that `preprocess.fit` has brought to the model's input size.

    Args:
        region: name of the region, None for the whole frame.
        offset: x, y of the crop's top left corner in the picture.
        crop_size: width, height of the crop, as given to `fit`.
        picture_size: width, height of the picture.
        input_size: width, height of the model's input.
        resize: as given to `fit`.
        reduced: how many pixels of the picture, across and down, each pixel of the crop stands for.
    """
    (columns, rows), (width, height) = crop_size, input_size
    pad_x = pad_y = 0.0
    scale_x, scale_y = width / columns, height / rows
    # The same roundings as in `fit`: a letterboxed picture ends on whole pixels, a cut one begins on them.
    if resize == "letterbox":
        scale = min(scale_x, scale_y)
        inner_x, inner_y = max(1, round(columns * scale)), max(1, round(rows * scale))
        scale_x, scale_y = inner_x / columns, inner_y / rows
    elif resize == "center_crop":
        scale = max(scale_x, scale_y)
        keep_x, keep_y = min(columns, max(1, round(width / scale))), min(rows, max(1, round(height / scale)))
        scale_x, scale_y = width / keep_x, height / keep_y
        pad_x, pad_y = -((columns - keep_x) // 2) * scale_x, -((rows - keep_y) // 2) * scale_y
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
