"""Seven-segment digits drawn from their geometry, no two displays alike.

 -a-
f   b
 -g-
e   c
 -d-
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .fonts import DIGIT_HEIGHT, Mask

SEGMENTS = ("abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg")
VARIANTS = {6: "cdefg", 7: "abcf", 9: "abcfg"}
"""Other ways in which displays show these digits: 6 and 9 without a tail, 7 with one."""

_OVERSAMPLING = 2


@dataclass(frozen=True)
class SegmentStyle:
    """The shape of one display's digits, as fractions of the digit's height."""

    width: float
    thickness: float
    gap: float
    """between the ends of two segments"""
    slant: float
    """how far the top leans to the right"""
    point: float
    """0: segments end square, 1: in a point"""
    mitre: float
    """0: the corners of the digit stay empty, 1: segments fill them like a picture frame"""
    variants: bool

    @staticmethod
    def random(rng: Generator) -> "SegmentStyle":
        """Any style that a display on the market might have."""
        return SegmentStyle(
            width=rng.uniform(0.45, 0.68),
            thickness=rng.uniform(0.06, 0.17),
            gap=rng.uniform(0.004, 0.04),
            slant=rng.choice([0.0, rng.uniform(0, 0.2)]),
            point=rng.choice([0.0, rng.uniform(0.4, 1), 1.0], p=[0.08, 0.42, 0.5]),
            mitre=rng.choice([0.0, rng.uniform(0.3, 1), 1.0]),
            variants=rng.random() < 0.3,
        )

    def mask(self, digit: int) -> Mask:
        """The digit, DIGIT_HEIGHT high, in a box that is the same for all ten."""
        lit = VARIANTS.get(digit, SEGMENTS[digit]) if self.variants else SEGMENTS[digit]
        scale = DIGIT_HEIGHT * _OVERSAMPLING
        canvas = np.zeros((scale, round((self.width + self.slant) * scale)), np.uint8)
        for segment in lit:
            points = self._outline(segment)
            points[:, 0] += self.slant * (1 - points[:, 1])
            cv2.fillPoly(canvas, [np.round(points * scale).astype(np.int32)], (255,))
        size = (canvas.shape[1] // _OVERSAMPLING, DIGIT_HEIGHT)
        return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255

    def _outline(self, segment: str) -> NDArray[np.float64]:
        """The segment's six corners (x, y), upright, as fractions of the digit's height."""
        half = self.thickness / 2
        left, right = half, self.width - half
        top, middle, bottom = half, 0.5, 1 - half
        # Where it begins and ends, and how much of a mitre each end has.
        first, last, mitres = {
            "a": ((right, top), (left, top), (1, 1)),
            "b": ((right, middle), (right, top), (0, 1)),
            "c": ((right, bottom), (right, middle), (1, 0)),
            "d": ((left, bottom), (right, bottom), (1, 1)),
            "e": ((left, middle), (left, bottom), (0, 1)),
            "f": ((left, top), (left, middle), (1, 0)),
            "g": ((left, middle), (right, middle), (0, 0)),
        }[segment]
        begin, end = np.array(first), np.array(last)
        along = (end - begin) / np.linalg.norm(end - begin)
        # All but g run anticlockwise, so this is towards the outside of the digit.
        outwards = np.array([-along[1], along[0]]) * half
        # A square end leaves room for the segment around the corner, a pointed one meets it there.
        tip = along * (self.gap / 2 + (1 - self.point) * half)
        shoulder = along * (self.gap / 2 + half)
        outer_begin, outer_end = (shoulder - along * 2 * half * self.mitre * m for m in mitres)
        return np.array(
            [
                begin + tip,
                begin + outer_begin + outwards,
                end - outer_end + outwards,
                end - tip,
                end - shoulder - outwards,
                begin + shoulder - outwards,
            ]
        )
