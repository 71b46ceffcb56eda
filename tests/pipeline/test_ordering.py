"""The ticket lock: sections are passed one at a time and in order, whatever ends a ticket."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest

from edge_agent.pipeline.ordering import INFERENCE, PUBLISHING, SECTIONS, Ticket, TicketLock
from edge_agent.samples import Sample

SAMPLE = Sample(b"", 0.0, 0.0, {})
DEADLINE = 10.0


def draw(lock: TicketLock) -> Ticket:
    drawn = lock.draw(lambda: [SAMPLE])
    assert drawn is not None
    return drawn[0]


def run(*works: Callable[[], None]) -> None:
    """Runs each in a thread; none may be left waiting."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not any(thread.is_alive() for thread in threads), "a worker waits for ever"


def test_when_there_are_no_more_samples_there_is_no_ticket() -> None:
    assert TicketLock().draw(list) is None


def test_samples_are_taken_by_one_worker_at_a_time() -> None:
    lock, inside, most = TicketLock(), [0], [0]

    def take() -> Sequence[Sample]:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.001)  # gives the others the chance to come in
        inside[0] -= 1
        return [SAMPLE]

    def draw_many() -> None:
        for _ in range(20):
            lock.draw(take)

    run(*[draw_many] * 4)
    assert most == [1]


@pytest.mark.parametrize("seed", range(5))
def test_each_section_is_entered_by_one_ticket_at_a_time_in_the_order_of_the_tickets(seed: int) -> None:
    lock, rng = TicketLock(), random.Random(seed)
    entered: list[list[int]] = [[] for _ in range(SECTIONS)]
    inside = [0] * SECTIONS
    delays = [rng.random() / 1000 for _ in range(200)]

    def pass_through(number: int, ticket: Ticket) -> None:
        with ticket:
            for section in range(SECTIONS):
                time.sleep(delays[(number + section) % len(delays)])  # a step of its own length
                with ticket.section(section):
                    inside[section] += 1
                    assert inside[section] == 1
                    entered[section].append(number)
                    inside[section] -= 1

    tickets = [draw(lock) for _ in range(40)]
    order = list(enumerate(tickets))
    rng.shuffle(order)
    run(*[lambda number=number, ticket=ticket: pass_through(number, ticket) for number, ticket in order])
    assert entered == [list(range(40))] * SECTIONS


def test_while_one_ticket_is_in_the_second_section_the_next_one_is_in_the_first() -> None:
    lock = TicketLock()
    first, second = draw(lock), draw(lock)
    with first.section(INFERENCE):
        pass
    with first.section(PUBLISHING), second.section(INFERENCE):
        pass


@pytest.mark.parametrize("entered", range(SECTIONS + 1))
def test_an_error_at_any_place_lets_the_tickets_behind_go_on(entered: int) -> None:
    lock = TicketLock()
    failing, behind = draw(lock), draw(lock)

    def fail() -> None:
        with suppress(ZeroDivisionError), failing:
            for section in range(entered):
                with failing.section(section):
                    pass
            raise ZeroDivisionError

    def go_on() -> None:
        with behind:
            for section in range(SECTIONS):
                with behind.section(section):
                    pass

    run(go_on, fail)


@pytest.mark.parametrize("section", range(SECTIONS))
def test_an_error_within_a_section_lets_the_tickets_behind_go_on(section: int) -> None:
    lock = TicketLock()
    failing, behind = draw(lock), draw(lock)

    def fail() -> None:
        with suppress(ZeroDivisionError), failing:
            for before in range(section):
                with failing.section(before):
                    pass
            with failing.section(section):
                raise ZeroDivisionError

    def go_on() -> None:
        with behind, behind.section(INFERENCE):
            pass

    run(go_on, fail)


def test_a_ticket_that_enters_nothing_still_waits_for_those_before_it() -> None:
    lock, passed = TicketLock(), list[str]()
    first, second, third = draw(lock), draw(lock), draw(lock)

    def enter_nothing() -> None:
        with second:
            pass
        passed.append("second")

    def enter(ticket: Ticket, name: str) -> None:
        with ticket:
            for section in range(SECTIONS):
                with ticket.section(section):
                    passed.append(name)

    run(enter_nothing, lambda: enter(third, "third"), lambda: enter(first, "first"))
    assert passed.index("third") > passed.index("first")
    assert passed.count("first") == passed.count("third") == SECTIONS
