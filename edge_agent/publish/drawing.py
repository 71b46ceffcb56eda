"""Predictions drawn into their picture, and the picture as a JPEG of bounded size."""

import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edge_agent.decoders.ssd import BACKGROUND_LABELS
from edge_agent.postprocess.filters import Box, Polygon, bounding_box, extent, in_pixels, is_visible
from edge_agent.preprocess.opencv import cv2
from edge_agent.samples import Prediction
from edge_agent.system.units import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

Color = tuple[int, int, int]
"""Blue, green, red."""
Rectangle = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels; x2 and y2 are outside of it."""

# The palette of Okabe and Ito, which people with any kind of colour vision can tell apart, but for its black:
# https://jfly.uni-koeln.de/color/
ORANGE, SKY_BLUE, GREEN, YELLOW = (0, 159, 230), (233, 180, 86), (115, 158, 0), (66, 228, 240)
BLUE, VERMILLION, PURPLE = (178, 114, 0), (0, 94, 213), (167, 121, 204)
PALETTE: tuple[Color, ...] = (ORANGE, SKY_BLUE, GREEN, YELLOW, BLUE, VERMILLION, PURPLE)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
# The skeleton of COCO's 17 keypoints (https://cocodataset.org/#keypoints-2017): left, right, middle of the body.
COCO_KEYPOINTS = 17
LIMBS: tuple[tuple[Color, tuple[tuple[int, int], ...]], ...] = (
    (YELLOW, ((5, 6), (11, 12), (5, 11), (6, 12))),
    (SKY_BLUE, ((0, 1), (1, 3), (3, 5), (5, 7), (7, 9), (11, 13), (13, 15))),
    (ORANGE, ((0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (12, 14), (14, 16))),
)
# How much of the colour shows in an area that is filled.
OPACITY = 0.4
# Height of capital letters and width of lines as shares of the picture's side, and the least that can be read.
TEXT_HEIGHT, LEAST_TEXT_HEIGHT = 0.02, 8
# Height of the letters at a box, at most, as a share of its size (square root of its area).
TEXT_AT_BOX = 0.12
# The upper part of a box, where a person's face is; of a face it is the whole box.
HEAD = 1 / 3
FACE = "face"
LINE_WIDTH = 0.0035
# What JPEG can have, and from where on fewer pixels look better than less quality.
LARGEST_JPEG_SIDE = 65500
LEAST_QUALITY = 40
# How much of the picture labels may hide, and how many are worth the work.
LABELS_SHARE = 0.3
MAX_LABELS = 100
MAX_TEXT = 60
FONT = cv2.FONT_HERSHEY_SIMPLEX
# Letters that Unicode does not take apart into one of ASCII and an accent.
SPELLED = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
)
# Letters are white on colours that are darker than this (luma, 0 to 255).
DARK = 128


def annotate(
    image: "Image",
    predictions: Sequence[Prediction],
    *,
    regions: Mapping[str, Box] | None = None,
    zones: Mapping[str, Polygon] | None = None,
    max_side: int | None = None,
) -> "Image":
    """A copy of a picture with predictions drawn in.

    Boxes, keypoints (with a skeleton if there are 17, as in COCO), outlines, filled so that the picture shows through,
    and a label with track id, name and confidence. What says no place stands in a legend in the upper left corner, or,
    if it is of a region, at the region. Lines and letters grow with the picture. Labels cover no face: each stands
    where it is free, in letters that fit its box, or is left out. Letters are ASCII: others lose their accents, or
    become `?`; a label of which nothing is left becomes `class N`.

    Args:
        image: (height, width, 3), uint8, BGR; not changed.
        predictions: in pixels of the image, the most important first.
        regions: rectangles x1, y1, x2, y2 by name, in pixels or fractions, as in the settings; drawn with their names.
        zones: polygons by name, drawn in the same way.
        max_side: a larger picture is made smaller to this width or height before anything is drawn.
    """
    height, width = image.shape[:2]
    picture = shrunk(image, max_side or max(height, width))
    pen = _Pen(picture, (picture.shape[1] / width, picture.shape[0] / height))
    areas = {name: in_pixels(_corners(box), width, height) for name, box in (regions or {}).items()}
    named = {name: in_pixels(polygon, width, height) for name, polygon in (zones or {}).items()}
    without_place = [prediction for prediction in predictions if extent(prediction) is None]
    placed = [(one, box) for one in predictions if (box := extent(one)) and one.label not in BACKGROUND_LABELS]
    for prediction, _ in reversed(placed):
        pen.shape(prediction)
    pen.spare([_head(prediction, box) for prediction, box in placed])
    for polygon in (*areas.values(), *named.values()):
        pen.polyline(polygon, WHITE)
    pen.legend([prediction for prediction in without_place if prediction.region not in areas])
    for name, polygon in areas.items():
        found = [caption(prediction) for prediction in without_place if prediction.region == name]
        pen.label(": ".join([ascii_text(name), *found[:1]]), bounding_box(polygon), WHITE)
    for prediction, box in placed[:MAX_LABELS]:
        pen.tag(caption(prediction), caption(replace(prediction, confidence=None)), box, color_of(prediction))
    for name, polygon in named.items():
        pen.label(ascii_text(name), bounding_box(polygon), WHITE)
    return picture


def encode_jpeg(image: "Image", max_bytes: int, quality: int = 85) -> bytes:
    """A picture as a JPEG of at most `max_bytes`: quality gives way first, then width and height.

    Args:
        image: (height, width, 3), uint8, BGR.
        max_bytes: at least 1000.
        quality: to begin with, 0 to 100.

    Raises:
        ValueError: max_bytes is too small for any picture.
    """
    picture = shrunk(image, LARGEST_JPEG_SIDE)
    while True:
        _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        side = max(picture.shape[:2])
        if len(encoded) <= max_bytes:
            return bytes(encoded)
        if quality > LEAST_QUALITY:
            quality = max(LEAST_QUALITY, quality - 15)
        elif side > 1:
            picture = shrunk(picture, math.floor(side * min(0.9, math.sqrt(max_bytes / len(encoded)))) or 1)
        else:
            raise ValueError(f"no JPEG has as few as {max_bytes} bytes")


def caption(prediction: Prediction) -> str:
    """What a label says: `#7 person 0.83`; of a regression its value."""
    name = ascii_text(prediction.label or "")
    if not any(letter.isalnum() for letter in name):
        name = "" if prediction.class_id is None else f"class {prediction.class_id}"
    parts = [
        "" if prediction.track_id is None else f"#{prediction.track_id}",
        name,
        "" if prediction.confidence is None else f"{prediction.confidence:.2f}",
        "" if prediction.value is None else f"{prediction.value:.4g}",
        "" if prediction.vector is None else counted(len(prediction.vector), "number"),
    ]
    return " ".join(part for part in parts if part)


def ascii_text(text: str) -> str:
    """Text in the letters that OpenCV's fonts have: without accents, `?` for what is not ASCII, of bounded length."""
    plain = unicodedata.normalize("NFKD", text[:MAX_TEXT].translate(SPELLED))
    letters = (letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in letters)[:MAX_TEXT]


