"""The face of a meter, seen from the front: plate, wheels behind their windows, lamp."""

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .fonts import Typeface, digit_masks

FACE_WIDTH, FACE_HEIGHT = 960, 540

Frame = NDArray[Any]
"""Colour pixels: (height, width, 3), uint8, BGR."""

_WINDOW_WIDTH, _WINDOW_HEIGHT, _WINDOW_PITCH = 70, 104, 90
_WINDOW_LEFT, _WINDOW_TOP = 220, 178
_DIGIT_HEIGHT, _DIGIT_PITCH = 68, 88
_WHEEL_RADIUS = _DIGIT_PITCH * 10 / (2 * np.pi)
_BLACK, _RED, _WHITE = (32, 30, 30), (38, 30, 172), (226, 234, 236)
_PLATE, _HOUSING, _WALL, _PRINT = (214, 220, 221), (158, 163, 166), (108, 122, 132), (58, 54, 52)
_LAMP = (738, 386)


class Meter:
    """Draws the meter with its wheels in any position.

    The last wheel counts tenths and is red, the others are black.
    """

    def __init__(self, rng: Generator, digits: Typeface, lettering: Typeface, wheels: int) -> None:
        self.windows = [
            (_WINDOW_LEFT + i * _WINDOW_PITCH, _WINDOW_TOP, _WINDOW_WIDTH, _WINDOW_HEIGHT) for i in range(wheels)
        ]
        """x, y, width and height of each wheel's window, from left to right"""
        self._strips = [_strip(digits, _RED if i == wheels - 1 else _BLACK) for i in range(wheels)]
        # Real wheels don't rest quite where they should.
        self._slack = rng.normal(0, 0.02, wheels)
        self._face = _face(rng, lettering, self.windows)

    def draw(self, positions: list[float], lamp_on: bool) -> Frame:
        """The face (FACE_HEIGHT, FACE_WIDTH, 3).

        `positions` says where each wheel stands, in digits: 3.25 is a quarter of the way to 4.
        """
        face = self._face.copy()
        wheels = zip(self.windows, self._strips, positions + self._slack, strict=True)
        for (x, y, width, height), strip, position in wheels:
            face[y : y + height, x : x + width] = _wheel(strip, position)
        if lamp_on:
            cv2.circle(face, _LAMP, 8, (90, 80, 255), cv2.FILLED, cv2.LINE_AA)
        return face


def _strip(typeface: Typeface, colour: tuple[int, int, int]) -> Frame:
    """The rim of a wheel rolled out: 0 at the top to 9 at the bottom."""
    strip = np.zeros((10 * _DIGIT_PITCH, _WINDOW_WIDTH, 3), np.float32)
    strip[:] = colour
    for digit, mask in enumerate(digit_masks(typeface)):
        width = round(mask.shape[1] * _DIGIT_HEIGHT / mask.shape[0])
        ink = cv2.resize(mask, (width, _DIGIT_HEIGHT), interpolation=cv2.INTER_AREA)[..., None]
        top = round((digit + 0.5) * _DIGIT_PITCH - _DIGIT_HEIGHT / 2)
        left = (_WINDOW_WIDTH - width) // 2
        area = strip[top : top + _DIGIT_HEIGHT, left : left + width]
        area += (np.array(_WHITE, np.float32) - area) * ink
    return strip.astype(np.uint8)


