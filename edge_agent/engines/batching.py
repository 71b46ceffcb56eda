"""Batches: some engines take several samples at once, others only one after the other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import Engine
from edge_agent.engines.pool import Pool, ThreadSafe
from edge_agent.engines.supervised import EngineLostError
from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Batching(ThreadSafe):
    """An engine that takes batches: it passes them on at once, or sample by sample where the engine takes only one.

    Args:
        engine: runs them.

    Attributes:
        at_once: whether the engine takes them at once; None before the first one.
    """

    def __init__(self, engine: Engine) -> None:
        if not isinstance(engine, ThreadSafe):
            engine = Pool([engine])
        self.engine, self.size = engine, engine.size
        self.at_once: bool | None = None

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference on a batch; only the batch of a single input is ever split.

        Args:
            inputs: see `Engine.run`; one array of shape (batch, …).

        Returns:
            See `Engine.run`; arrays of shape (batch, …).

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
                pass  # if single samples go through, it was the batch size
            else:
                self.at_once = True
                return outputs
        [batch] = inputs
        singles = [self.engine.run([batch[at : at + 1]]) for at in range(len(batch))]
        self.at_once = False
        return [np.concatenate(outputs) for outputs in zip(*singles, strict=True)]
