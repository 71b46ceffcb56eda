"""Trains the classifier, or trains one on with kept samples, and writes it as a bundle."""

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.random import default_rng
from numpy.typing import NDArray

from .looks import LABELS, draw, known, pictures, to_input
from .network import Floats, Network

SEED = 1
GOLDEN_CONFIDENCE = 0.9
WEIGHT = 5.0
"""Of a kept sample; one of the first training has 1. They are few, and the only ones of their kind."""


def first_training(count: int, seed: int = SEED) -> Network:
    """A network that has seen half of the looks of each class."""
    drawn, labels, _ = pictures(default_rng(seed), count, share=0.0)
    return Network.trained(inputs(drawn), labels)


def inputs(drawn: list[NDArray[np.uint8]]) -> Floats:
    """The network's inputs, (n, pixels)."""
    return np.stack([to_input(picture) for picture in drawn])


def labelled_folder(folder: Path) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    """The pictures of a folder with a folder for each class, as `samples export` writes it."""
    files = [(path, number) for number, label in enumerate(LABELS) for path in sorted((folder / label).glob("*"))]
    drawn = [np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8) for path, _ in files]
    return drawn, np.array([number for _, number in files], np.int64)


def write_bundle(network: Network, version: str, folder: Path) -> None:
    """The model, its labels and a golden sample of each class, which it gets right with certainty."""
    (folder / "golden").mkdir(parents=True)
    (folder / "numerals.onnx").write_bytes(network.to_onnx())
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    rows = [
        "name: numerals",
        f'version: "{version}"',
        "task: classification",
        "licence: Apache-2.0",
        "source: models/recipes/numerals",
        "files: {onnx: numerals.onnx}",
        "labels: labels.txt",
        "preprocess: {resize: stretch, color: gray, normalize: {mean: 0, std: 255}}",
        "golden:",
    ]
    rng = default_rng(SEED)
    for number, label in enumerate(LABELS):
        confidence = 0.0
        while confidence < GOLDEN_CONFIDENCE:
            picture = draw(rng, number, known(number)[0])
            confidence = float(network.confidences(to_input(picture)[None])[0, number])
        cv2.imwrite(str(folder / "golden" / f"{label}.png"), picture)
        rows.append(f'  - {{input: golden/{label}.png, label: "{label}"}}')
    (folder / "model.yaml").write_text("\n".join([*rows, ""]))


def main() -> None:
    """Trains, and writes OUT/bundle and OUT/learned.npz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--version", default="1", help="of the bundle (1)")
    parser.add_argument("--pictures", type=int, default=4000, help="of the first training (4000)")
    parser.add_argument("--learned", type=Path, help="learned.npz of the version to train on")
    parser.add_argument("--samples", type=Path, help="labelled pictures to train it on with: a folder for each class")
    arguments = parser.parse_args()

    if arguments.learned is None:
        network = first_training(arguments.pictures)
    else:
        drawn, labels = labelled_folder(arguments.samples)
        network = Network.load(arguments.learned).trained_on(inputs(drawn), labels, WEIGHT)
    write_bundle(network, arguments.version, arguments.out / "bundle")
    network.save(arguments.out / "learned.npz")


if __name__ == "__main__":
    main()
