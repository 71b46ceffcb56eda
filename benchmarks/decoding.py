"""What decoding costs beside inference: YOLOv8n's 8400 candidates at 640 x 640, and the other dense families.

`python -m benchmarks.decoding [--rounds N]` prints the table alone.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import report
from benchmarks.bench import Outcome, column, summary, take_turns
from benchmarks.inputs import DATA
from edge_agent.decoders import Limits, families
from edge_agent.engines import load_engine
from edge_agent.modelfile import inspect
from edge_agent.preprocess.image import fit
from edge_agent.preprocess.placement import place

GOAL = 4
MODELS = {
    "YOLOv8n": Path("detect_tflite/yolov8n_integer_quant.tflite"),
    "YOLOv5n": Path("detect_tflite/yolov5n-int8.tflite"),
    "YOLOX-nano": Path("detect_onnx/yolox_nano.onnx"),
}
PICTURES = ("bus.jpg", "dog.jpg")
# What a user of a detector asks for, and a pipeline's defaults: every cell is a candidate then.
LIMITS = {"": Limits(top_k=100, min_confidence=0.25), ", no threshold": Limits(top_k=5, min_confidence=0.0)}
MOST = "<= 0.1"
REPEATS = 10


def decoding(rounds: int, threads: int) -> Outcome:
    """Time of decoding as a part of the time of inference.

    Args:
        rounds: turns of each.
        threads: of the runtime; decoding has one.
    """
    outcome = Outcome()
    for name, path in MODELS.items():
        steps = {"inference": _inference(DATA / path, threads)[0]}
        steps |= {f"decoding{when}": _decoding(DATA / path, threads, limits) for when, limits in LIMITS.items()}
        turns = take_turns(rounds, steps)
        outcome.measured[name] = turns
        spent = column(turns["inference"], "ms")
        outcome.figures.append(summary(GOAL, f"{name}: inference, {threads} threads", spent, unit="ms"))
        for when in LIMITS:
            parts = [ours / whole for ours, whole in zip(column(turns[f"decoding{when}"], "ms"), spent, strict=True)]
            wanted = MOST if name == "YOLOv8n" and not when else ""
            outcome.figures.append(summary(GOAL, f"{name}: decoding{when} / inference", parts, wanted))
            milliseconds = column(turns[f"decoding{when}"], "ms")
            outcome.figures.append(summary(GOAL, f"{name}: decoding{when}", milliseconds, unit="ms"))
    return outcome


def _inference(path: Path, threads: int) -> tuple[Callable[[], dict[str, float]], list[list[Any]], Any]:
    """What measures it, the outputs for each picture, and the engine."""
    file = inspect.read(path)
    engine = load_engine(file.identity, "cpu", threads)
    _, *axes = file.inputs[0].shape
    channels_last = axes[2] in (1, 3)
    height, width = axes[:2] if channels_last else axes[1:]
    inputs = []
    for name in PICTURES:
        picture = np.asarray(cv2.imread(str(DATA / "images" / name)), np.uint8)
        pixels = fit(picture, width, height, "letterbox")
        scale = 255 if file.inputs[0].dtype == "float32" and channels_last else 1
        values = (pixels / scale).astype(file.inputs[0].dtype)
        inputs.append(np.ascontiguousarray(values if channels_last else values.transpose(2, 0, 1))[None])
    outputs = [engine.run([tensor]) for tensor in inputs]
    return lambda: _timed(lambda: [engine.run([tensor]) for tensor in inputs]), outputs, engine


def _decoding(path: Path, threads: int, limits: Limits) -> Callable[[], dict[str, float]]:
    file = inspect.read(path)
    _, outputs, engine = _inference(path, threads)
    decode = families.build(families.fitting(file, 80)[0], engine.outputs, None)
    placement = place(None, (0, 0), (810, 1080), (810, 1080), (640, 640), "letterbox")
    return lambda: _timed(lambda: [decode(tensors, [placement], limits) for tensors in outputs])


def _timed(work: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds for one picture."""
    began = time.perf_counter()
    for _ in range(REPEATS):
        work()
    return {"ms": (time.perf_counter() - began) * 1000 / REPEATS / len(PICTURES)}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.decoding", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns that each gets (7)")
    rounds = parser.parse_args().rounds
    print(report.table([decoding(rounds, len(os.sched_getaffinity(0)))]))


if __name__ == "__main__":
    main()
