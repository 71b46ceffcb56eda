"""Engines of one model whose files differ: in type and layout of the input, and in what comes out.

A file for a chip takes pixels as they are and may give boxes, where the file for the CPU takes floats and gives raw
tensors. So that one can stand in for the other in the middle of the work, each converts the input of the model, and
says by which decoder its outputs are read.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import Decoder
from edge_agent.engines import Engine, TensorSpec
from edge_agent.engines.batching import Batching
from edge_agent.engines.pool import ThreadSafe
from edge_agent.errors import ModelError
from edge_agent.models.io_spec import IOSpec
from edge_agent.preprocess.image import Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray


class DecodableOutputs(list["NDArray[Any]"]):
    """Output tensors, with the decoder that reads them.

    Attributes:
        decode: that decoder.
    """

    decode: Decoder


class VariantEngine(ThreadSafe):
    """An engine on one of several files of a model.

    Args:
        engine: on this file.
        own: the input and output of this file.
        model: the input of the model, which it takes, and its task.

    Attributes:
        decode: reads its outputs.

    Raises:
        ModelError: this file can't stand in for another one of the model.
    """

    def __init__(self, engine: Engine, own: IOSpec, model: IOSpec) -> None:
        self.engine: Batching = Batching(engine)
        self.size = self.engine.size
        self.decode = own.build(engine.outputs)
        self._converts = conversion(own, model)
        blank, _ = model.preprocess.blank(1)
        self._inputs = (TensorSpec("picture", (-1, *blank.shape[1:]), blank.dtype.name),)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the model takes."""
        return self._inputs

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference: see `Engine.run`.

        Returns:
            `DecodableOutputs`.
        """
        [tensor] = inputs
        if self._converts is not None:
            source, target = self._converts
            tensor = target([picture(one, source) for one in tensor])
        outputs = DecodableOutputs(self.engine.run([tensor]))
        outputs.decode = self.decode
        return outputs


def conversion(own: IOSpec, model: IOSpec) -> tuple[Preprocess, Preprocess] | None:
    """How the input of the model becomes that of a file: from, to; None if it is the same.

    Raises:
        ModelError: it can't.
    """
    ours, theirs = own.preprocess, model.preprocess
    if own.task != model.task:
        raise ModelError(f"its task is {own.task}, that of the model's other file {model.task}")
    if not isinstance(ours, Preprocess) or not isinstance(theirs, Preprocess) or own.feed or model.feed:
        raise ModelError("it has other inputs than the model's other file, and only those of pictures are converted")
    fits = [(one.width, one.height, one.resize, one.crop) for one in (ours, theirs)]
    if fits[0] != fits[1]:
        sizes = [f"{width} x {height}, {resize}" for width, height, resize, _ in fits]
        raise ModelError(f"its input ({sizes[0]}) is not that of the model's other file ({sizes[1]}): compile it alike")
    return None if ours == theirs else (theirs, ours)


def picture(tensor: "NDArray[Any]", made_by: Preprocess) -> "NDArray[np.uint8]":
    """The picture that an input tensor was made from, at the model's size.

    Args:
        tensor: of one picture, in the layout of `made_by`.
        made_by: what has made it.

    Returns:
        (height, width, 3), uint8, BGR.
    """
    planes = tensor.reshape(-1, made_by.height, made_by.width) if made_by.layout == "nchw" else None
    pixels = tensor.reshape(made_by.height, made_by.width, -1) if planes is None else planes.transpose(1, 2, 0)
    if made_by.dtype != "uint8" or set(made_by.mean) != {0.0} or set(made_by.std) != {1.0}:
        mean, std = np.asarray(made_by.mean, np.float32), np.asarray(made_by.std, np.float32)
        pixels = np.clip(np.rint(pixels.astype(np.float32) * std + mean), 0, 255).astype(np.uint8)
    if made_by.color == "gray":
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels if made_by.color == "bgr" else pixels[:, :, ::-1])
