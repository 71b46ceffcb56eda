"""Order among the workers of a pipeline."""

import threading
from collections.abc import Callable, Sequence

from edge_agent.samples import Sample

# Parts of the road that one sample at a time passes: inference, and what follows it. While one sample is in the second,
# the next one is in the first.
GATES = 2


class Turns:
    """Keeps workers in the order in which they took their samples."""

    def __init__(self) -> None:
        self._taking = threading.Lock()
        self._changed = threading.Condition()
        self._taken = 0
        self._passed = [0] * GATES

    def take(self, get: Callable[[], Sequence[Sample]]) -> "tuple[Turn, Sequence[Sample]] | None":
        """The next samples and the turn that belongs to them; None when there are no more."""
        with self._taking:
            samples = get()
            if not samples:
                return None
            turn = Turn(self, self._taken)
            self._taken += 1
            return turn, samples

    def wait_for(self, number: int, gate: int) -> None:
        """Waits until all earlier turns have passed a gate."""
        with self._changed:
            self._changed.wait_for(lambda: self._passed[gate] == number)

    def passed(self, gate: int) -> None:
        """Lets the next turn into a gate."""
        with self._changed:
            self._passed[gate] += 1
            self._changed.notify_all()


class Turn:
    """A place in the order. As a context manager it waits at one gate after the other until it is this turn."""

    def __init__(self, turns: Turns, number: int) -> None:
        self._turns = turns
        self._number = number
        self._gate = 0

    def __enter__(self) -> None:
        self._turns.wait_for(self._number, self._gate)

    def __exit__(self, *_: object) -> None:
        self._turns.passed(self._gate)
        self._gate += 1

    def over(self) -> None:
        """Passes the gates that are left, in its turn."""
        while self._gate < GATES:
            with self:
                pass
