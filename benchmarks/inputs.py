"""What is measured with: the models, the photographs and the clip of the test data."""

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BESIDE_THE_PROJECT = Path(__file__).parents[2] / "shared" / "data"
DATA = Path(os.environ.get("EDGE_AGENT_TEST_DATA", BESIDE_THE_PROJECT))
LABELS = DATA / "labels" / "coral_imagenet_labels.txt"
VIDEO = DATA / "video" / "one-by-one-person-detection.mp4"
VIDEO_FRAMES = 1394
SMALLEST, LARGEST = 0.5e6, 1.0e6
JPEG_QUALITY = 90
FRAME_SIZE = (640, 480)


@dataclass(frozen=True, slots=True)
class Model:
    """MobileNet v2, 224 x 224, int8, for one runtime; `settings` is what the daemon's configuration has to say."""

    name: str
    path: Path
    settings: str


TFLITE = Model("tflite", DATA / "classify_tflite" / "mobilenet_v2_1.0_224_quant.tflite", f"labels: {LABELS}")
ONNX = Model(
    "onnx", DATA / "classify_onnx" / "mobilenet_v2_quant.onnx", "labels: none, preprocess: {normalize: imagenet}"
)
MODELS = (TFLITE, ONNX)


def write_jpegs(folder: Path) -> None:
    """Writes each photograph as a JPEG of 0.5 to 1 megapixel, the sizes spread evenly."""
    import cv2

    files = sorted((DATA / "images").iterdir())
    for number, file in enumerate(files):
        image: Any = cv2.imread(str(file))
        pixels = SMALLEST + (LARGEST - SMALLEST) * number / (len(files) - 1)
        scale = math.sqrt(pixels / (image.shape[0] * image.shape[1]))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number:02}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def write_frames(folder: Path) -> None:
    """Writes what a camera might see in a second: the same picture, each time moved a little."""
    import cv2
    import numpy as np

    photograph: Any = cv2.imread(str(DATA / "images" / "dog.jpg"))
    image = cv2.resize(photograph, FRAME_SIZE)
    for number in range(30):
        cv2.imwrite(str(folder / f"{number:02}.jpg"), np.roll(image, 4 * number, axis=1))


if __name__ == "__main__":  # a process of its own, so that the load driver shares no library with what it measures
    write_jpegs(Path(sys.argv[1]))
    write_frames(Path(sys.argv[2]))
