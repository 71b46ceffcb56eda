"""Renders a clip of an electricity meter that counts, and the truth about it.

The number stands on six wheels; each step takes TURNING frames after RESTING frames. The
digits' typeface is one that the network never saw.
"""

import argparse
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from .fonts import load_typefaces
from .meter_face import FACE_HEIGHT, FACE_WIDTH, Frame, Meter

SEED = 5
FPS = 10
FRAMES = 200
WIDTH, HEIGHT = 320, 180
FIRST_READING = 4293
WHEELS = 6
RESTING, TURNING = 14, 6
READABLE_TURN = 0.25
"""A wheel that is turned further than this, but not yet as near to the next digit, has no truth."""

DIGITS, LETTERING = "PTN57F", "RobotoCondensed-Regular"
"""Typefaces: PT Sans Narrow on the wheels."""
VIEW = np.array([[14, 10], [952, 2], [940, 536], [26, 522]], np.float32)
"""What the camera sees, from its top left corner clockwise, in pixels of the meter's face."""


def reading_at(frame: int) -> tuple[int, float]:
    """The number on the wheels and how far they have turned to the next one, 0 to 1."""
    step, phase = divmod(frame, RESTING + TURNING)
    turn = max(0.0, (phase - RESTING + 0.5) / TURNING)
    return FIRST_READING + step, turn


def wheel_positions(reading: int, turn: float) -> list[float]:
    """Where each wheel stands, in digits, from left to right.

    A wheel turns along when all wheels to its right pass from 9 to 0.
    """
    positions = []
    for _ in range(WHEELS):
        reading, digit = divmod(reading, 10)
        positions.append(digit + turn)
        if digit != 9:
            turn = 0.0
    return positions[::-1]


def truth_at(frame: int) -> str | None:
    """What a person reads; None while a wheel is between two digits."""
    reading, turn = reading_at(frame)
    if READABLE_TURN < turn < 1 - READABLE_TURN:
        return None
    return f"{reading + round(turn):0{WHEELS}}"


def render(rng: Generator, meter: Meter) -> Iterator[Frame]:
    """Yields the frames (HEIGHT, WIDTH, 3), BGR."""
    shake = _wander(rng, (4, 2), period=4) * 1.6 + _wander(rng, (1, 2), period=25) * 3.0
    brightness = 0.86 + 0.1 * _wander(rng, (), period=30)
    brightness[95:150] *= 0.72  # someone stands before the lamp
    brightness = np.convolve(np.pad(brightness, 3, mode="edge"), np.ones(7) / 7, mode="valid")
    glare_x = np.linspace(250, 420, FRAMES) + 15 * _wander(rng, (), period=20)
    for frame in range(FRAMES):
        reading, turn = reading_at(frame)
        face = meter.draw(wheel_positions(reading, turn), lamp_on=frame % 8 < 2)
        lit = _light(face, brightness[frame], glare_x[frame])
        yield _photograph(rng, lit, VIEW + shake[frame].astype(np.float32))


def regions(meter: Meter) -> dict[str, list[int]]:
    """The box [x1, y1, x2, y2] of each wheel's window in the picture, by its name."""
    view = _view_matrix(VIEW)
    boxes = {}
    for number, window in enumerate(meter.windows, start=1):
        x, y, width, height = window
        corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)
        seen = cv2.perspectiveTransform(corners[None], view)[0] * WIDTH / FACE_WIDTH
        low, high = seen.min(axis=0), seen.max(axis=0)
        boxes[f"d{number}"] = [int(v) for v in np.round([*low, *high])]
    return boxes


def write_truth(path: Path, boxes: dict[str, list[int]]) -> None:
    """Writes meter.yaml: where the digits are and what they show when."""
    lines = [
        "# A rendered electricity meter, made by models/recipes/digits/clip.py.",
        "clip: meter.mp4",
        f"fps: {FPS}",
        f"frames: {FRAMES}",
        f"size: [{WIDTH}, {HEIGHT}]",
        "# The window of each digit in pixels, [x1, y1, x2, y2], from left to right.",
        "regions:",
        *(f"  {name}: {box}" for name, box in boxes.items()),
        "# What the meter shows in frames first to last, both counted from 0 and included.",
        "# null: a wheel is between two digits.",
        "truth:",
    ]
    for reading, group in groupby(range(FRAMES), key=truth_at):
        frames = list(group)
        shown = "null" if reading is None else f'"{reading}"'
        lines.append(f"  - {{frames: [{frames[0]}, {frames[-1]}], reading: {shown}}}")
    path.write_text("\n".join(lines) + "\n")


def _wander(rng: Generator, shape: tuple[int, ...], period: int) -> NDArray[np.float64]:
    """Smooth random motion about zero, (FRAMES, *shape), mostly within -1 to 1."""
    knots = rng.normal(0, 0.5, (FRAMES // period + 2, *shape))
    at = np.arange(FRAMES) / period
    index = at.astype(int)
    blend = (1 - np.cos(np.pi * (at - index))) / 2
    blend = blend.reshape(-1, *[1] * len(shape))
    motion: NDArray[np.float64] = knots[index] * (1 - blend) + knots[index + 1] * blend
    return motion


def _light(face: Frame, brightness: float, glare_x: float) -> NDArray[Any]:
    """A lamp from the upper left and its reflection on the glass; floats, 0 to 255."""
    x = np.arange(FACE_WIDTH, dtype=np.float32)[None, :]
    y = np.arange(FACE_HEIGHT, dtype=np.float32)[:, None]
    lamp = brightness * (1.08 - 0.00022 * x - 0.0003 * y)
    glare = np.exp(-(((x - glare_x + 0.35 * y) / 60) ** 2) - ((y - 170) / 120) ** 2)
    lit: NDArray[Any] = face * lamp[..., None] + (58 * brightness * glare)[..., None]
    return lit


def _view_matrix(view: NDArray[Any]) -> NDArray[Any]:
    full = np.array([[0, 0], [FACE_WIDTH, 0], [FACE_WIDTH, FACE_HEIGHT], [0, FACE_HEIGHT]], np.float32)
    return cv2.getPerspectiveTransform(view, full)


def _photograph(rng: Generator, lit: NDArray[Any], view: NDArray[Any]) -> Frame:
    seen = cv2.warpPerspective(lit, _view_matrix(view), (FACE_WIDTH, FACE_HEIGHT))
    seen = cv2.GaussianBlur(seen, (0, 0), 1.8)
    small = cv2.resize(seen, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    noise = rng.normal(0, 2.6, (HEIGHT, WIDTH, 1)) + rng.normal(0, 1.2, small.shape)
    return np.clip(small + noise, 0, 255).astype(np.uint8)


def main() -> None:
    """Writes the clip and its truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fonts", type=Path, required=True, help="folder with the font files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the clip")
    arguments = parser.parse_args()

    unseen = {t.name: t for t in load_typefaces(arguments.fonts) if t.split == "test"}
    rng = default_rng(SEED)
    meter = Meter(rng, unseen[DIGITS], unseen[LETTERING], WHEELS)
    arguments.out.mkdir(parents=True, exist_ok=True)
    clip = cv2.VideoWriter(str(arguments.out / "meter.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    for picture in render(rng, meter):
        clip.write(picture)
    clip.release()
    write_truth(arguments.out / "meter.yaml", regions(meter))


if __name__ == "__main__":
    main()
