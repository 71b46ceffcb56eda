"""Every input is counted once and ends once; whatever else happens to it is a defect that is seen."""

import logging
from collections.abc import Callable

import pytest

from edge_agent.counters import Counters, Settlement, imbalance
from tests.settlements import every_input_ends_once


class Input:
    """An input with a sender that waits, in progress."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.acknowledged = 0
        self.settlement = Settlement(self._acknowledge)
        self.settlement.capture(self.counters)

    def _acknowledge(self) -> None:
        self.acknowledged += 1


def inferred(one: Settlement) -> None:
    one.infer()
    one.done()


def done_before_it_is_counted(one: Settlement) -> None:
    """The broker may acknowledge a result before its worker has counted the input."""
    one.done()
    one.infer()


def failed(one: Settlement) -> None:
    one.drop("failed")
    one.done()


def given_up(one: Settlement) -> None:
    one.give_up("unchanged")


def returned(one: Settlement) -> None:
    one.return_to_sender()


def lost_with_its_result(one: Settlement) -> None:
    """Its result can neither be delivered nor saved."""
    one.infer()
    one.return_to_sender()


ENDS = [inferred, done_before_it_is_counted, failed, given_up, returned, lost_with_its_result]


@pytest.mark.parametrize("end", ENDS)
def test_each_end_is_counted_and_acknowledged_at_most_once(end: Callable[[Settlement], None]) -> None:
    one = Input()
    assert one.settlement.sender_waits
    end(one.settlement)
    counts = one.counters.as_dict()
    assert not imbalance(counts)
    assert counts["in_progress"] == 0
    assert counts["inferred"] + sum(counts["dropped"].values()) == 1
    assert one.acknowledged == (0 if end in (returned, lost_with_its_result) else 1)
    assert not one.settlement.sender_waits


@pytest.mark.parametrize("second", ENDS)
@pytest.mark.parametrize("first", ENDS)
def test_a_second_end_changes_nothing_and_is_a_defect(
    first: Callable[[Settlement], None], second: Callable[[Settlement], None]
) -> None:
    one = Input()
    first(one.settlement)
    before, acknowledged = one.counters.as_dict(), one.acknowledged
    with pytest.raises(AssertionError, match="ends twice"), every_input_ends_once():
        second(one.settlement)
    assert (one.counters.as_dict(), one.acknowledged) == (before, acknowledged)


def begun(one: Settlement) -> None:
    pass


def only_counted(one: Settlement) -> None:
    one.infer()


def only_ended(one: Settlement) -> None:
    one.done()


@pytest.mark.parametrize("part", [begun, only_counted, only_ended])
def test_an_input_that_is_released_without_an_end_is_a_defect(part: Callable[[Settlement], None]) -> None:
    with pytest.raises(AssertionError, match="is lost"), every_input_ends_once():
        part(Input().settlement)


def _circle(content: object) -> None:
    circle = [content]
    circle.append(circle)


def test_one_that_is_released_by_the_collector_is_seen_as_well() -> None:
    with pytest.raises(AssertionError, match="is lost"), every_input_ends_once():
        _circle(Input())


def test_to_be_captured_twice_is_a_defect() -> None:
    one = Input()
    with pytest.raises(AssertionError, match="captured twice"), every_input_ends_once():
        one.settlement.capture(one.counters)
    assert one.counters.as_dict()["captured"] == 1
    given_up(one.settlement)


def test_a_sender_that_waits_must_not_be_forgotten_before_the_input_is_counted() -> None:
    with pytest.raises(AssertionError, match="sender waits"), every_input_ends_once():
        Settlement(lambda: None)


def test_a_sample_outside_a_pipeline_owes_nothing() -> None:
    with every_input_ends_once() as defects:
        Settlement()
        Settlement().done()  # readings that are in a window to come
        assert defects == []


def test_the_log_says_where_it_happened(caplog: pytest.LogCaptureFixture) -> None:
    one = Input()
    given_up(one.settlement)
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(Settlement, "report_defect", ORIGINAL)
        one.settlement.done()
    assert [record.getMessage() for record in caplog.records] == [
        "a defect in edge-agent: an input ends twice, now: done"
    ]
    assert "test_the_log_says_where_it_happened" in str(caplog.records[0].stack_info)


ORIGINAL = staticmethod(Settlement.report_defect)


def test_the_sender_hears_of_an_input_once_all_windows_cut_from_it_are_done() -> None:
    acknowledged: list[bool] = []
    counters = Counters()
    pieces = Settlement(lambda: acknowledged.append(True)).split(3)
    assert all(piece.sender_waits for piece in pieces)
    for piece in pieces:
        assert not acknowledged
        piece.capture(counters)
        piece.give_up("invalid")
    assert acknowledged == [True]


def test_an_input_of_which_one_window_is_returned_is_sent_again() -> None:
    acknowledged: list[bool] = []
    first, second = Settlement(lambda: acknowledged.append(True)).split(2)
    first.done()
    second.return_to_sender()
    assert not acknowledged


def test_windows_of_an_input_that_nobody_waits_for_may_be_dropped() -> None:
    assert not any(piece.sender_waits for piece in Settlement().split(2))
