"""A network that trains in a second: fixed random features, and one layer that is solved for.

Source: Huang, Zhu and Siew, "Extreme learning machine: Theory and applications", Neurocomputing 70, 2006.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .looks import HEIGHT, LABELS, WIDTH

SEED = 20261130
FEATURES = 1024
RIDGE = 100.0
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """Features with ReLU, a layer, softmax.

    What is to be learned is in two sums over the training samples, so more samples can be added later.

    Attributes:
        mean: of the training pictures, (HEIGHT * WIDTH,).
        products: of features, (FEATURES + 1, FEATURES + 1); the last one is always 1.
        targets: of features and classes, (FEATURES + 1, classes).
        sharpness: the factor before softmax.
    """

    mean: Floats
    products: Floats
    targets: Floats
    sharpness: float

    @classmethod
    def trained(cls, inputs: Floats, labels: NDArray[np.int64]) -> Self:
        """One that has learned from these.

        Args:
            inputs: (n, HEIGHT * WIDTH), 0 to 1.
            labels: (n,).
        """
        blank = cls(inputs.mean(axis=0), *_nothing(), 1.0)
        held_out = np.arange(len(inputs)) % 10 == 0
        part = blank.trained_on(inputs[~held_out], labels[~held_out])
        found = part.scores(inputs[held_out])
        sharpness = min(range(2, 61, 2), key=lambda factor: _loss(found * factor, labels[held_out]))
        whole = blank.trained_on(inputs, labels)
        return cls(whole.mean, whole.products, whole.targets, float(sharpness))

    def trained_on(self, inputs: Floats, labels: NDArray[np.int64], weight: float = 1.0) -> Self:
        """One that has also learned from these.

        Args:
            inputs: (n, HEIGHT * WIDTH), 0 to 1.
            labels: (n,).
            weight: of each of them; those before have 1.
        """
        features = self._features(inputs)
        wanted = np.eye(len(LABELS), dtype=np.float32)[labels]
        products = self.products + np.float32(weight) * (features.T @ features)
        targets = self.targets + np.float32(weight) * (features.T @ wanted)
        return type(self)(self.mean, products, targets, self.sharpness)

    @cached_property
    def head(self) -> Floats:
        """The layer that is solved for, (FEATURES + 1, classes): ridge regression."""
        return np.linalg.solve(self.products + RIDGE * np.eye(FEATURES + 1, dtype=np.float32), self.targets)

    def scores(self, inputs: Floats) -> Floats:
        """Of each class, (n, classes)."""
        return self._features(inputs) @ self.head

    def confidences(self, inputs: Floats) -> Floats:
        """Of each class, (n, classes), sum 1."""
        return _softmax(self.scores(inputs) * np.float32(self.sharpness))

    def accuracy(self, inputs: Floats, labels: NDArray[np.int64]) -> float:
        """The share that is right."""
        return float((self.scores(inputs).argmax(axis=1) == labels).mean())

    def save(self, file: Path) -> None:
        """What it has learned, to train on from."""
        arrays = {"mean": self.mean, "products": self.products, "targets": self.targets}
        np.savez(file, sharpness=self.sharpness, **arrays)

    @classmethod
    def load(cls, file: Path) -> Self:
        """One that was saved."""
        with np.load(file) as found:
            return cls(found["mean"], found["products"], found["targets"], float(found["sharpness"]))

    def _features(self, inputs: Floats) -> Floats:
        weights, offsets = _projection()
        found = np.maximum((inputs - self.mean) @ weights + offsets, 0)
        return np.concatenate([found, np.ones((len(found), 1), np.float32)], axis=1)

    def to_onnx(self) -> bytes:
        """A file whose input is (1, 1, HEIGHT, WIDTH), float32, 0 to 1, and its output (1, classes)."""
        from onnx import TensorProto, helper, numpy_helper

        weights, offsets = _projection()
        head = self.head * np.float32(self.sharpness)
        arrays = {
            "weights0": weights,
            "offsets0": offsets - self.mean @ weights,
            "weights1": head[:-1],
            "offsets1": head[-1],
        }
        nodes: list[Any] = [
            helper.make_node("Flatten", ["image"], ["pixels"]),
            helper.make_node("Gemm", ["pixels", "weights0", "offsets0"], ["projected"]),
            helper.make_node("Relu", ["projected"], ["features"]),
            helper.make_node("Gemm", ["features", "weights1", "offsets1"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ]
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, HEIGHT, WIDTH])
        out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, len(LABELS)])
        constants = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()]
        graph = helper.make_graph(nodes, "numerals", [image], [out], constants)
        opsets = [helper.make_opsetid("", 13)]
        content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
        return content


@cache
def _projection() -> tuple[Floats, Floats]:
    """The weights (HEIGHT * WIDTH, FEATURES) and offsets (FEATURES,) that are drawn once and never change."""
    rng = np.random.default_rng(SEED)
    weights = rng.standard_normal((HEIGHT * WIDTH, FEATURES), np.float32) * np.float32(0.12)
    return weights, rng.standard_normal(FEATURES, np.float32) * np.float32(0.5)


def _nothing() -> tuple[Floats, Floats]:
    size = FEATURES + 1
    return np.zeros((size, size), np.float32), np.zeros((size, len(LABELS)), np.float32)


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Floats = raised / raised.sum(axis=1, keepdims=True)
    return found


def _loss(scores: Floats, labels: NDArray[np.int64]) -> float:
    return float(-np.log(_softmax(scores)[np.arange(len(labels)), labels] + 1e-9).mean())
