"""Masks to polygons and areas in the original image."""

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.preprocess.opencv import cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray

from edge_agent.preprocess.placement import Placement

Polygons = tuple[tuple[tuple[float, float], ...], ...]

# Bounds of a published outline: the largest parts and holes; simplified if it has very many points.
MAX_PARTS = 64
MAX_POINTS = 1000
_DETAIL = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_CORNERS = 3


def outline(mask: "NDArray[Any]", origin: tuple[int, int], placement: "Placement") -> Polygons:
    """The outline of a mask: a polygon for each part and for each hole.

    Filling them by the even-odd rule gives the mask, to about one pixel of the model's input.

    Args:
        mask: (height, width), bool, one value per pixel of the model's input.
        origin: x, y of the mask's first pixel in the model's input.
        placement: of the item.

    Returns:
        Polygons of points x, y in pixels of the image.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # The largest first, so that a hole is never published without its part.
    contours = sorted(contours, key=cv2.contourArea, reverse=True)[:MAX_PARTS]
    for detail in _DETAIL:
        parts = [part[:, 0] for part in (cv2.approxPolyDP(contour, detail, closed=True) for contour in contours)]
        parts = [part for part in parts if len(part) >= _CORNERS]
        if sum(map(len, parts)) <= MAX_POINTS:
            break
    # OpenCV's contours run through pixel centres.
    offset = np.array(origin, np.float32) + np.float32(0.5)
    return tuple(tuple(map(tuple, placement.to_picture(part + offset).tolist())) for part in parts)


def area(mask: "NDArray[Any]", placement: "Placement") -> int:
    """Area in image pixels of a mask (height, width), bool, in pixels of the model's input."""
    return round(int(np.count_nonzero(mask)) / (placement.scale_x * placement.scale_y))
