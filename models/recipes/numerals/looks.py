"""Pictures of numerals: ten classes in four looks each, of which the first training sees two."""

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

LABELS = tuple("0123456789")
LOOKS = ("plain", "serif", "script", "segments")
HEIGHT, WIDTH = 32, 24
"""Of the network's input, in pixels."""
_SIZE = 2
"""A picture is drawn so many times as large."""

_FONTS = {
    "plain": cv2.FONT_HERSHEY_SIMPLEX,
    "serif": cv2.FONT_HERSHEY_COMPLEX,
    "script": cv2.FONT_HERSHEY_SCRIPT_SIMPLEX | cv2.FONT_ITALIC,
}
_SEGMENTS = ("abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg")
_CORNERS = {
    "a": ((0, 0), (1, 0)),
    "b": ((1, 0), (1, 1)),
    "c": ((1, 1), (1, 2)),
    "d": ((0, 2), (1, 2)),
    "e": ((0, 1), (0, 2)),
    "f": ((0, 0), (0, 1)),
    "g": ((0, 1), (1, 1)),
}

Picture = NDArray[Any]
"""Grey pixels: (HEIGHT * 2, WIDTH * 2), uint8."""


def is_withheld(label: int, look: int) -> bool:
    """Whether the first training does not see this look of this class: half of them."""
    return (label + look) % 2 == 1


def known(label: int) -> list[int]:
    """The looks of a class that the first training sees."""
    return [look for look in range(len(LOOKS)) if not is_withheld(label, look)]


def new(label: int) -> list[int]:
    """The looks of a class that it does not see."""
    return [look for look in range(len(LOOKS)) if is_withheld(label, look)]


def draw(rng: Generator, label: int, look: int) -> Picture:
    """A numeral as a cheap camera sees it: a little aslant, out of focus, in any light."""
    ink = _ink(rng, label, LOOKS[look])
    height, width = ink.shape
    angle, zoom = rng.uniform(-9, 9), rng.uniform(0.8, 1.1)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
    matrix[:, 2] += rng.uniform(-0.06, 0.06, 2) * (width, height)
    ink = cv2.warpAffine(ink, matrix, (width, height)).astype(np.float32) / 255
    paper, dark = rng.uniform(0.55, 1.0), rng.uniform(0.0, 0.35)
    if rng.random() < 0.5:
        paper, dark = dark, paper
    picture = paper + (dark - paper) * cv2.GaussianBlur(ink, (0, 0), rng.uniform(0.4, 1.8))
    picture += np.linspace(*rng.uniform(-0.12, 0.12, 2), width, dtype=np.float32)
    picture += rng.standard_normal(picture.shape, np.float32) * rng.uniform(0.01, 0.09)
    return np.asarray(np.clip(picture, 0, 1) * 255, np.uint8)


def _ink(rng: Generator, label: int, look: str) -> Picture:
    height, width = HEIGHT * _SIZE, WIDTH * _SIZE
    canvas = np.zeros((height, width), np.uint8)
    thickness = int(rng.integers(2, 6))
    if look == "segments":
        across, down = width * rng.uniform(0.4, 0.55), height * rng.uniform(0.3, 0.36)
        left, top = (width - across) / 2, height / 2 - down
        for segment in _SEGMENTS[label]:
            ends = [(round(left + x * across), round(top + y * down)) for x, y in _CORNERS[segment]]
            cv2.line(canvas, *ends, (255,), thickness, cv2.LINE_AA)
        return canvas
    scale = height * rng.uniform(0.66, 0.76) / 21
    (wide, high), _ = cv2.getTextSize(LABELS[label], _FONTS[look], scale, thickness)
    place = (round((width - wide) / 2), round((height + high) / 2))
    cv2.putText(canvas, LABELS[label], place, _FONTS[look], scale, (255,), thickness, cv2.LINE_AA)
    return canvas


def to_input(picture: Picture) -> NDArray[np.float32]:
    """The network's input, (HEIGHT * WIDTH,), 0 to 1; by area, as `resize: stretch` does."""
    small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return small.reshape(-1).astype(np.float32) / 255


def pictures(rng: Generator, count: int, share: float) -> tuple[list[Picture], NDArray[np.int64], NDArray[np.bool_]]:
    """Pictures of all classes alike.

    Args:
        rng: draws them.
        count: how many.
        share: of those in a look that the first training does not see.

    Returns:
        The pictures; the class of each, (count,); whether its look is withheld, (count,).
    """
    labels = rng.integers(len(LABELS), size=count)
    withheld = rng.random(count) < share
    found = [
        draw(rng, int(label), int(rng.choice(new(int(label)) if is_new else known(int(label)))))
        for label, is_new in zip(labels, withheld, strict=True)
    ]
    return found, labels, withheld
