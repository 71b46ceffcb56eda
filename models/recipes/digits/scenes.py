"""What a camera looks at: one digit's place on a meter and what is around it, in even light."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .fonts import DIGIT_HEIGHT, Mask

HEIGHT, WIDTH = 224, 288
"""Size of a scene in pixels. The digit's place is in the middle."""

Picture = NDArray[Any]
"""Brightness of each pixel: (height, width), float32, 0 to 1."""
Glyph = Callable[[int], Mask]
"""Gives the mask of a digit; all masks of one glyph set have the same shape."""


@dataclass(frozen=True)
class Scene:
    """A picture with the place of one digit in its middle."""

    picture: Picture
    place: tuple[float, float]
    """width and height in pixels of the rectangle that someone would draw around the digit"""


def wheel(rng: Generator, glyph: Glyph, digit: int | None, turn: float) -> Scene:
    """A printed wheel behind its window, with parts of its neighbours.

    `digit` is what it shows, None for a wheel with nothing printed on it; `turn` is how far it
    stands from its rest, in digits, positive downwards.
    """
    paper, ink = _printed_colours(rng)
    glyph_width = glyph(0).shape[1]
    place_height = DIGIT_HEIGHT / rng.uniform(0.58, 0.9)
    place_width = max(place_height * rng.uniform(0.5, 0.85), glyph_width / rng.uniform(0.75, 0.95))
    pitch = min(DIGIT_HEIGHT * rng.uniform(1.12, 1.6), 1.05 * place_height)
    # On most counters the higher digit comes from below.
    step = 1 if rng.random() < 0.8 else -1
    picture = np.full((HEIGHT, WIDTH), paper, np.float32)

    wheel_pitch = place_width * rng.uniform(1.0, 1.5)
    lightness = rng.uniform(-0.05, 0.05, 3)
    for side in (-1, 0, 1):
        centre = WIDTH / 2 + side * wheel_pitch
        shown = digit if side == 0 else _neighbour(rng)
        offset = turn if side == 0 else rng.normal(0, 0.03)
        left, right = _span(centre, wheel_pitch, WIDTH)
        picture[:, left:right] += lightness[side]
        x = centre + rng.normal(0, 0.025) * place_width
        for row in (-1, 0, 1):
            if shown is not None:
                y = HEIGHT / 2 + (offset + row) * pitch
                _paint(picture, glyph((shown + step * row) % 10), x, y, ink)

    picture *= _roundness(rng, place_height)
    window = (place_width * rng.uniform(1.0, 1.25), place_height * rng.uniform(0.95, 1.2))
    if rng.random() < 0.75:
        _frame(rng, picture, window, wheel_pitch)
    return Scene(np.clip(picture, 0, 1), (place_width, place_height))


def display(rng: Generator, glyph: Glyph, digit: int | None) -> Scene:
    """A digit of a seven-segment display, LED or LCD; None is one with no segment lit."""
    lit_is_bright = rng.random() < 0.5
    if lit_is_bright:
        background, lit = rng.uniform(0.0, 0.25), rng.uniform(0.55, 1.0)
    else:
        background, lit = rng.uniform(0.45, 0.9), rng.uniform(0.0, 0.22)
    unlit = background + (lit - background) * rng.choice([0.0, rng.uniform(0, 0.15)])
    everything = glyph(8)
    glyph_width = everything.shape[1]
    place_height = DIGIT_HEIGHT / rng.uniform(0.6, 0.92)
    place_width = max(place_height * rng.uniform(0.5, 0.8), glyph_width / rng.uniform(0.75, 0.97))
    digit_pitch = glyph_width * rng.uniform(1.2, 1.7)
    picture = np.full((HEIGHT, WIDTH), background, np.float32)
    ink = np.zeros((HEIGHT, WIDTH), np.float32)
    for side in (-1, 0, 1):
        x, y = WIDTH / 2 + side * digit_pitch, HEIGHT / 2
        _paint(picture, everything, x, y, unlit)
        shown = digit if side == 0 else _neighbour(rng)
        if shown is not None:
            _paint(ink, glyph(shown), x, y, 1.0)
        if rng.random() < 0.12:
            dot = (round(x + digit_pitch / 2), round(y + DIGIT_HEIGHT * 0.46))
            cv2.circle(ink, dot, round(digit_pitch * rng.uniform(0.05, 0.1)), (1.0,), cv2.FILLED)

    if lit_is_bright:
        glow = cv2.GaussianBlur(ink, (0, 0), rng.uniform(3, 9)) * rng.uniform(0, 0.5)
    else:  # The liquid crystal casts a shadow on the reflector behind it.
        drop = np.array([[1, 0, rng.uniform(-4, 4)], [0, 1, rng.uniform(0, 5)]])
        glow = cv2.warpAffine(ink, drop, (WIDTH, HEIGHT)) * rng.choice([0, rng.uniform(0, 0.35)])
    strength = np.maximum(ink, glow)
    picture += (lit - picture) * strength
    if rng.random() < 0.25:
        window = (digit_pitch * 3.2, place_height * rng.uniform(1.0, 1.4))
        _frame(rng, picture, window, WIDTH)
    return Scene(np.clip(picture, 0, 1), (place_width, place_height))


