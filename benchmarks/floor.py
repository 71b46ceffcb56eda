"""The floor: the bare runtime in a loop, with nothing around it that could be left out.

Run as a process of its own (`python -m benchmarks.floor MODEL JPEG_FOLDER VIDEO`), so that its CPU time and its memory
are those of the loop alone. It answers each line of JSON on standard input, `{"mode": …, "count": …, "warm_up": …}`,
with one on standard output, `{"per_second": …, "cpu_ms": …}`; the second is CPU time for one input.
"""

import itertools
import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = (224, 224)
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
# Enough to keep the loop busy, as in the daemon.
AHEAD = 2

Image = Any  # a numpy array, (height, width, 3), uint8


def decode(jpeg: bytes) -> Image:
    """BGR pixels."""
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def resize(image: Image) -> Image:
    """As `cv2.resize` does it when told nothing, which is what a bare loop would do; in RGB order."""
    return cv2.cvtColor(cv2.resize(image, SIZE), cv2.COLOR_BGR2RGB)


def resize_area(image: Image) -> Image:
    """With the area filter, which is right for shrinking and several times as expensive."""
    return cv2.cvtColor(cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)


def load(path: str) -> tuple[Callable[[Image], Any], Callable[[Any], Any]]:
    """The bare runtime, as two functions: RGB pixels to input tensor, and input tensor to output tensors."""
    if path.endswith(".tflite"):
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(path, num_threads=1)
        interpreter.allocate_tensors()
        taken = interpreter.get_input_details()[0]["index"]
        given = interpreter.get_output_details()[0]["index"]

        def invoke(tensor: Any) -> Any:
            interpreter.set_tensor(taken, tensor)
            interpreter.invoke()
            return interpreter.get_tensor(given)

        return lambda rgb: rgb[np.newaxis], invoke
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def normalize(rgb: Image) -> Any:
        return np.ascontiguousarray(((rgb - MEAN) / STD).transpose(2, 0, 1)[np.newaxis])

    return normalize, lambda tensor: session.run(None, {name: tensor})


def ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The items, produced by a reader thread beside the loop."""
    waiting: queue.Queue[Any] = queue.Queue(AHEAD)

    def read() -> None:
        for item in items:
            waiting.put(item)
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (item := waiting.get()) is not None:
        yield item


def frames(path: str, total: int) -> Iterator[Image]:
    """The first frames of a video file."""
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    for _ in range(total):
        ok, frame = capture.read()
        if not ok:
            raise RuntimeError(f"{path}: has fewer than {total} frames")
        yield frame


def main() -> None:
    """Answers until standard input ends."""
    model, folder, video = sys.argv[1:]
    to_tensor, invoke = load(model)
    jpegs = [file.read_bytes() for file in sorted(Path(folder).glob("*.jpg"))]

    def preprocess(image: Image) -> Any:
        return to_tensor(resize(image))

    def rest(image: Image) -> Any:
        return invoke(preprocess(image))

    def each(total: int, step: Callable[[Any], Any], items: list[Any] = jpegs) -> Iterator[Any]:
        return (step(item) for item in itertools.islice(itertools.cycle(items), total))

    def decoded() -> list[Image]:
        return [decode(jpeg) for jpeg in jpegs]

    modes: dict[str, Callable[[int], Iterator[Any]]] = {
        "loop": lambda total: each(total, lambda jpeg: rest(decode(jpeg))),
        "loop with area filter": lambda total: each(total, lambda jpeg: invoke(to_tensor(resize_area(decode(jpeg))))),
        "decode": lambda total: each(total, decode),
        "preprocess": lambda total: each(total, preprocess, decoded()),
        "invoke": lambda total: each(total, invoke, [preprocess(image) for image in decoded()]),
        "loop with reader": lambda total: (rest(image) for image in ahead(each(total, decode))),
        "video with reader": lambda total: (rest(frame) for frame in ahead(frames(video, total))),
    }
    print("ready", flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        warm_up, count = question["warm_up"], question["count"]
        work = modes[question["mode"]](warm_up + count)
        for _ in itertools.islice(work, warm_up):
            pass
        began, cpu = time.perf_counter(), time.process_time()
        for _ in work:
            pass
        seconds, spent = time.perf_counter() - began, time.process_time() - cpu
        print(json.dumps({"per_second": count / seconds, "cpu_ms": spent * 1000 / count}), flush=True)


if __name__ == "__main__":
    main()