def _wheel(strip: Frame, position: float) -> Frame:
    """What the window shows of a wheel: the rim bends away above and below, and is darker there."""
    height = np.arange(_WINDOW_HEIGHT, dtype=np.float32) + 0.5 - _WINDOW_HEIGHT / 2
    angle = np.arcsin(height / _WHEEL_RADIUS)
    along = ((position + 0.5) * _DIGIT_PITCH + _WHEEL_RADIUS * angle) % len(strip)
    rows = np.repeat(along.astype(np.float32)[:, None], _WINDOW_WIDTH, axis=1)
    columns = np.repeat(np.arange(_WINDOW_WIDTH, dtype=np.float32)[None], _WINDOW_HEIGHT, axis=0)
    seen = cv2.remap(strip, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    shade = np.cos(angle * 1.6)
    shade[:12] *= np.linspace(0.35, 1, 12)  # the shadow of the window's upper edge
    sides = np.ones(_WINDOW_WIDTH, np.float32)
    sides[:3] = sides[-3:] = 0.55
    gleam = 16 * np.exp(-(((angle + 0.12) / 0.1) ** 2))
    shaded = seen * (shade[:, None] * sides)[..., None] + gleam[:, None, None]
    picture: Frame = np.clip(shaded, 0, 255).astype(np.uint8)
    return picture


def _face(rng: Generator, lettering: Typeface, windows: list[tuple[int, int, int, int]]) -> Frame:
    """All that does not move."""
    face = np.empty((FACE_HEIGHT, FACE_WIDTH, 3), np.uint8)
    face[:] = _WALL
    plaster = cv2.GaussianBlur(rng.normal(0, 60, face.shape[:2]).astype(np.float32), (0, 0), 2.5)
    face = np.clip(face + plaster[..., None], 0, 255).astype(np.uint8)
    _rounded(face, (84, 26, 876, 520), 34, (70, 76, 80))
    _rounded(face, (88, 24, 872, 512), 34, _HOUSING)
    _rounded(face, (124, 54, 836, 484), 14, (130, 136, 138))
    _rounded(face, (128, 58, 832, 480), 12, _PLATE)
    left, top, _, height = windows[0]
    right = windows[-1][0] + _WINDOW_WIDTH
    _rounded(face, (left - 26, top - 26, right + 26, top + height + 26), 8, (40, 40, 42))
    last = windows[-1][0]
    _rounded(face, (last - 9, top - 12, right + 9, top + height + 12), 4, (40, 36, 150))
    for corner in [(152, 82), (808, 82), (152, 456), (808, 456)]:
        cv2.circle(face, corner, 11, (120, 124, 126), cv2.FILLED, cv2.LINE_AA)
        cv2.line(face, (corner[0] - 7, corner[1] - 4), (corner[0] + 7, corner[1] + 4), _PRINT, 3)
    _bars(rng, face, (190, 380, 330, 430))
    cv2.circle(face, _LAMP, 8, (60, 50, 110), cv2.FILLED, cv2.LINE_AA)
    return _letter(face, lettering)


def _rounded(face: Frame, box: tuple[int, int, int, int], radius: int, colour: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = box
    cv2.rectangle(face, (x1 + radius, y1), (x2 - radius, y2), colour, cv2.FILLED)
    cv2.rectangle(face, (x1, y1 + radius), (x2, y2 - radius), colour, cv2.FILLED)
    for x in (x1 + radius, x2 - radius):
        for y in (y1 + radius, y2 - radius):
            cv2.circle(face, (x, y), radius, colour, cv2.FILLED, cv2.LINE_AA)


def _bars(rng: Generator, face: Frame, box: tuple[int, int, int, int]) -> None:
    """A label with a bar code."""
    x1, y1, x2, y2 = box
    cv2.rectangle(face, (x1 - 8, y1 - 6), (x2 + 8, y2 + 6), (240, 242, 242), cv2.FILLED)
    x = x1
    while x < x2:
        width = int(rng.integers(2, 6))
        cv2.rectangle(face, (x, y1), (x + width - 1, y2), _PRINT, cv2.FILLED)
        x += width + int(rng.integers(2, 6))


def _letter(face: Frame, typeface: Typeface) -> Frame:
    image = Image.fromarray(face)
    draw = ImageDraw.Draw(image)
    lines = [
        ((480, 104), "SINGLE PHASE WATT-HOUR METER", 30),
        ((480, 342), "kWh", 40),
        ((520, 392), "230 V   10 (60) A   50 Hz", 26),
        ((520, 430), "Class 1     No. 40 718 263", 26),
        ((738, 418), "1000 imp/kWh", 20),
    ]
    for place, text, size in lines:
        font = ImageFont.truetype(str(typeface.path), size)
        draw.text(place, text, fill=_PRINT, font=font, anchor="mm")
    return np.asarray(image).copy()
