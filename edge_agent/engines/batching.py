"""Several samples at once: some engines take them so, others only one after the other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import Engine
from edge_agent.engines.supervised import EngineLostError
from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Batching:
    """An engine that is given batches: at once, or sample by sample where it takes no more than one.

    Attributes:
        engine: which runs them.
        at_once: whether it takes them at once; None as long as nobody has tried.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.at_once: bool | None = None

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference on a batch: see `Engine.run`. What is not one input alone is never taken apart.

        Raises:
            ModelError: it fails.
        """
        if len(inputs) != 1 or not inputs[0].ndim or len(inputs[0]) <= 1 or self.at_once:
            return self.engine.run(inputs)
        if self.at_once is None:
            try:
                outputs = self.engine.run(inputs)
            except EngineLostError:
                raise
            except ModelError:
                pass  # it is the size of the batch, if the samples go through one after the other
            else:
                self.at_once = True
                return outputs
        [batch] = inputs
        singles = [self.engine.run([batch[at : at + 1]]) for at in range(len(batch))]
        self.at_once = False
        return [np.concatenate(outputs) for outputs in zip(*singles, strict=True)]