def background(rng: Generator) -> Scene:
    """Something that is no digit: a plain or grained surface, an edge, a hole or a screw."""
    coarse = rng.normal(0, 1, rng.integers(2, 12, 2)).astype(np.float32)
    grain = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    picture = rng.uniform(0.1, 0.9) + grain * rng.choice([0, rng.uniform(0, 0.12)])
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    for _ in range(rng.integers(0, 3)):
        angle = rng.uniform(0, 2 * np.pi)
        distance = (columns - WIDTH / 2) * np.cos(angle) + (rows - HEIGHT / 2) * np.sin(angle)
        picture += (distance > rng.uniform(-60, 60)) * rng.uniform(-0.4, 0.4)
    if rng.random() < 0.2:
        centre = (int(rng.integers(60, 228)), int(rng.integers(40, 184)))
        radius = int(rng.integers(60, 120))
        cv2.circle(picture, centre, radius, (rng.uniform(0, 1),), cv2.FILLED, cv2.LINE_AA)
    height = DIGIT_HEIGHT / rng.uniform(0.6, 0.9)
    return Scene(np.clip(picture, 0, 1).astype(np.float32), (height * rng.uniform(0.5, 0.85), height))


def _printed_colours(rng: Generator) -> tuple[float, float]:
    """Brightness of paper and ink; red comes out dark grey in a grey picture."""
    dark, light, red = rng.uniform(0, 0.22), rng.uniform(0.6, 1.0), rng.uniform(0.22, 0.42)
    pairs = [(dark, light), (light, dark), (red, rng.uniform(0.75, 1)), (rng.uniform(0.8, 1), red)]
    return pairs[rng.choice(4, p=[0.45, 0.3, 0.15, 0.1])]


def _neighbour(rng: Generator) -> int | None:
    return int(rng.integers(10)) if rng.random() < 0.85 else None


def _span(centre: float, width: float, limit: int) -> tuple[int, int]:
    return max(0, round(centre - width / 2)), min(limit, max(0, round(centre + width / 2)))


def _paint(picture: Picture, mask: Mask, x: float, y: float, ink: float) -> None:
    """Blends `ink` into the picture through a mask centred at (x, y), cut at the borders."""
    height, width = mask.shape
    left, top = round(x - width / 2), round(y - height / 2)
    x1, y1 = max(0, left), max(0, top)
    x2, y2 = min(picture.shape[1], left + width), min(picture.shape[0], top + height)
    if x1 < x2 and y1 < y2:
        area = picture[y1:y2, x1:x2]
        area += (ink - area) * mask[y1 - top : y2 - top, x1 - left : x2 - left]


def _roundness(rng: Generator, place_height: float) -> Picture:
    """A column (HEIGHT, 1) of factors: a wheel turns away from the light above and below."""
    across = (np.arange(HEIGHT, dtype=np.float32)[:, None] - HEIGHT / 2) / place_height
    roundness: Picture = 1 - rng.uniform(0, 0.8) * np.abs(across - rng.uniform(-0.15, 0.15)) ** 2
    return roundness


def _frame(rng: Generator, picture: Picture, window: tuple[float, float], window_pitch: float) -> None:
    """Covers all but the windows, `window` (width, height) large, with the meter's face."""
    face = rng.choice([rng.uniform(0, 0.3), rng.uniform(0.3, 1.0)])
    cover = np.ones((HEIGHT, WIDTH), bool)
    top, bottom = _span(HEIGHT / 2, window[1], HEIGHT)
    for side in (-1, 0, 1):
        left, right = _span(WIDTH / 2 + side * window_pitch, window[0], WIDTH)
        cover[top:bottom, left:right] = False
    shadow = round(rng.uniform(0, 8))
    picture[top : top + shadow] *= rng.uniform(0.4, 1)
    picture[cover] = face
