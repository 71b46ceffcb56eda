"""Measures both model files on digits of unseen typefaces and on the clip; writes a JSON file."""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import yaml

from .camera import HEAVY, INPUT_HEIGHT, INPUT_WIDTH, MODERATE, to_input
from .dataset import LABELS, Kind, Sources, make_dataset
from .readers import OnnxReader, Reader, TfliteReader, read_all

SEED = 90210
SAMPLES = 8000
"""of each kind at each severity"""
SEVERITIES = {"moderate": MODERATE, "heavy": HEAVY}


def measure_sets(readers: list[Reader], sources: Sources) -> list[dict[str, object]]:
    """One row for each kind and severity: samples, and for each reader how many are right."""
    rows: list[dict[str, object]] = []
    for number, (kind, severity) in enumerate((k, s) for k in Kind for s in SEVERITIES):
        data = make_dataset(SEED + number, SAMPLES, sources, kind, SEVERITIES[severity])
        answers = [read_all(reader, data.images).argmax(axis=1) for reader in readers]
        rows.append(
            {
                "kind": kind,
                "severity": severity,
                "samples": SAMPLES,
                "right": {
                    reader.name: int((answer == data.labels).sum())
                    for reader, answer in zip(readers, answers, strict=True)
                },
                "agreeing": int((answers[0] == answers[1]).sum()),
            }
        )
    return rows


def measure_clip(reader: Reader, folder: Path) -> dict[str, object]:
    """How many digits of the clip are read rightly, and the majority's reading of each stretch."""
    truth = yaml.safe_load((folder / "meter.yaml").read_text())
    boxes = list(truth["regions"].values())
    answers = []
    clip = cv2.VideoCapture(str(folder / truth["clip"]))
    while (frame := clip.read()[1]) is not None:
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        crops = [to_input(grey[y1:y2, x1:x2]) for x1, y1, x2, y2 in boxes]
        answers.append(reader.read(np.stack(crops)).argmax(axis=1))
    digits = right = 0
    readings = []
    for stretch in truth["truth"]:
        if stretch["reading"] is None:
            continue
        first, last = stretch["frames"]
        seen = np.stack(answers[first : last + 1])
        expected = np.array([int(digit) for digit in stretch["reading"]])
        digits += seen.size
        right += int((seen == expected).sum())
        majority = [LABELS[np.bincount(column).argmax()] for column in seen.T]
        readings.append({"truth": stretch["reading"], "majority": "".join(majority)})
    return {"frames": len(answers), "digits": digits, "right": right, "readings": readings}


def measure_speed(reader: Reader, runs: int = 500) -> float:
    """Median milliseconds of one digit, with the copies in and out."""
    image = np.zeros((1, INPUT_HEIGHT, INPUT_WIDTH), np.uint8)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        reader.read(image)
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1000)


def main() -> None:
    """Measures accuracy, agreement and speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fonts", type=Path, required=True, help="folder with the font files")
    parser.add_argument("--models", type=Path, required=True, help="folder with the model files")
    parser.add_argument("--clip", type=Path, required=True, help="folder with the clip")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()

    readers: list[Reader] = [
        TfliteReader(arguments.models / "digits.tflite"),
        OnnxReader(arguments.models / "digits.onnx"),
    ]
    result = {
        "sets": measure_sets(readers, Sources.unseen(arguments.fonts)),
        "clip": {reader.name: measure_clip(reader, arguments.clip) for reader in readers},
        "milliseconds": {reader.name: measure_speed(reader) for reader in readers},
    }
    arguments.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
