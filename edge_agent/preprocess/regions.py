"""Named rectangles of a frame, each of which goes into the model by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class View:
    """An image, or a part of one, that goes into the model.

    Attributes:
        region: name of the region; None for the whole image.
        x, y: upper left corner in the image, in image pixels.
        pixels: (height, width, 3), uint8, BGR; shares memory with the image.
        picture_size: width, height of the image, in pixels.
        reduced: factors, horizontal and vertical, by which `pixels` was reduced.
    """

    region: str | None
    x: int
    y: int
    pixels: "NDArray[np.uint8]"
    picture_size: tuple[int, int]
    reduced: tuple[int, int] = (1, 1)


class Regions:
    """Cuts a frame into its regions.

    Args:
        rectangles: x1, y1, x2, y2 by name, in pixels or, if no number is above 1, in fractions of the frame. Empty: the
            whole frame, without a name.
    """

    def __init__(self, rectangles: Mapping[str, Rectangle]) -> None:
        self._rectangles = rectangles

    def cut(self, frame: "NDArray[np.uint8]") -> list[View]:
        """The regions of a frame, in the order of the settings.

        Args:
            frame: (height, width, 3), uint8, BGR.

        Raises:
            InputError: a region reaches beyond the frame.
        """
        if not self._rectangles:
            return [View(None, 0, 0, frame, (frame.shape[1], frame.shape[0]))]
        return [_crop(frame, name, rectangle) for name, rectangle in self._rectangles.items()]


def _crop(frame: "NDArray[np.uint8]", name: str, rectangle: Rectangle) -> View:
    height, width = frame.shape[:2]
    if max(rectangle) <= 1:
        rectangle = (rectangle[0] * width, rectangle[1] * height, rectangle[2] * width, rectangle[3] * height)
    x1, y1, x2, y2 = (round(edge) for edge in rectangle)
    if x2 > width or y2 > height:
        raise InputError(f"region {name!r} reaches to ({x2}, {y2}), the frame has only {width} x {height} pixels")
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    return View(name, x1, y1, frame[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)], (width, height))
