"""Models that choose a class themselves (ArgMax): its number comes out, without a confidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent.decoders import Limits
from edge_agent.decoders.detection import class_numbers, items, label_of
from edge_agent.decoders.recognition import Recognition, sole_output
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARGMAX = frozenset({"ARG_MAX", "ArgMax"})


@dataclass(frozen=True, slots=True)
class ClassNumber:
    """Decodes (batch,) class numbers, with axes of size 1 anywhere, to one prediction for each item.

    Attributes:
        labels: one per class; None: there are only numbers.
    """

    task = "classification"

    labels: Sequence[str] | None

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`. Limits do not apply: there is one prediction, without a confidence."""
        del limits
        batch = [outputs[0].reshape(1)] if outputs[0].size == 1 else outputs[:1]
        predictions = []
        for placement, item in zip(placements, items(batch, len(placements)), strict=True):
            if item[0].size != 1:
                raise ModelError(f"expected the number of one class, found an output of shape {list(item[0].shape)}")
            class_id = int(class_numbers(item[0].reshape(-1))[0])
            predictions.append(Prediction(label_of(class_id, self.labels), class_id, None, placement.region))
        return predictions


def recognise_class_number(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1] or [1, 1] of whole numbers that are no quantised values."""
    del stated
    output = sole_output(file)
    if output is None or not output.dtype.startswith(("int", "uint")) or output.scale is not None:
        return None
    if any(size != 1 for size in output.shape[1:]) or (output.shape[:1] not in ((), (1,), (-1,))):
        return None
    operator = file.output_operators[0]
    if operator not in ARGMAX and output.dtype not in ("int32", "int64"):
        return None
    return Recognition(
        "class_number",
        "classification",
        (f"the output {list(output.shape)} {output.dtype} is the number of a class ({operator or 'whole numbers'})",),
        build=lambda parts: ClassNumber(parts.labels),
        named=operator in ARGMAX,
    )
