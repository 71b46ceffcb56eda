"""Makes labelled pictures of digits, the same ones every time for the same seed."""

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from . import scenes
from .camera import HEAVY, INPUT_HEIGHT, INPUT_WIDTH, Photo, photograph, to_input
from .fonts import Typeface, digit_masks, load_typefaces
from .scenes import Glyph, Scene
from .segments import SegmentStyle

LABELS = (*"0123456789", "blank")
BLANK = 10

MAX_TURN = 0.37
"""A wheel that is turned further may show as much of the next digit."""


class Kind(StrEnum):
    """What a sample shows; accuracy is measured for each."""

    PRINTED = "printed"
    TURNED = "half-turned wheel"
    SEGMENTS = "seven-segment"
    BLANK = "blank"


TRAINING_SHARE = {Kind.PRINTED: 0.4, Kind.TURNED: 0.14, Kind.SEGMENTS: 0.32, Kind.BLANK: 0.14}


@dataclass(frozen=True)
class Sources:
    """Where the shapes of digits come from: one side of the split between seen and unseen."""

    printed: tuple[Typeface, ...]
    segments: tuple[Typeface, ...]
    """none: seven-segment digits are drawn by segments.py"""

    @staticmethod
    def training(fonts: Path) -> "Sources":
        """What the network learns from; `fonts` is the folder with the font files."""
        return Sources(tuple(t for t in load_typefaces(fonts) if t.split == "train"), ())

    @staticmethod
    def unseen(fonts: Path) -> "Sources":
        """What the network is measured with; `fonts` is the folder with the font files."""
        typefaces = load_typefaces(fonts)
        return Sources(
            tuple(t for t in typefaces if t.split == "test"),
            tuple(t for t in typefaces if t.split == "segments"),
        )

    def printed_glyph(self, rng: Generator) -> Glyph:
        """The printed digits of a random typeface."""
        return digit_masks(self.printed[rng.integers(len(self.printed))]).__getitem__

    def segment_glyph(self, rng: Generator) -> Glyph:
        """The seven-segment digits of a random display."""
        if not self.segments:
            return SegmentStyle.random(rng).mask
        return digit_masks(self.segments[rng.integers(len(self.segments))]).__getitem__


@dataclass(frozen=True)
class Dataset:
    """Pictures as the network gets them."""

    images: NDArray[np.uint8]
    """(n, INPUT_HEIGHT, INPUT_WIDTH), grey"""
    labels: NDArray[np.int64]
    """(n,), indices into LABELS"""


def sample(rng: Generator, sources: Sources, kind: Kind, severity: float) -> tuple[Photo, int]:
    """One photo of a digit, at the size that the camera gave it, and its label."""
    scene, label = _scene(rng, sources, kind)
    return photograph(rng, scene, severity), label


def make_dataset(seed: int, count: int, sources: Sources, kind: Kind | None, severity: float | None) -> Dataset:
    """Draws `count` samples on all cores.

    With kind None, the kinds are mixed in their TRAINING_SHARE; with severity None, every sample
    has its own, from none to a little above HEAVY.
    """
    cv2.setNumThreads(1)
    work = partial(_input_sample, seed=seed, sources=sources, kind=kind, severity=severity)
    images = np.empty((count, INPUT_HEIGHT, INPUT_WIDTH), np.uint8)
    labels = np.empty(count, np.int64)
    with Pool() as pool:
        for index, (image, label) in enumerate(pool.imap(work, range(count), chunksize=500)):
            images[index], labels[index] = image, label
    return Dataset(images, labels)


def _input_sample(
    index: int, seed: int, sources: Sources, kind: Kind | None, severity: float | None
) -> tuple[Photo, int]:
    rng = default_rng([seed, index])
    if kind is None:
        kind = list(TRAINING_SHARE)[rng.choice(4, p=list(TRAINING_SHARE.values()))]
    if severity is None:
        severity = rng.uniform(0, 1.1 * HEAVY)
    photo, label = sample(rng, sources, kind, severity)
    return to_input(photo), label


def _scene(rng: Generator, sources: Sources, kind: Kind) -> tuple[Scene, int]:
    digit = int(rng.integers(10))
    match kind:
        case Kind.PRINTED:
            return scenes.wheel(rng, sources.printed_glyph(rng), digit, rng.normal(0, 0.02)), digit
        case Kind.TURNED:
            turn = rng.uniform(0.08, MAX_TURN) * rng.choice([-1, 1])
            return scenes.wheel(rng, sources.printed_glyph(rng), digit, turn), digit
        case Kind.SEGMENTS:
            return scenes.display(rng, sources.segment_glyph(rng), digit), digit
        case Kind.BLANK:
            return _blank_scene(rng, sources), BLANK


def _blank_scene(rng: Generator, sources: Sources) -> Scene:
    """An empty wheel, an unlit display, or no meter at all."""
    choice = rng.integers(3)
    if choice == 0:
        return scenes.wheel(rng, sources.printed_glyph(rng), None, 0.0)
    if choice == 1:
        return scenes.display(rng, sources.segment_glyph(rng), None)
    return scenes.background(rng)
