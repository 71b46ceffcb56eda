"""Anomaly detection with autoencoders: what differs from the training data is reconstructed badly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import Limits, check_finite, real_values
from edge_agent.decoders.detection import items
from edge_agent.decoders.recognition import Recognition, sole_output
from edge_agent.engines import TensorSpec
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.samples import Prediction
from edge_agent.timeseries.numbers import RawInput

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Decodes a reconstruction of the input to one score: the mean squared error between the two.

    This is the score of the MLPerf Tiny reference: https://github.com/mlcommons/tiny.

    Attributes:
        spec: the output tensor.
    """

    task = "anomaly"

    spec: TensorSpec

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[RawInput], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`. A score has no confidence, so the limits do not apply."""
        del limits
        predictions = []
        for given, item in zip(placements, items(outputs, len(placements)), strict=True):
            if item[0].size != given.values.size:
                raise ModelError(f"expected {given.values.size} values, found an output of shape {list(item[0].shape)}")
            made = real_values(item[0].reshape(-1), self.spec)
            check_finite(made)
            difference = np.subtract(made, given.values.reshape(-1), dtype=np.float64)  # its squares don't overflow
            score = float(np.dot(difference, difference)) / difference.size
            predictions.append(Prediction(None, None, None, value=float(f"{score:.7g}")))
        return predictions


def recognise_anomaly(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """An output with the shape of the input. One number made of one number says nothing of an autoencoder."""
    output = sole_output(file)
    if output is None or len(file.inputs) != 1:
        return None
    inputs, outputs = (math.prod(tensor.shape[1:]) for tensor in (file.inputs[0], output))
    same = file.inputs[0].shape == output.shape and len(output.shape) > 1
    if inputs != outputs or not (stated or (same and inputs != 1)) or (file.labels is not None and not stated):
        return None
    return Recognition(
        "anomaly",
        "anomaly",
        (f"the output is of the input's shape, {list(output.shape)}: what the model gives back of it",),
        build=lambda parts: Anomaly(parts.outputs[0]),
        labels=(),
    )
