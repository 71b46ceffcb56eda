"""Models with inputs besides the sample: a state, which is an output for the previous sample, and constants."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import Engine, TensorSpec
from edge_agent.errors import ModelError
from edge_agent.settings.series import Input

if TYPE_CHECKING:
    from numpy.typing import NDArray

State = dict[str, "NDArray[Any]"]
"""The next array for each input that holds a state, by its name; empty at the begin of a stream."""


class StatefulIO:
    """Runs a model that has inputs besides the sample.

    Args:
        inputs: of the engine.
        outputs: of the engine.
        stated: names the inputs and outputs of the state, and the constants.

    Attributes:
        answers: the outputs that hold no state.
        stateful: whether there is a state, and not constants alone.

    Raises:
        ModelError: there is not exactly one input left for the sample.
    """

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], stated: Input) -> None:
        self._state = dict(stated.state)
        names = [spec.name for spec in inputs]
        left = [at for at, name in enumerate(names) if name not in stated.state and name not in stated.constants]
        if len(left) != 1:
            raise ModelError(f"expected one input that is neither state nor constant, found {len(left)} of {names}")
        self.answers = tuple(spec for spec in outputs if spec.name not in stated.state.values())
        self.stateful = bool(stated.state)
        self._first: State = {
            spec.name: np.full([max(1, size) for size in spec.shape], stated.constants.get(spec.name, 0.0), spec.dtype)
            for at, spec in enumerate(inputs)
            if at != left[0]
        }

    def run(self, engine: Engine, tensor: "NDArray[Any]", state: State) -> list["NDArray[Any]"]:
        """Runs one sample.

        Args:
            engine: runs the model.
            tensor: input tensor of the sample, (1, …).
            state: of its stream; is updated for the next sample.

        Returns:
            One array for each of `answers`.

        Raises:
            ModelError: the inference fails.
        """
        feed = [state.get(spec.name, self._first.get(spec.name, tensor)) for spec in engine.inputs]
        outputs = dict(zip((spec.name for spec in engine.outputs), engine.run(feed), strict=True))
        state.update({name: outputs[source] for name, source in self._state.items()})
        return [outputs[spec.name] for spec in self.answers]
