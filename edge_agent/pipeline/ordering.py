"""Order among the workers of a pipeline: a ticket lock with several sections."""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from edge_agent.samples import Sample

# The sections. While one batch is in the second one, the next one is in the first.
INFERENCE, PUBLISHING = 0, 1
SECTIONS = 2


class TicketLock:
    """Lets workers through each section one at a time, in the order in which they took their samples."""

    def __init__(self) -> None:
        self._taking = threading.Lock()
        self._changed = threading.Condition()
        self._drawn = 0
        self._passed = [0] * SECTIONS

    def draw(self, take: Callable[[], Sequence[Sample]]) -> "tuple[Ticket, Sequence[Sample]] | None":
        """Takes the next samples and the ticket that belongs to them; None when there are no more.

        Args:
            take: returns the next samples; called by one thread at a time.
        """
        with self._taking:
            samples = take()
            if not samples:
                return None
            ticket = Ticket(self, self._drawn)
            self._drawn += 1
            return ticket, samples

    def wait_for(self, number: int, section: int) -> None:
        """Waits until all earlier tickets have passed a section."""
        with self._changed:
            while self._passed[section] != number:
                self._changed.wait()

    def passed(self, section: int) -> None:
        """Lets the next ticket into a section."""
        with self._changed:
            self._passed[section] += 1
            self._changed.notify_all()


class Ticket:
    """A place in the order. As a context manager it passes, at the end, the sections that were not entered.

    Sections are entered in their order; one may be left out.

    Whatever ends the block, the tickets behind it can go on.
    """

    def __init__(self, lock: TicketLock, number: int) -> None:
        self._lock = lock
        self._number = number
        self._left = list(range(SECTIONS))

    def section(self, number: int) -> "Section":
        """A context manager that enters a section, after all earlier tickets have left it."""
        return Section(self, number)

    def enter(self, section: int) -> None:
        """See `section`."""
        self._lock.wait_for(self._number, section)

    def leave(self, section: int) -> None:
        """See `section`."""
        self._left.remove(section)
        self._lock.passed(section)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number in [*self._left]:
            with self.section(number):
                pass


class Section:
    """See `Ticket.section`. Made for every sample, and a generator takes three times as long."""

    __slots__ = ("_number", "_ticket")

    def __init__(self, ticket: Ticket, number: int) -> None:
        self._ticket, self._number = ticket, number

    def __enter__(self) -> None:
        self._ticket.enter(self._number)

    def __exit__(self, *_: object) -> None:
        self._ticket.leave(self._number)