def color_of(prediction: Prediction) -> Color:
    """The colour of its class, always the same."""
    return PALETTE[(prediction.class_id or 0) % len(PALETTE)]


def _head(prediction: Prediction, box: Box) -> Box:
    """Where a face may be in a box."""
    x1, y1, x2, y2 = box
    return box if prediction.name.casefold() == FACE else (x1, y1, x2, y1 + HEAD * (y2 - y1))


class _Letters(NamedTuple):
    """Letters of a size.

    Attributes:
        scale, thickness: as OpenCV takes them.
        height: of a capital letter, in pixels.
        pad: between the letters and the edge of their label, in pixels.
    """

    scale: float
    thickness: int
    height: int
    pad: int

    @classmethod
    def of(cls, height: float) -> "_Letters":
        """Letters of a height in pixels, but for rounding."""
        (_, height_at_1), _ = cv2.getTextSize("A", FONT, 1, 1)
        scale, thickness = height / height_at_1, max(1, round(height / 9))
        (_, exact), _ = cv2.getTextSize("A", FONT, scale, thickness)
        return cls(scale, thickness, exact, max(2, round(height * 0.35)))

    def width(self, text: str) -> int:
        """Of a text, in pixels."""
        return int(cv2.getTextSize(text, FONT, self.scale, self.thickness)[0][0])


