"""Recordings of somebody who sits, walks or runs, as windows."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

LABELS = ("stationary", "walking", "running")
WINDOW = 52
"""Readings: two seconds."""
STD = 1000.0
"""In mg: readings are divided by it."""
TEST_EVERY = 4
"""Each so many of a label's recordings is left for the test, the first of them too."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Windows (n, WINDOW, 3) in mg, and for each the number of its label."""

    windows: NDArray[np.float32]
    labels: NDArray[np.int64]


def load(file: Path, hop: int, *, test: bool) -> Dataset:
    """The windows of the recordings that are for training or for the test; never both from one recording.

    Args:
        file: dataset.zip.
        hop: readings from the begin of one window to that of the next.
        test: whether those for the test are meant.
    """
    windows: list[NDArray[np.float32]] = []
    labels: list[int] = []
    with zipfile.ZipFile(file) as archive:
        for number, label in enumerate(LABELS):
            names = sorted(
                name for name in archive.namelist() if name.startswith(f"dataset/{label}/") and ".csv" in name
            )
            for at, name in enumerate(names):
                if (at % TEST_EVERY == 0) != test:
                    continue
                readings = np.loadtxt(io.BytesIO(archive.read(name)), np.float32, delimiter=",")
                starts = range(0, len(readings) - WINDOW + 1, hop)
                windows += [readings[start : start + WINDOW] for start in starts]
                labels += [number] * len(starts)
    return Dataset(np.stack(windows), np.array(labels))


def turned(windows: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    """Each window as the sensor would have seen it had it been mounted in another direction, and a little otherwise."""
    axes, _ = np.linalg.qr(rng.normal(size=(len(windows), 3, 3)))
    louder = rng.uniform(0.9, 1.1, (len(windows), 1, 1))
    noise = rng.normal(0, 15, windows.shape)
    return np.asarray(windows @ axes * louder + noise, np.float32)


def made_up(rng: Generator, label: str) -> NDArray[np.float32]:
    """A window in mg that is in no recording: gravity, steps, and noise. For golden samples."""
    times = np.arange(WINDOW) / 26
    steps, swing = {"stationary": (0.0, 0.0), "walking": (1.9, 350.0), "running": (2.7, 1600.0)}[label]
    phase = rng.uniform(0, 2 * np.pi, (3, 1))
    swings = rng.uniform(0.6, 1.0, (3, 1)) * swing
    moved = sum(np.sin(2 * np.pi * steps * order * times + order * phase) * swings / order for order in (1, 2))
    gravity = rng.normal(size=(3, 1))
    gravity *= 1000 / np.linalg.norm(gravity)
    return np.asarray((gravity + moved + rng.normal(0, 10, (3, WINDOW))).T, np.float32)
