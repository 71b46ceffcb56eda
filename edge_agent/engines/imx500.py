"""RPK models, which run in the IMX500: the engine splits what the sensor gives into the model's output tensors."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import CLOSED, Engine, Share, TensorSpec
from edge_agent.engines.accelerators import Target
from edge_agent.errors import ModelError
from edge_agent.modelfile import inspect
from edge_agent.modelfile.identity import FileIdentity

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SensorEngine:
    """See `Engine`. Its input is the sensor's output: all tensors one after the other, the first axis of each fastest.

    Args:
        outputs: the model's output tensors, with a batch of 1.
        accelerator: its name.
    """

    runtime = "IMX500 (in the camera)"
    share: Share | None = None

    def __init__(self, outputs: Sequence[TensorSpec], accelerator: str) -> None:
        self.accelerator = accelerator
        self.outputs = tuple(outputs)
        self._sizes = [math.prod(spec.shape) for spec in outputs]
        self.inputs = (TensorSpec("CnnOutputTensor", (1, sum(self._sizes)), "float32"),)
        self._closed = False

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """See `Engine.run`."""
        if self._closed:
            raise ModelError(CLOSED)
        [values] = inputs
        if values.shape != self.inputs[0].shape:
            raise ModelError(f"expected the numbers of one frame, {self.inputs[0].shape}, found {values.shape}")
        parts = np.split(values[0], np.cumsum(self._sizes)[:-1])
        # https://github.com/raspberrypi/picamera2/blob/main/picamera2/devices/imx500/imx500.py (get_outputs)
        return [
            np.ascontiguousarray(part.reshape(spec.shape[1:], order="F")[None], np.float32)
            for part, spec in zip(parts, self.outputs, strict=True)
        ]

    def close(self) -> None:
        """See `Engine.close`."""
        self._closed = True


def load(file: FileIdentity, target: Target, threads: int) -> Engine:
    """Reads the outputs of an RPK file.

    Raises:
        ModelError: it can't be read.
    """
    del threads  # the sensor computes
    outputs = inspect.read(file.path).outputs
    return SensorEngine([TensorSpec(one.name, one.shape, "float32") for one in outputs], target.name)
