"""Named rectangles of a frame, each looked at by itself."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edge_agent.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Rectangle = tuple[float, float, float, float]


class Regions:
    """Cuts a frame into its regions.

    Args:
        rectangles: [x1, y1, x2, y2] by name; in pixels, or, if no number is above 1, in fractions of the frame. None of
            them: the whole frame, without a name.
    """

    def __init__(self, rectangles: Mapping[str, Rectangle]) -> None:
        self._rectangles = rectangles

    def cut(self, frame: "NDArray[np.uint8]") -> "tuple[list[str | None], list[NDArray[np.uint8]]]":
        """The names and the crops, in the order of the settings; crops are views of the frame.

        Raises:
            InputError: the frame is smaller than a region needs.
        """
        if not self._rectangles:
            return [None], [frame]
        return list(self._rectangles), [_crop(frame, name, box) for name, box in self._rectangles.items()]


def _crop(frame: "NDArray[np.uint8]", name: str, rectangle: Rectangle) -> "NDArray[np.uint8]":
    height, width = frame.shape[:2]
    if max(rectangle) <= 1:
        rectangle = (rectangle[0] * width, rectangle[1] * height, rectangle[2] * width, rectangle[3] * height)
    x1, y1, x2, y2 = (round(edge) for edge in rectangle)
    if x2 > width or y2 > height:
        raise InputError(f"region {name!r} reaches to ({x2}, {y2}), the frame has only {width} x {height} pixels")
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    return frame[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
