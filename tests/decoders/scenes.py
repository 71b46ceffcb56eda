"""Objects whose places are known, facts of model files, and the same arithmetic as the decoders' in plain loops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.decoders import Decoder, Limits, families
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction

Box = tuple[float, float, float, float]
Floats = NDArray[np.float32]


def floats(values: Any) -> Floats:
    """Numbers as a model gives them."""
    return np.array(values, np.float32)


ALL = Limits(top_k=100, min_confidence=0.25)


@dataclass(frozen=True)
class Thing:
    """An object in a scene: its box x1, y1, x2, y2 in pixels of the model's input."""

    box: Box
    class_id: int
    score: float

    @property
    def xywh(self) -> Box:
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def facts(
    *outputs: Tensor | tuple[int, ...],
    size: tuple[int, int] = (64, 64),
    metadata: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    operators: Sequence[str] = ("", "", "", ""),
    custom: Sequence[str] = (),
    graph: Sequence[str] = (),
    input_name: str = "input",
    file_format: Any = "tflite",
) -> ModelFile:
    """A model file with one picture of `size` (height, width) as its input."""
    shape = (1, *size, 3) if file_format == "tflite" else (1, 3, *size)
    tensors = [one if isinstance(one, Tensor) else Tensor(f"out{n}", one, "float32") for n, one in enumerate(outputs)]
    return ModelFile(
        path=Path(f"model.{file_format}"),
        format=file_format,
        sha256="",
        size=1,
        inputs=(Tensor(input_name, shape, "float32"),),
        outputs=tuple(tensors),
        operators=dict.fromkeys(graph, 1),
        custom_operators=tuple(custom),
        output_operators=tuple(operators[: len(tensors)]),
        version="",
        description="",
        metadata=metadata or {},
        labels=None if labels is None else tuple(labels),
        labels_from="",
        normalization=None,
        associated_files=(),
    )


def specs(file: ModelFile) -> list[TensorSpec]:
    """The outputs as an engine has them."""
    return [TensorSpec(one.name, one.shape, one.dtype, one.scale or 0.0, one.zero_point) for one in file.outputs]


def decoder(file: ModelFile, family: str, labels: Sequence[str] | None = None) -> Decoder:
    """The decoder of a file, which the family has to recognise."""
    return families.build(families.stated(file, family), specs(file), labels)


def as_it_is(size: tuple[int, int] = (64, 64)) -> Placement:
    """A picture of the model's input size: height, width."""
    height, width = size
    return Placement(None, width, height, 0, 0, width, height, 1, 1, 0, 0)


def quantised(values: Floats, dtype: str, scale: float, zero_point: int) -> NDArray[Any]:
    """What a quantised model stores for values."""
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max), dtype)


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes, written out."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    both = wide * high
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def suppressed(found: Sequence[Thing], max_overlap: float, *, class_agnostic: bool = False) -> list[Thing]:
    """Greedy suppression, written out."""
    kept: list[Thing] = []
    for one in sorted(found, key=lambda thing: -thing.score):
        if all(
            overlap(one.box, other.box) <= max_overlap or (one.class_id != other.class_id and not class_agnostic)
            for other in kept
        ):
            kept.append(one)
    return kept


def assert_same(predictions: Sequence[Prediction], expected: Sequence[Thing], *, score: float, iou: float) -> None:
    """Each prediction is one of the expected objects and the other way round."""
    left = list(expected)
    assert [one.class_id for one in predictions] == [one.class_id for one in sorted(left, key=lambda one: -one.score)]
    for prediction in predictions:
        assert prediction.box is not None
        assert prediction.confidence is not None
        box = prediction.box
        best = max(left, key=lambda one: (one.class_id == prediction.class_id, overlap(one.box, box)))
        assert best.class_id == prediction.class_id
        assert abs(best.score - prediction.confidence) <= score
        assert overlap(best.box, box) >= iou
        left.remove(best)
    assert not left
