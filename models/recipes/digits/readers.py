"""The two model files behind one call, as a product would run them."""

from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

Probabilities = NDArray[np.float32]
"""(n, 11), the probability of each label"""

CHUNK = 256


class Reader(Protocol):
    """A model file in its runtime."""

    name: str

    def read(self, images: NDArray[np.uint8]) -> Probabilities:
        """Classifies images (n, 32, 24), grey, at most CHUNK at a time."""
        ...


class TfliteReader:
    """digits.tflite in LiteRT."""

    name = "LiteRT"

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]

    def read(self, images: NDArray[np.uint8]) -> Probabilities:
        """Classifies images (n, 32, 24) as one batch."""
        interpreter = self._interpreter
        # The input's scale is 1/255 and its zero point -128, so a pixel becomes itself minus 128.
        tensor = (images.astype(np.int16) - 128).astype(np.int8)[..., None]
        interpreter.resize_tensor_input(self._input["index"], tensor.shape, strict=True)
        interpreter.allocate_tensors()
        interpreter.set_tensor(self._input["index"], tensor)
        interpreter.invoke()
        scale, zero_point = self._output["quantization"]
        quantised = interpreter.get_tensor(self._output["index"])
        probabilities: Probabilities = (quantised.astype(np.float32) - zero_point) * scale
        return probabilities


class OnnxReader:
    """digits.onnx in ONNX Runtime."""

    name = "ONNX Runtime"

    def __init__(self, path: Path, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def read(self, images: NDArray[np.uint8]) -> Probabilities:
        """Classifies images (n, 32, 24) as one batch."""
        tensor = images.astype(np.float32)[:, None] / 255
        probabilities: Probabilities = self._session.run(["probabilities"], {"image": tensor})[0]
        return probabilities


def read_all(reader: Reader, images: NDArray[np.uint8]) -> Probabilities:
    """Classifies any number of images (n, 32, 24)."""
    starts = range(0, len(images), CHUNK)
    return np.concatenate([reader.read(images[start : start + CHUNK]) for start in starts])
