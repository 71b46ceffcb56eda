"""The typefaces named in fonts.txt, and their digits as small masks."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FONT_LIST = Path(__file__).with_name("fonts.txt")
DIGIT_HEIGHT = 96
"""Pixels from the top to the bottom of a typeface's highest digit."""

Mask = NDArray[np.float32]
"""How much of each pixel is ink: (height, width), 0 to 1."""


@dataclass(frozen=True)
class Typeface:
    """A font file and the part it plays."""

    split: str
    """train, test, or segments (seven-segment typefaces, for measuring only)"""
    package: str
    """the Debian package that it comes from"""
    path: Path

    @property
    def name(self) -> str:
        """The file's name without blanks and ending."""
        return self.path.stem.replace(" ", "")


def load_typefaces(root: Path) -> list[Typeface]:
    """Finds every file that fonts.txt names under `root`, in the order of the list."""
    found = {path.name: path for path in sorted(root.rglob("*.[ot]tf"))}
    typefaces = []
    for line in FONT_LIST.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        split, package, *files = line.split()
        for file in files:
            # A "?" in the list stands for a blank in the file's name.
            path = found.get(file.replace("?", " "))
            if path is None:
                raise FileNotFoundError(f"{file} of {package} is not under {root}")
            typefaces.append(Typeface(split, package, path))
    return typefaces


@cache
def digit_masks(typeface: Typeface) -> tuple[Mask, ...]:
    """The ten digits of a typeface, all in the same box, DIGIT_HEIGHT high.

    Printed digits are centred across the box, as on a counter's wheels; seven-segment digits
    stay where their typeface puts them (a 1 is at the right).
    """
    trial = ImageFont.truetype(str(typeface.path), 200)
    _, top, _, bottom = _extent(trial)
    font = ImageFont.truetype(str(typeface.path), round(200 * DIGIT_HEIGHT / (bottom - top)))
    first, top, last, bottom = _extent(font)
    boxes = [font.getbbox(digit) for digit in "0123456789"]
    widest = max(right - left for left, _, right, _ in boxes)
    masks = []
    for digit, (left, _, right, _) in zip("0123456789", boxes, strict=True):
        if typeface.split == "segments":
            width, x = last - first, -first
        else:
            width, x = widest, (widest - left - right) / 2
        canvas = Image.new("L", (int(width) + 2, DIGIT_HEIGHT))
        ImageDraw.Draw(canvas).text((x + 1, -top), digit, fill=255, font=font)
        masks.append(np.asarray(canvas, np.float32) / 255)
    return tuple(masks)


def _extent(font: ImageFont.FreeTypeFont) -> tuple[float, float, float, float]:
    """The box (left, top, right, bottom) that holds each of the ten digits, in pixels."""
    boxes = np.array([font.getbbox(digit) for digit in "0123456789"])
    left, top = boxes[:, :2].min(axis=0)
    right, bottom = boxes[:, 2:].max(axis=0)
    return left, top, right, bottom
