"""What a fixed camera sees: a photograph with the noise of a sensor in light that drifts, and now and then something
that moves across it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.preprocess.opencv import cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH, HEIGHT = 640, 480
# Of a poor sensor, in grey levels.
NOISE = 8.0
NOISES = 16
# By how much the light rises and falls, and how long that takes, in seconds.
DRIFT, DRIFT_PERIOD = 0.15, 30.0


@dataclass(frozen=True)
class Scene:
    """A still scene with something that crosses it.

    Attributes:
        background, thing: photographs.
        fps: frames a second.
        seconds: how long it lasts.
        crossings: how often the thing comes.
        crossing: seconds that it takes.
        share: of the frame that the thing covers.
    """

    background: Path
    thing: Path
    fps: float = 10.0
    seconds: float = 40.0
    crossings: int = 2
    crossing: float = 2.0
    share: float = 0.02

    def frames(self) -> "Iterator[tuple[NDArray[np.uint8], bool]]":
        """Each frame, (480, 640, 3), uint8, BGR, and whether the thing is in it."""
        random = np.random.default_rng(1)
        noises = random.normal(0, NOISE, (NOISES, HEIGHT, WIDTH, 3)).astype(np.float32)
        side = math.ceil(math.sqrt(WIDTH * HEIGHT * self.share))
        background, thing = _photograph(self.background, WIDTH, HEIGHT), _photograph(self.thing, side, side)
        count, length = round(self.fps * self.seconds), round(self.fps * self.crossing)
        for number in range(count):
            frame = background.copy()
            crossing, since = divmod(number, count // self.crossings)
            since -= (count // self.crossings - length) // 2
            moving = 0 <= since < length and crossing < self.crossings
            if moving:
                x = (WIDTH - side) * since // (length - 1)
                y = (HEIGHT - side) * (crossing + 1) // (self.crossings + 1)
                frame[y : y + side, x : x + side] = thing
            frame *= 1 + DRIFT * math.sin(2 * math.pi * number / self.fps / DRIFT_PERIOD)
            frame += np.roll(noises[random.integers(NOISES)], random.integers(HEIGHT), axis=0)
            yield np.clip(frame, 0, 255).astype(np.uint8), moving

    def write(self, path: Path) -> list[bool]:
        """Makes a clip (.mp4, MPEG-4); returns for each frame whether the thing is in it."""
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, self.fps, (WIDTH, HEIGHT))
        if not writer.isOpened():
            raise RuntimeError(f"{path}: this OpenCV writes no MPEG-4")
        moving = []
        for frame, moves in self.frames():
            writer.write(frame)
            moving.append(moves)
        writer.release()
        return moving


def _photograph(path: Path, width: int, height: int) -> "NDArray[np.float32]":
    picture = cv2.imread(str(path))
    assert picture is not None
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.float32)
