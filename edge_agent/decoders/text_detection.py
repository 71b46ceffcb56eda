"""Text detection by differentiable binarisation (DB), as in PP-OCR: a map of how probably each pixel is text.

Sources: https://github.com/PaddlePaddle/PaddleOCR (ppocr/postprocess/db_postprocess.py: threshold 0.3, boxes enlarged
by 1.5 times their area over their circumference; configs/det: BGR pixels, ImageNet's normalization).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import check_finite, real_values
from edge_agent.decoders.detection import Candidates, Detector, check_size, corners_of
from edge_agent.decoders.recognition import Parts, Recognition, Size, is_batch, picture_size, sole_output
from edge_agent.engines import TensorSpec
from edge_agent.errors import InputError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.preprocess.opencv import cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLD = 0.3
ENLARGED = 1.5
MAX_PARTS = 1000
# Pixels: smaller parts are no text.
LEAST_SIDE = 3
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_SIGMOIDS = ("Sigmoid", "LOGISTIC", "QLinearSigmoid")
# As Paddle2ONNX calls the output of a PP-OCR detector.
_NAMES = ("sigmoid_0.tmp", "fetch_name_0", "save_infer_model/scale_0.tmp")


def recognise_text_detection(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, 1, height, width] of probabilities. Other maps of one class have that shape, so the name counts."""
    output, size = sole_output(file), picture_size(file)
    if output is None or size is None or len(output.shape) != 4 or not is_batch(output.shape[0]):  # noqa: PLR2004 - and a map
        return None
    sides = output.shape[2:] if output.shape[1] == 1 else output.shape[1:3]
    if 1 not in (output.shape[1], output.shape[3]) or sides not in (size, (-1, -1)) or max(size) < LEAST_SIDE:
        return None
    named = output.name.startswith(_NAMES) and file.output_operators[0] in _SIGMOIDS
    if not named and not stated:
        return None

    def build(parts: Parts) -> Detector:
        spec = parts.outputs[0]
        return Detector(
            lambda item, least: read(item[0], spec, size, least),
            parts.labels,
            overlapping=False,
            details=corners_of,
        )

    return Recognition(
        "text_detection",
        "detection",
        (
            f"the output {list(output.shape)} is a map of the probability of text, as in PP-OCR",
            "PP-OCR takes BGR pixels, letterboxed, with ImageNet's normalization in the order of RGB",
        ),
        build=build,
        named=named,
        classes=1,
        labels=("text",),
        resize="letterbox",
        color="bgr",
        normalization=IMAGENET,
    )


def read(stored: "NDArray[Any]", spec: TensorSpec, size: Size, least: float) -> Candidates:
    """The parts of a map that are text.

    Args:
        stored: (height, width), with axes of size 1 anywhere.
        spec: the output tensor.
        size: height, width of the map.
        least: minimum score, the mean probability within a part.

    Returns:
        Candidates with 8 extras: x, y of the four corners of the enclosing rectangle, which may be rotated.
    """
    check_size(stored, *size)
    probable = real_values(stored.reshape(size), spec)
    check_finite(probable)
    if probable.min() < -THRESHOLD or probable.max() > 1 + THRESHOLD:
        raise InputError("the model's answer is no map of probabilities: check decoder, and preprocess.normalize")
    contours, _ = cv2.findContours((probable > THRESHOLD).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found, scores = [], []
    for contour in sorted(contours, key=cv2.contourArea, reverse=True)[:MAX_PARTS]:
        x, y, wide, high = cv2.boundingRect(contour)
        if min(wide, high) < LEAST_SIDE:
            continue
        inside = np.zeros((high, wide), np.uint8)
        cv2.fillPoly(inside, [contour - (x, y)], (1,))
        score = float(probable[y : y + high, x : x + wide][inside > 0].mean())
        if score >= least:
            centre, sides, angle = cv2.minAreaRect(contour)
            longer = ENLARGED * sides[0] * sides[1] / max(1.0, sides[0] + sides[1])
            corners = cv2.boxPoints((centre, (sides[0] + longer, sides[1] + longer), angle))
            found.append(corners.ravel() + 0.5)  # contours run through the centres of pixels
            scores.append(score)
    extras = np.array(found, np.float32).reshape(-1, 8)
    points = extras.reshape(-1, 4, 2)
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1) if len(points) else np.zeros((0, 4))
    return Candidates(boxes.astype(np.float32), np.array(scores, np.float32), np.zeros(len(scores), np.intp), extras)
