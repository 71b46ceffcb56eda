"""Writes what a device in the field sees: a clip of numerals, or labelled pictures to measure with."""

import argparse
import json
from pathlib import Path

import cv2
from numpy.random import default_rng

from .looks import LABELS, pictures

FPS = 25.0


def main() -> None:
    """Writes OUT.avi and OUT.json, or a folder for each class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="a file .avi, or a folder to make")
    parser.add_argument("--count", type=int, default=500, help="pictures (500)")
    parser.add_argument("--new", type=float, default=0.2, help="share of those in looks that are new (0.2)")
    parser.add_argument("--seed", type=int, default=2)
    arguments = parser.parse_args()
    out: Path = arguments.out

    drawn, labels, is_new = pictures(default_rng(arguments.seed), arguments.count, arguments.new)
    if out.suffix == ".avi":
        size = (drawn[0].shape[1], drawn[0].shape[0])
        writer = cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*"MJPG"), FPS, size)
        for picture in drawn:
            writer.write(cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
        writer.release()
        truth = {"fps": FPS, "labels": [LABELS[label] for label in labels], "new": is_new.tolist()}
        out.with_suffix(".json").write_text(json.dumps(truth))
        return
    for number, (picture, label) in enumerate(zip(drawn, labels, strict=True)):
        (out / LABELS[label]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(out / LABELS[label] / f"{number:05}.png"), picture)


if __name__ == "__main__":
    main()