class _Pen:
    """Draws on a picture with lines and letters that fit its size.

    Args:
        picture: what is drawn on.
        scale: its pixels for each pixel of the coordinates, along x and y.
    """

    def __init__(self, picture: "Image", scale: tuple[float, float]) -> None:
        self._picture = picture
        self._scale = scale
        self._height, self._width = picture.shape[:2]
        side = min(math.sqrt(self._height * self._width), 3 * min(self._height, self._width))
        self._line = max(1, round(side * LINE_WIDTH))
        # A dark rim keeps lines visible on any ground; where lines are thinnest there is no room for it.
        self._rim = self._line + 2 * max(1, self._line // 3) if self._line > 1 else 0
        self._text_height = max(LEAST_TEXT_HEIGHT, side * TEXT_HEIGHT)
        self._letters = _Letters.of(self._text_height)
        self._spared = np.empty((0, 4), np.int32)
        self._labels: list[Rectangle] = []
        self._room = self._height * self._width * LABELS_SHARE

    def shape(self, prediction: Prediction) -> None:
        """Everything of a prediction but its label."""
        color = color_of(prediction)
        if prediction.polygons:
            self._fill([self._at(part) for part in prediction.polygons if part], color)
        if prediction.box is not None:
            self._rectangle(prediction.box, color)
        if prediction.keypoints:
            self._skeleton(prediction.keypoints, color)

    def polyline(self, polygon: Polygon, color: Color) -> None:
        """A closed line; what lies on the picture's edge is seen."""
        points = np.minimum(self._at(polygon), (self._width - 1, self._height - 1)).astype(np.int32)
        for width, paint in self._strokes(color):
            cv2.polylines(self._picture, [points], True, paint, width, cv2.LINE_AA)

    def spare(self, boxes: Sequence[Box]) -> None:
        """Takes areas in the coordinates of predictions that no label may cover."""
        corners = [corner for x1, y1, x2, y2 in boxes for corner in ((x1, y1), (x2, y2))]
        self._spared = self._at(corners).reshape(-1, 4)

    def legend(self, predictions: Sequence[Prediction]) -> None:
        """Labels in a column, in the upper left corner, as many as there is room for."""
        letters = self._letters
        for number, prediction in enumerate(predictions):
            text = self._fitting(caption(prediction), letters)
            places = [(0, number * self._label_size(text, letters)[1])]
            self._write_if_free(text, letters, places, color_of(prediction))

    def label(self, text: str, box: Box, color: Color) -> bool:
        """A label at a box; none where it would hide another one or a face, or too much altogether.

        Args:
            text: what it says.
            box: in the coordinates of predictions.
            color: of the ground.
        """
        return self._write_at(text, self._letters, box, color)

    def tag(self, text: str, short: str, box: Box, color: Color) -> None:
        """A label at a detected object, in letters that fit it; where there is no room, a short one in small letters.

        Args:
            text: what it says.
            short: what it says where there is little room, or if it would take more than half of the picture's width.
            box: in the coordinates of predictions.
            color: of the ground.
        """
        (x1, y1), (x2, y2) = self._at([box[:2], box[2:]]).tolist()
        fitting = TEXT_AT_BOX * math.sqrt(max(0, x2 - x1) * max(0, y2 - y1))
        letters = _Letters.of(max(LEAST_TEXT_HEIGHT, min(self._text_height, fitting)))
        text = short if self._label_size(text, letters)[0] > self._width // 2 else text
        if not self._write_at(text, letters, box, color):
            self._write_at(short, _Letters.of(LEAST_TEXT_HEIGHT), box, color)

    def _write_at(self, text: str, letters: _Letters, box: Box, color: Color) -> bool:
        """A label at a box, above it if there is room, else below it, within it, or beside it."""
        (x1, y1), (x2, y2) = self._at([box[:2], box[2:]]).tolist()
        text = self._fitting(text, letters)
        wide, high = self._label_size(text, letters)
        right, low = self._width - wide, self._height - high
        rows = [row for row in (y1 - high, y2, y2 - high, y1) if 0 <= row <= low] or [max(0, min(y1, low))]
        places = [(max(0, min(column, right)), row) for row in rows for column in (x1, x2 - wide)]
        beside = [(column, row) for row in (y1, y2 - high) for column in (x2, x1 - wide)]
        places += [(column, row) for column, row in beside if 0 <= column <= right and 0 <= row <= low]
        return self._write_if_free(text, letters, places, color)

    def _write_if_free(self, text: str, letters: _Letters, places: Iterable[tuple[int, int]], color: Color) -> bool:
        """A label at the first of some places for its upper left corner that is in the picture and free."""
        wide, high = self._label_size(text, letters)
        rectangles = [(x, y, x + wide, y + high) for x, y in places if y + high <= self._height]
        free = next((one for one in rectangles if self._is_free(one)), None)
        if free is None or (self._labels and self._room < wide * high):
            return False
        x1, y1, x2, y2 = free
        self._room -= wide * high
        self._labels.append(free)
        self._picture[y1:y2, x1:x2] = color
        blue, green, red = color
        ink = WHITE if 0.114 * blue + 0.587 * green + 0.299 * red < DARK else BLACK
        start = x1 + letters.pad, y1 + letters.pad + letters.height
        cv2.putText(self._picture, text, start, FONT, letters.scale, ink, letters.thickness, cv2.LINE_AA)
        return True

    def _is_free(self, place: Rectangle) -> bool:
        x1, y1, x2, y2 = place
        left, top, right, bottom = self._spared.T
        covers = (left < x2) & (x1 < right) & (top < y2) & (y1 < bottom)
        return not covers.any() and not any(_meet(place, other) for other in self._labels)

    def _label_size(self, text: str, letters: _Letters) -> tuple[int, int]:
        wide, high = letters.width(text) + 2 * letters.pad, letters.height + 2 * letters.pad
        return min(self._width, wide), min(self._height, high)

    def _fitting(self, text: str, letters: _Letters) -> str:
        """The text, or as much of it as the picture is wide; a number at its end (the confidence) stays."""
        name, _, number = text.rpartition(" ")
        if not number[:1].isdigit():
            name, number = text, ""
        while letters.width(text) + 2 * letters.pad > self._width and name:
            name = name[:-1]
            text = f"{name}.. {number}".strip()
        return text

    def _at(self, points: Iterable[Sequence[float]]) -> "NDArray[np.int32]":
        """Points (N, 2) of the coordinates in whole pixels of the picture, not far outside of it."""
        places = np.array([point[:2] for point in points], np.float64).reshape(-1, 2) * self._scale
        farthest = 2 * max(self._width, self._height)
        return np.rint(np.clip(places, -farthest, farthest)).astype(np.int32)

    def _strokes(self, color: Color) -> Iterator[tuple[int, Color]]:
        """Widths and colours of a line with its rim."""
        if self._rim:
            yield self._rim, BLACK
        yield self._line, color

    def _rectangle(self, box: Box, color: Color) -> None:
        """The edge of a box, all of it within the box; exact to the pixel, which OpenCV's thick lines are not."""
        (x1, y1), (x2, y2) = np.clip(self._at([box[:2], box[2:]]), 0, (self._width, self._height)).tolist()
        for width, paint in self._strokes(color):
            inset = (max(self._rim, self._line) - width) // 2
            view = self._picture[y1 + inset : max(y1, y2 - inset), x1 + inset : max(x1, x2 - inset)]
            for edge in (view[:width], view[-width:], view[:, :width], view[:, -width:]):
                edge[:] = paint

    def _fill(self, parts: Sequence["NDArray[np.int32]"], color: Color) -> None:
        """What lies within an odd number of the parts, so that the picture shows through, and their edges."""
        points = np.concatenate(parts)
        low = np.clip(points.min(axis=0), 0, (self._width, self._height))
        high = np.clip(points.max(axis=0) + 1, 0, (self._width, self._height))
        view = self._picture[low[1] : high[1], low[0] : high[0]]
        if view.size:
            mask = np.zeros(view.shape[:2], np.uint8)
            cv2.fillPoly(mask, [part - low.astype(np.int32) for part in parts], 1)
            blend = np.arange(256)[:, None] * (1 - OPACITY) + np.array(color) * OPACITY
            cv2.copyTo(cv2.LUT(view, blend.astype(np.uint8)[:, None]), mask, view)
        cv2.polylines(self._picture, list(parts), True, color, self._line, cv2.LINE_AA)

    def _skeleton(self, keypoints: Sequence[Sequence[float]], color: Color) -> None:
        """Points that are no guesses, and limbs between them."""
        places = self._at(keypoints).tolist()
        seen = [is_visible(point) for point in keypoints]
        limbs = LIMBS if len(keypoints) == COCO_KEYPOINTS else ()
        lines = [(paint, pair) for paint, pairs in limbs for pair in pairs if seen[pair[0]] and seen[pair[1]]]
        # All rims first: they must not cut through other limbs.
        for width, rim in ((self._rim, True), (self._line, False)):
            for paint, (start, end) in lines if width else ():
                cv2.line(self._picture, places[start], places[end], BLACK if rim else paint, width, cv2.LINE_AA)
        for place in (place for place, visible in zip(places, seen, strict=True) if visible):
            cv2.circle(
                self._picture, place, self._line + max(self._line, self._rim) // 2, BLACK, cv2.FILLED, cv2.LINE_AA
            )
            cv2.circle(self._picture, place, self._line, color, cv2.FILLED, cv2.LINE_AA)


def shrunk(image: "Image", max_side: int) -> "Image":
    """A copy of a picture, made smaller where its width or height is above a limit.

    Args:
        image: (height, width, 3), uint8, BGR.
        max_side: the limit, in pixels.
    """
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image.copy()
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _corners(box: Box) -> Polygon:
    x1, y1, x2, y2 = box
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


def _meet(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
