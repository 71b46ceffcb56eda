"""Embeddings: one vector per image, to be compared with others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent.decoders import Limits, check_finite, real_values
from edge_agent.decoders.detection import items
from edge_agent.decoders.recognition import Recognition, sole_output, without_batch
from edge_agent.engines import TensorSpec
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_NUMBERS = 65_536
# Operators that normalise a vector to length 1 (TFLite, ONNX), which only embeddings need.
_NORMALIZING = {"L2_NORMALIZATION", "LpNormalization"}
_NAMES = ("embedding", "feature")


@dataclass(frozen=True, slots=True)
class Embedding:
    """Decodes (batch, numbers), with axes of size 1 anywhere, to one vector per item, not normalised.

    Attributes:
        spec: the tensor.
    """

    task = "embedding"

    spec: TensorSpec

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`. Limits do not apply."""
        del limits
        predictions = []
        for placement, item in zip(placements, items(outputs, len(placements)), strict=True):
            vector = real_values(item[0].reshape(-1), self.spec)
            check_finite(vector)
            if len(vector) > MAX_NUMBERS:
                raise ModelError(f"an embedding of {len(vector)} numbers: expected at most {MAX_NUMBERS}")
            numbers = tuple(float(f"{number:.7g}") for number in vector.tolist())
            predictions.append(Prediction(None, None, None, placement.region, vector=numbers))
        return predictions


def recognise_embedding(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, numbers]. The shape alone could be that of a classifier's scores."""
    output = sole_output(file)
    if output is None or sum(size != 1 for size in without_batch(output)) > 1 or not without_batch(output):
        return None
    name = file.metadata.get("output0.name", "").lower()
    operator = file.output_operators[0]
    if operator in _NORMALIZING:
        evidence = f"the last operator, {operator}, brings the output {list(output.shape)} to length 1"
    elif any(word in name for word in _NAMES):
        evidence = f"the file's metadata calls the output {list(output.shape)} {name!r}"
    elif stated:
        evidence = f"the output {list(output.shape)} is one vector"
    else:
        return None
    return Recognition(
        "embedding", "embedding", (evidence,), build=lambda parts: Embedding(parts.outputs[0]), named=True, labels=()
    )
