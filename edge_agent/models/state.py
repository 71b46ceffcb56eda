"""Models that take more than their sample: a state that they gave for the sample before, and constants."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import Engine, TensorSpec
from edge_agent.errors import ModelError
from edge_agent.settings.series import Input

if TYPE_CHECKING:
    from numpy.typing import NDArray

State = dict[str, "NDArray[Any]"]
"""By the input's name what it takes next; empty at the begin of a stream."""


class StatefulIO:
    """The inputs and outputs of a model besides those of its samples.

    Args:
        inputs: of the engine.
        outputs: of the engine.
        stated: names those that are meant.

    Attributes:
        own: number of the input that takes samples.
        answers: the outputs that are no state.
        stateful: whether there is a state.

    Raises:
        ModelError: the engine has not one input that is left for samples.
    """

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], stated: Input) -> None:
        self._state = dict(stated.state)
        names = [spec.name for spec in inputs]
        left = [at for at, name in enumerate(names) if name not in stated.state and name not in stated.constants]
        if len(left) != 1:
            raise ModelError(f"expected one input that is neither state nor constant, found {len(left)} of {names}")
        self.own = left[0]
        self.answers = tuple(spec for spec in outputs if spec.name not in stated.state.values())
        self.stateful = bool(stated.state)
        self._first: State = {
            spec.name: np.full([max(1, size) for size in spec.shape], stated.constants.get(spec.name, 0.0), spec.dtype)
            for at, spec in enumerate(inputs)
            if at != self.own
        }

    def run(self, engine: Engine, tensor: "NDArray[Any]", state: State) -> list["NDArray[Any]"]:
        """The answers to a sample.

        Args:
            engine: that runs it now.
            tensor: of the sample.
            state: is changed to that which the next sample of the stream needs.

        Raises:
            ModelError: the inference fails.
        """
        feed = [state.get(spec.name, self._first.get(spec.name, tensor)) for spec in engine.inputs]
        answers = zip((spec.name for spec in engine.outputs), engine.run(feed), strict=True)
        outputs = dict(answers)
        state.update({entry: outputs[source] for entry, source in self._state.items()})
        return [outputs[spec.name] for spec in self.answers]
