"""Raw: a model's own output tensors, for models whose outputs no decoder knows."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import Limits
from edge_agent.decoders.detection import items
from edge_agent.decoders.recognition import Recognition
from edge_agent.engines import TensorSpec
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

RAW = "raw"
# Above this number of values, lists would take several times the space and the time.
MAX_LISTED = 1024
# Of all tensors of one input, before base64.
MAX_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class Raw:
    """Publishes (batch, …) outputs of any number, shape and type as they are.

    Attributes:
        specs: the output tensors.
    """

    task = RAW

    specs: Sequence[TensorSpec]

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Any], limits: Limits
    ) -> list[Prediction]:
        """One prediction for each tensor of each item: see `Decoder`. Limits do not apply, any value may occur."""
        del limits
        if (size := sum(output.nbytes for output in outputs)) > MAX_BYTES * len(placements):
            raise ModelError(f"outputs of {size} bytes: decoder: raw publishes at most {MAX_BYTES} of an input")
        if len(placements) == 1:
            batch = [list(outputs)]
        else:
            batch = [[array[None] for array in item] for item in items(outputs, len(placements))]
        return [
            Prediction(None, None, None, placement.region, tensor=_published(spec, array))
            for placement, item in zip(placements, batch, strict=True)
            for spec, array in zip(self.specs, item, strict=True)
        ]


def raw(file: ModelFile) -> Recognition:
    """The recognition of any model whatever, as stated."""
    shapes = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in file.outputs)
    return Recognition(
        RAW, RAW, (f"its output tensors as they are: {shapes}",), build=lambda parts: Raw(parts.outputs), labels=()
    )


def _published(spec: TensorSpec, array: "NDArray[Any]") -> dict[str, Any]:
    """A tensor as in results."""
    tensor = {"name": spec.name, "shape": list(array.shape), "dtype": array.dtype.name, "values": _values(array)}
    return tensor | ({"scale": spec.scale, "zero_point": spec.zero_point} if spec.scale else {})


def _values(array: "NDArray[Any]") -> Any:
    """Nested lists; base64 of the little-endian values, row by row, of large tensors and of those with NaN in them."""
    if array.dtype.kind not in "iufb":
        return array.astype(str).tolist()
    is_real = array.dtype.kind == "f"
    if array.size > MAX_LISTED or (is_real and not np.isfinite(array).all()):
        return base64.b64encode(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()).decode()
    if not is_real:
        return array.tolist()
    # The shortest decimal numbers that are the same float32.
    shortest = [float(str(value)) for value in array.reshape(-1)]
    return np.asarray(shortest, np.float64).reshape(array.shape).tolist()
