"""Masks as outlines and areas of the original picture."""

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.preprocess.opencv import cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray

from edge_agent.preprocess.placement import Placement

Polygons = tuple[tuple[tuple[float, float], ...], ...]

# A published outline is bounded: the largest parts and holes, and coarser where it has very many corners.
MAX_PARTS = 64
MAX_POINTS = 1000
_DETAIL = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_CORNERS = 3


def outline(mask: "NDArray[Any]", origin: tuple[int, int], placement: "Placement") -> Polygons:
    """The outline of a mask in pixels of the picture: a polygon for each part and for each hole.

    Filling them by the even-odd rule gives the mask, to about a pixel of the model's input.

    Args:
        mask: (height, width) bool, one value a pixel of the model's input.
        origin: x, y of its first pixel in the model's input.
        placement: of the item.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # The largest first: so no hole is told without what it is a hole in.
    contours = sorted(contours, key=cv2.contourArea, reverse=True)[:MAX_PARTS]
    for detail in _DETAIL:
        parts = [part[:, 0] for part in (cv2.approxPolyDP(contour, detail, closed=True) for contour in contours)]
        parts = [part for part in parts if len(part) >= _CORNERS]
        if sum(map(len, parts)) <= MAX_POINTS:
            break
    # Contours run through the centres of pixels.
    offset = np.array(origin, np.float32) + np.float32(0.5)
    return tuple(tuple(map(tuple, placement.to_picture(part + offset).tolist())) for part in parts)


def area(mask: "NDArray[Any]", placement: "Placement") -> int:
    """Pixels of the picture that a mask of the model's input covers."""
    return round(int(np.count_nonzero(mask)) / (placement.scale_x * placement.scale_y))
