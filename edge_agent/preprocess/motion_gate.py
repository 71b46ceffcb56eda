"""The motion gate: holds back the frames of a still scene before they cost anything.

The scene is a running average of small grey pictures, and what differs from it has moved: the "running Gaussian
average" of Wren et al., "Pfinder: real-time tracking of the human body" (1997), as simplified in Piccardi, "Background
subtraction techniques: a review" (2004, https://doi.org/10.1109/ICSMC.2004.1400815), with a fixed threshold in place
of the variance of each pixel: where something moves often, that variance would grow until the next one passes unseen.
The average takes in every frame, also those that pass, so that what has changed for good does not pass for ever.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_agent import settings
from edge_agent.errors import InputError
from edge_agent.preprocess.decoding import decode_picture
from edge_agent.preprocess.opencv import cv2
from edge_agent.preprocess.regions import Rectangle, Regions, View
from edge_agent.samples import PlanarFrame, Sample, Series

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Most pixels along a side of the small picture.
MAX_SIDE = 200
BLUR = (5, 5)
# Seconds after which the average has taken in 63 % of a lasting change.
ADAPT = 5.0
# When more than this share of the picture is new at once, the light has changed or the camera has turned.
NEW_SCENE = 0.6
# Most by which the light of the whole picture may fade or rise unnoticed: a share, in a second and from frame to frame.
DRIFT = 0.2
# What is as bright as this is so in any light.
SATURATED = 250.0
# Black and white in the planes of most videos.
VIDEO_RANGE = (16, 235)
# Most cameras that are distinguished on a topic with wildcards.
MAX_SCENES = 64


class MotionGate:
    """Decides which frames pass. They must come in order, from one thread at a time.

    Args:
        options: what is wanted.
        regions: of the pipeline; only motion inside them counts.

    Attributes:
        moves: whether something moves in the latest picture that was looked at; it may pass for another reason.
    """

    def __init__(self, options: settings.Gate, regions: Mapping[str, Rectangle]) -> None:
        self._options = options
        self._whole = not regions
        self._regions = Regions(regions)
        self._scenes: dict[object, _Scene] = {}
        self.moves = False

    def passes(self, sample: Sample, *, glance: bool = False) -> bool:
        """Whether a sample is to be looked at: also what somebody asks for, and what is no picture.

        Args:
            sample: the next one of its stream.
            glance: whether frames have been left out before it. If something moves, more will follow soon, and this one
                leaves no trace in the average, which would have the weight of all those that were left out.
        """
        if sample.reply_to is not None or isinstance(sample.data, InputError | Series):
            return True
        try:
            views = self._regions.cut(self._pixels(sample.data))
        except InputError:
            return True
        topic = sample.origin.get("topic")  # one camera each, if it has wildcards
        if topic not in self._scenes and len(self._scenes) == MAX_SCENES:
            del self._scenes[next(iter(self._scenes))]
        scene = self._scenes.setdefault(topic, _Scene(self._options, len(views)))
        video_range = isinstance(sample.data, PlanarFrame) and sample.data.is_video_range
        passes = scene.passes(views, sample.stream_time, video_range=video_range, glance=glance)
        self.moves = scene.moves
        return passes

    def _pixels(self, data: "bytes | NDArray[np.uint8] | PlanarFrame") -> "NDArray[np.uint8]":
        if isinstance(data, PlanarFrame):
            return data.luma()
        if not isinstance(data, bytes):
            return data
        # Regions are stated in pixels of the whole picture.
        return decode_picture(data, _reduction if self._whole else None).pixels


def _reduction(width: int, height: int) -> tuple[int, int]:
    most = max(width, height) // MAX_SIDE
    return most, most


class _Scene:
    """What one camera shows."""

    def __init__(self, options: settings.Gate, views: int) -> None:
        self._options = options
        self._backgrounds = [_Background(options.threshold) for _ in range(views)]
        self._last_time: float | None = None
        self._now = self._moved = self._passed = 0.0
        self.moves = False

    def passes(self, views: Sequence[View], time: float, *, video_range: bool, glance: bool) -> bool:
        """Whether something moves, or has moved just now, or has not passed for long.

        Args:
            views: of the frame.
            time: seconds, on the clock of the stream.
            video_range: whether the grey levels of the views are those of `VIDEO_RANGE`.
            glance: see `MotionGate.passes`.
        """
        # A file that is looped goes back in its own time.
        elapsed = 0.0 if self._last_time is None else max(0.0, time - self._last_time)
        self._last_time = time
        self._now += elapsed
        pairs = zip(self._backgrounds, views, strict=True)
        # Each of them must see every frame.
        most = self._options.min_area if glance else 1.0
        shares = [background.changed(view.pixels, elapsed, most, video_range=video_range) for background, view in pairs]
        self.moves = max(shares) >= self._options.min_area
        if self.moves:
            self._moved = self._now
        just_moved = self._now - self._moved < self._options.hold
        passes = self.moves or just_moved or self._now - self._passed >= self._options.heartbeat
        if passes:
            self._passed = self._now
        return passes


class _Background:
    """How a view looks when nothing moves in it."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._average: NDArray[np.float32] | None = None

    def changed(self, pixels: "NDArray[np.uint8]", elapsed: float, most: float, *, video_range: bool) -> float:
        """The share of the view that differs; if that is below `most`, the view is then part of the average.

        Args:
            pixels: (height, width, 3), uint8, BGR; or (height, width), grey.
            elapsed: seconds since the last one.
            most: see above; a new scene takes the place of the average in any case.
            video_range: see `_Scene.passes`.
        """
        grey = _small_grey(pixels)
        if video_range:
            grey = np.maximum(0, (grey - VIDEO_RANGE[0]) * np.float32(255 / (VIDEO_RANGE[1] - VIDEO_RANGE[0])))
        average = self._average
        if average is None or average.shape != grey.shape:
            self._average = grey
            return 1.0
        np.multiply(average, _light(grey, average, DRIFT * min(1.0, elapsed)), average, where=average < SATURATED)
        share = float(np.count_nonzero(cv2.absdiff(grey, average) > self._threshold) / grey.size)
        if share > NEW_SCENE:
            self._average = grey
        elif share < most:
            cv2.accumulateWeighted(grey, average, 1 - math.exp(-elapsed / ADAPT))
        return share


def _small_grey(pixels: "NDArray[np.uint8]") -> "NDArray[np.float32]":
    """A view without its noise, (height, width), 0 to 255. Halving again and again is much the fastest way."""
    while max(pixels.shape[:2]) > MAX_SIDE and min(pixels.shape[:2]) > 1:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        pixels = np.asarray(
            cv2.resize(pixels[: height * 2, : width * 2], (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )
    grey = cv2.GaussianBlur(pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), BLUR, 0)  # noqa: PLR2004 - axes
    return np.asarray(grey, np.float32)


def _light(grey: "NDArray[np.float32]", average: "NDArray[np.float32]", most: float) -> float:
    """How much lighter most of a view is than its average (1: no change), within 1 - most and 1 + most."""
    few = (slice(None, None, 4), slice(None, None, 4))
    ratios = ((grey[few] + 1) / (average[few] + 1)).ravel()
    middle = len(ratios) // 2
    ratio = float(np.partition(ratios, middle)[middle])  # the median, at a third of the cost of `np.median`
    return min(1 + most, max(1 - most, ratio))
