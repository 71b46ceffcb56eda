"""Outputs of chips, as their runtimes give them, with the facts of their files."""

import struct
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edge_agent.decoders.boxes import grid
from edge_agent.modelfile.facts import Compiled, ModelFile, Suppression, Tensor
from tests.decoders.scenes import Floats, Thing, facts

SIZE = (96, 128)
LABELS = ("cat", "dog", "bird")
THINGS = (Thing((10, 12, 50, 60), 1, 0.8), Thing((70, 16, 120, 90), 2, 0.6))
MOST = 5
STRIDES = (8, 16, 32)


def fractions(thing: Thing) -> list[float]:
    """y1, x1, y2, x2, score."""
    x1, y1, x2, y2 = thing.box
    return [y1 / SIZE[0], x1 / SIZE[1], y2 / SIZE[0], x2 / SIZE[1], thing.score]


def hailo_file() -> ModelFile:
    file = facts((1, len(LABELS) * (1 + 5 * MOST)), size=SIZE)
    compiled = Compiled("HAILO8L", ("hailo8l",), "", suppression=Suppression("yolov8", len(LABELS), MOST, 0.2, 0.7))
    return replace(file, format="hef", compiled=compiled)


def by_class(things: Sequence[Thing]) -> Floats:
    """(1, classes x (1 + 5 x most)), float32; beyond the boxes there is what was there before."""
    values: list[float] = []
    for class_id in range(len(LABELS)):
        of_class = [thing for thing in things if thing.class_id == class_id]
        values += [len(of_class), *(value for thing in of_class for value in fractions(thing))]
    buffer = np.full(len(LABELS) * (1 + 5 * MOST), 7, np.float32)
    buffer[: len(values)] = values
    return buffer[None]


def by_score(things: Sequence[Thing]) -> "np.typing.NDArray[np.uint8]":
    """(1, bytes)."""
    content = struct.pack("<H", len(things))
    for thing in sorted(things, key=lambda one: -one.score):
        content += struct.pack("<5fH", *fractions(thing), thing.class_id)
    return np.frombuffer(content.ljust(200, b"\7"), np.uint8)[None]


def maps(things: Sequence[Thing], *, channels_first: bool, sums: bool, logits: bool = False) -> list[Floats]:
    """Distances and scores for each feature map, and maybe the sums of the scores."""
    outputs = []
    for stride, thing in zip(STRIDES, [*things, None, None, None][: len(STRIDES)], strict=True):
        cells, _ = grid(SIZE, [stride])
        rows, columns = SIZE[0] // stride, SIZE[1] // stride
        distances, scores = np.zeros((len(cells), 4, 16), np.float32), np.zeros((len(cells), len(LABELS)), np.float32)
        if thing is not None:
            centre = thing.xywh[0] // stride, thing.xywh[1] // stride
            at = int(centre[1] * columns + centre[0])
            middle = (cells[at] + 0.5) * stride
            x1, y1, x2, y2 = thing.box
            for edge, distance in enumerate((middle[0] - x1, middle[1] - y1, x2 - middle[0], y2 - middle[1])):
                distances[at, edge] = sixteen(distance / stride)
            scores[at, thing.class_id] = thing.score
        if logits:
            scores = np.log((scores + 1e-6) / (1 - scores + 1e-6))
        parts = [distances.reshape(-1, 64), scores] + ([scores.sum(axis=1, keepdims=True)] if sums else [])
        for part in parts:
            picture = part.reshape(1, rows, columns, -1)
            outputs.append(np.ascontiguousarray(picture.transpose(0, 3, 1, 2)) if channels_first else picture)
    return outputs


def sixteen(distance: float) -> list[float]:
    """Sixteen numbers whose softmax has this mean, 0 to 15: all of it lies on two neighbours."""
    low = min(int(distance), 14)
    weights = np.full(16, 1e-9)
    weights[[low, low + 1]] = [1 - (distance - low), distance - low]
    return [float(value) for value in np.log(np.maximum(weights, 1e-9))]


def maps_file(outputs: Sequence[Floats]) -> ModelFile:
    return facts(*(Tensor(f"out{at}", one.shape, "float32") for at, one in enumerate(outputs)), size=SIZE)


def sensor_file(**metadata: str) -> ModelFile:
    file = facts((1, 10, 4), (1, 10), (1, 10), (1, 1), size=SIZE)
    compiled = Compiled("IMX500", ("imx500",), "", suppression=Suppression(""))
    return replace(file, format="rpk", compiled=compiled, metadata=metadata)


def sensor(things: Sequence[Thing], order: str = "yx", *, pixels: bool = False) -> list[Floats]:
    """Boxes, scores, classes and their count; beyond the count there is what was there before."""
    boxes, scores = np.full((1, 10, 4), 0.5, np.float32), np.full((1, 10), 0.9, np.float32)
    classes = np.zeros((1, 10), np.float32)
    for at, thing in enumerate(things):
        y1, x1, y2, x2, scores[0, at] = fractions(thing)
        boxes[0, at] = (y1, x1, y2, x2) if order == "yx" else (x1, y1, x2, y2)
        classes[0, at] = thing.class_id
    if pixels:
        boxes = boxes * np.array([SIZE[order == "xy"], SIZE[order == "yx"]] * 2, np.float32)
    return [boxes, scores, classes, np.array([[len(things)]], np.float32)]
