"""Exponential backoff with jitter."""

import random


class Backoff:
    """Delays that double up to a ceiling, each shortened at random by up to a half.

    Args:
        first: the first delay, in seconds.
        ceiling: the longest, in seconds.
    """

    def __init__(self, first: float = 0.5, ceiling: float = 60.0) -> None:
        self._first = first
        self._ceiling = ceiling
        self._next = first

    def delay(self) -> float:
        """Seconds to wait before the next attempt."""
        current = self._next
        self._next = min(self._ceiling, self._next * 2)
        return current * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret

    def reset(self) -> None:
        """Starts again with the first delay, after a success."""
        self._next = self._first
