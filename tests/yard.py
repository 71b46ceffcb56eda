"""What a camera over a yard sends: a still scene with noise, in light that drifts, through which something moves at
times. Made as encoded clips: the main stream, and a second, small one of the same pictures."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FPS = 25
NOISES = 8
DRIFT, DRIFT_PERIOD = 0.05, 120.0
# Encoders as cameras have them: one keeps the quality, the other one the rate.
X264 = {"preset": "veryfast", "tune": "zerolatency", "x264-params": "bframes=0:scenecut=0:rc-lookahead=0:nal-hrd=none"}
VARIABLE = X264 | {"crf": "27"}


def constant(kilobits: int) -> dict[str, str]:
    """Options of an encoder that keeps the rate."""
    rate = f"{kilobits}k"
    return X264 | {"b": rate, "minrate": rate, "maxrate": rate, "bufsize": f"{kilobits // 2}k"}


@dataclass(frozen=True)
class Episode:
    """Something crosses the scene from left to right.

    Attributes:
        begins, ends: seconds.
        share: of the picture that it covers.
        contrast: how much brighter or darker it is than the middle, in grey levels.
        height: where, from 0 (above) to 1.
    """

    begins: float
    ends: float
    share: float = 0.03
    contrast: int = 70
    height: float = 0.5


@dataclass(frozen=True)
class Yard:
    """A scene.

    Attributes:
        width, height: of the picture.
        seconds: how long it lasts.
        episodes: of motion.
        noise: of the sensor, in grey levels.
        seed: of the scene.
    """

    width: int = 640
    height: int = 360
    seconds: float = 10.0
    episodes: Sequence[Episode] = field(default_factory=list)
    noise: float = 2.0
    seed: int = 1

    def frames(self) -> "Iterator[NDArray[np.uint8]]":
        """Each frame as planes of yuv420p, (height * 3 / 2, width), uint8."""
        random = np.random.default_rng(self.seed)
        coarse = random.integers(60, 180, (9, 16)).astype(np.float32)
        fine = cv2.resize(random.normal(0, 12, (self.height // 4, self.width // 4)), (self.width, self.height))
        still = cv2.resize(coarse, (self.width, self.height), interpolation=cv2.INTER_CUBIC) + fine
        colours = cv2.resize(random.integers(110, 146, (9, 16)).astype(np.uint8), (self.width, self.height // 2))
        noises = [random.normal(0, self.noise, still.shape).astype(np.float32) for _ in range(NOISES)]
        still = still.astype(np.float32)
        for number in range(round(self.seconds * FPS)):
            at = number / FPS
            picture = still * np.float32(1 + DRIFT * math.sin(2 * math.pi * at / DRIFT_PERIOD))
            for episode in self.episodes:
                if episode.begins <= at < episode.ends:
                    self._draw(picture, episode, at - episode.begins)
            picture += np.roll(noises[random.integers(NOISES)], random.integers(self.height), axis=0)
            yield np.concatenate([np.clip(picture, 16, 235).astype(np.uint8), colours])

    def _draw(self, picture: "NDArray[np.float32]", episode: Episode, since: float) -> None:
        high = round(math.sqrt(episode.share * self.width * self.height * 2))
        wide = high // 2
        left, top = (
            round((self.width - wide) * since / (episode.ends - episode.begins)),
            round((self.height - high) * episode.height),
        )
        body = picture[top : top + high, left : left + wide]
        stripes = np.sin(np.arange(body.shape[0], dtype=np.float32) / 5 + 8 * since)[:, None] * 25
        body[:] = 120 + episode.contrast + stripes

    def write(self, clips: Mapping[Path, tuple[tuple[int, int], Mapping[str, str]]], gop: int = 2 * FPS) -> None:
        """Encodes the same frames as several clips (.ts): each of a size, with options of x264."""
        outputs: list[tuple[Any, Any]] = []
        for path, ((width, height), options) in clips.items():
            container = av.open(str(path), "w", format="mpegts")
            stream: Any = container.add_stream("libx264", rate=FPS)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.gop_size, stream.options = gop, dict(options)
            outputs.append((container, stream))
        for number, planes in enumerate(self.frames()):
            for container, stream in outputs:
                frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
                if (stream.width, stream.height) != (self.width, self.height):
                    frame = frame.reformat(stream.width, stream.height, interpolation="AREA")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(stream.encode(frame))
        for container, stream in outputs:
            container.mux(stream.encode(None))
            container.close()
