"""Models with inputs besides the sample, or with one for each column of it.

Such an input holds a state, which is an output for the previous sample, or a constant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import Engine, TensorSpec
from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

State = dict[str, "NDArray[Any]"]
"""The next array for each input that holds a state, by its name; empty at the begin of a stream."""


@dataclass(frozen=True, slots=True)
class Feed:
    """What goes into a model besides one tensor of the sample.

    Attributes:
        state: input -> the output that it takes of the previous sample.
        constants: input -> one number, or all numbers of the input.
        columns: the inputs that take one column each of the sample, in its order; () where the sample is one input.
    """

    state: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.state or self.constants or self.columns)


class StatefulIO:
    """Runs a model that has inputs besides the sample, or several for it.

    Args:
        inputs: of the engine.
        outputs: of the engine.
        feed: names the inputs and outputs of the state, the constants and the columns.

    Attributes:
        answers: the outputs that hold no state.
        stateful: whether there is a state, and not constants alone.

    Raises:
        ModelError: there is not exactly one input left for the sample, or a constant has another number of values.
    """

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], feed: Feed) -> None:
        self._state = dict(feed.state)
        names = [spec.name for spec in inputs]
        self._columns = {name: at for at, name in enumerate(feed.columns)}
        left = [name for name in names if name not in feed.state and name not in feed.constants]
        if len(left) != 1 and set(left) != set(feed.columns):
            raise ModelError(f"expected one input that is neither state nor constant, found {len(left)} of {names}")
        # Without a batch axis, the first axis of one sample may be its readings.
        self._one = next(spec.shape for spec in inputs if spec.name in left)
        self.answers = tuple(spec for spec in outputs if spec.name not in feed.state.values())
        self.stateful = bool(feed.state)
        self._first: State = {
            spec.name: _filled(spec, feed.constants.get(spec.name, (0.0,))) for spec in inputs if spec.name not in left
        }

    def run(self, engine: Engine, tensor: "NDArray[Any]", state: State) -> list["NDArray[Any]"]:
        """Runs one sample; of a model without a state, also several, one after the other.

        Args:
            engine: runs the model.
            tensor: input tensor of the sample, (1, …).
            state: of its stream; is updated for the next sample.

        Returns:
            One array for each of `answers`.

        Raises:
            ModelError: the inference fails.
        """
        several = tensor.ndim and len(tensor) > 1 and tensor.shape != self._one
        if several and self._first and not self.stateful:
            singles = [self._run(engine, tensor[at : at + 1], state) for at in range(len(tensor))]
            return [np.concatenate(outputs) for outputs in zip(*singles, strict=True)]
        return self._run(engine, tensor, state)

    def _run(self, engine: Engine, tensor: "NDArray[Any]", state: State) -> list["NDArray[Any]"]:
        feed = [state.get(spec.name, self._first.get(spec.name, tensor)) for spec in engine.inputs]
        if self._columns:
            feed = [
                one if spec.name in self._first else self._column(spec, tensor)
                for spec, one in zip(engine.inputs, feed, strict=True)
            ]
        outputs = dict(zip((spec.name for spec in engine.outputs), engine.run(feed), strict=True))
        state.update({name: outputs[source] for name, source in self._state.items()})
        return [outputs[spec.name] for spec in self.answers]

    def _column(self, spec: TensorSpec, tensor: "NDArray[Any]") -> "NDArray[Any]":
        column = tensor[:, self._columns[spec.name]]
        return column.reshape(-1, *[1] * (len(spec.shape) - 1)).astype(spec.dtype)


def _filled(spec: TensorSpec, values: tuple[float, ...]) -> "NDArray[Any]":
    shape = [max(1, size) for size in spec.shape]
    if len(values) == 1:
        return np.full(shape, values[0], spec.dtype)
    if np.prod(shape) != len(values):
        raise ModelError(f"input.constants: {spec.name} has the shape {shape}, and {len(values)} numbers are stated")
    return np.array(values, spec.dtype).reshape(shape)
