"""Sampling: picks the next token from the logits, and says how likely the model found it."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Sampler:
    """Picks tokens. The same seed and logits give the same tokens, in every engine.

    Args:
        temperature: 0: always the likeliest token. The higher, the more often less likely tokens are picked.
        top_k: only this many of the likeliest tokens.
        top_p: of those, only the likeliest that together have this probability (nucleus sampling).
        seed: of the random numbers; None: a different one every time.
    """

    def __init__(self, temperature: float, top_k: int, top_p: float, seed: int | None) -> None:
        self._temperature = temperature
        self._top_k = top_k
        self._top_p = top_p
        self._random = np.random.default_rng(seed)

    def pick(self, logits: "NDArray[np.float32]") -> int:
        """The next token.

        Args:
            logits: shape (vocabulary,); -inf for tokens that must not be picked.
        """
        if self._temperature == 0:
            return int(logits.argmax())
        top = min(self._top_k, len(logits))
        likeliest = np.argpartition(logits, -top)[-top:]
        likeliest = likeliest[np.lexsort((likeliest, -logits[likeliest]))]
        scaled = (logits[likeliest] - logits[likeliest[0]]).astype(np.float64) / self._temperature
        weights = np.exp(scaled)
        total = np.cumsum(weights / weights.sum())
        kept = int(np.searchsorted(total, self._top_p)) + 1
        choice = int(np.searchsorted(total[:kept], self._random.random() * total[min(kept, len(total)) - 1]))
        return int(likeliest[min(choice, len(likeliest) - 1)])


def log_sum(logits: "NDArray[np.float32]") -> float:
    """The logarithm of the sum of exp(logits): a logit less this is the logarithm of its probability.

    Args:
        logits: shape (vocabulary,).

    Returns:
        A number that is not finite if one of the logits is NaN or infinite.
    """
    highest = logits.max()
    return float(highest + np.log(np.exp(logits - highest).sum(dtype=np.float64)))
