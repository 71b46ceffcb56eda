"""Tensors in memory that two processes share; only their types and shapes go through the channel."""

import mmap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Bytes for the tensors of one call, inputs or outputs. Pages that no tensor touches take no memory.
MAX_TENSORS = 1 << 28
_ALIGNMENT = 64

Layout = list[tuple[str, list[int]]]
"""Type and shape of each tensor, in the order in which they lie in the shared memory."""


def write(memory: mmap.mmap, arrays: Sequence["NDArray[Any]"]) -> Layout:
    """Lays arrays out in the shared memory.

    Raises:
        ModelError: they do not fit.
    """
    at, layout = 0, Layout()
    for array in arrays:
        if array.dtype.kind not in "biuf":
            raise ModelError("it gives texts, which can't be handed over: it can't be isolated")
        if at + array.nbytes > MAX_TENSORS:
            raise ModelError(f"its tensors take more than {MAX_TENSORS >> 20} MiB: it can't be isolated")
        np.ndarray(array.shape, array.dtype, memory, at)[...] = array
        layout.append((array.dtype.name, list(array.shape)))
        at += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    return layout


def read(memory: mmap.mmap, layout: Layout) -> list["NDArray[Any]"]:
    """The arrays in the shared memory, not copied."""
    at, arrays = 0, list["NDArray[Any]"]()
    for dtype, shape in layout:
        arrays.append(np.ndarray(shape, dtype, memory, at))
        at += -(-arrays[-1].nbytes // _ALIGNMENT) * _ALIGNMENT
    return arrays
