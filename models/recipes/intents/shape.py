"""The sizes of the model, and its tokens with a meaning of their own."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SPECIAL = PAD, ANSWER, END = ("<|pad|>", "<|answer|>", "<|end|>")
"""ANSWER stands between what is asked and its answer, END after that."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama."""

    vocabulary: int = 768
    hidden: int = 160
    layers: int = 4
    heads: int = 5
    kv_heads: int = 5
    feed_forward: int = 320
    context: int = 256
    epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        """Numbers of each head."""
        return self.hidden // self.heads

    def frequencies(self) -> "Tensor":
        """Of the rotary embedding, (head size / 2,): https://arxiv.org/abs/2104.09864."""
        import torch

        half = self.head_size // 2
        return 10_000.0 ** (-torch.arange(half) / half)


SHAPE = Shape()
