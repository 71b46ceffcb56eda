"""Float models as int8, kept only where that is proven to pay."""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_agent.quantization.graph import Operator


class Converter(Protocol):
    """Converts one model file.

    Attributes:
        operators: of its graph, in the order of the file; () where all or nothing is converted, without samples.
        inputs, outputs: names of the graph's tensors at both ends.
    """

    @property
    def operators(self) -> "Sequence[Operator]":
        """See above."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """See above."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """See above."""
        ...

    def calibrate(self, tensors: "Iterable[NDArray[Any]]") -> None:
        """Observes the ranges of all activations.

        Args:
            tensors: inputs of the model, (1, …); are consumed a few at a time.

        Raises:
            ModelError: the tool can't run the model.
        """
        ...

    def convert(self, in_float: Collection[str]) -> bytes:
        """The file in int8; its inputs and outputs keep their types.

        Args:
            in_float: names of operators that are left as they are.

        Raises:
            ModelError: the tool can't convert it.
        """
        ...
