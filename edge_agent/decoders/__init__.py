"""Decoders: output tensors to predictions. One file a family."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_agent.engines import TensorSpec


def real_values(stored: "NDArray[Any]", spec: "TensorSpec") -> "NDArray[np.float32]":
    """The real values of an output tensor: dequantised where it is quantised."""
    values = stored.astype(np.float32, copy=False)
    if spec.scale:
        values = (values - np.float32(spec.zero_point)) * np.float32(spec.scale)
    return values
