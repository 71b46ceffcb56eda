"""Models that take batches of one size above one only: batches of another size are filled up or split."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import Engine, EngineWrapper

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AXES_OF_A_PICTURE = 4


class FixedBatch(EngineWrapper):
    """Runs batches of any size in a model of a fixed batch size; what fills them up is the last sample, again.

    Args:
        engine: of a model for which `fixed_batch` is above 1.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._size = fixed_batch(engine)

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference, or as many as the batch takes: see `Engine.run`."""
        [batch] = inputs
        parts = []
        for at in range(0, max(1, len(batch)), self._size):
            part = batch[at : at + self._size]
            filled = np.concatenate([part, np.repeat(part[-1:], self._size - len(part), axis=0)])
            parts.append([output[: len(part)] for output in self.engine.run([filled])])
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def fixed_batch(engine: Engine) -> int:
    """The batch size of a model of pictures that takes no other; 1 for all other models."""
    shapes = [spec.shape for spec in (*engine.inputs, *engine.outputs)]
    return common_batch(shapes) if len(engine.inputs) == 1 else 1


def common_batch(shapes: Sequence[tuple[int, ...]]) -> int:
    """The first axis of a picture's input (the first shape) and of all outputs, if it is the same; else 1."""
    if not shapes or len(shapes[0]) != _AXES_OF_A_PICTURE or not all(shapes):
        return 1
    sizes = {shape[0] for shape in shapes}
    return max(1, *sizes) if len(sizes) == 1 else 1
