import json
from typing import Any

import pytest

from edge_agent.counters import Counters
from tests.broker import Message
from tests.reconcile import Ledger


def result(number: int, *, boot: str = "b", replayed: bool = False, topic: str = "", **facts: Any) -> Message:
    document = {
        "boot_id": boot,
        "seq": number,
        "replayed": replayed,
        "input": {"topic": topic or f"in/{number}", **facts},
    }
    return Message("edge/device/lab/result", json.dumps(document).encode(), False, 1, None, 0.0)


def test_inputs_that_are_answered_once_each_add_up() -> None:
    ledger = Ledger([result(1), result(2)])
    assert ledger.answers("lab", ["in/1", "in/2"]) == {"in/1": 1, "in/2": 1}
    ledger.without_gaps("lab")
    ledger.in_order("lab")


def test_an_input_without_an_answer_is_found() -> None:
    with pytest.raises(AssertionError, match="1 of 2 inputs are not answered: in/2"):
        Ledger([result(1)]).answers("lab", ["in/1", "in/2"])


def test_an_answer_without_an_input_is_found() -> None:
    with pytest.raises(AssertionError, match="1 answers to what was never asked: in/2"):
        Ledger([result(1), result(2)]).answers("lab", ["in/1"])


@pytest.mark.parametrize("mark", [{"redelivered": True}, {"replayed": True}])
def test_a_double_must_be_marked(mark: dict[str, Any]) -> None:
    assert Ledger([result(1), result(2, topic="in/1", **mark)]).answers("lab", ["in/1"]) == {"in/1": 2}
    with pytest.raises(AssertionError, match="1 inputs are answered twice without a mark: in/1"):
        Ledger([result(1), result(2, topic="in/1")]).answers("lab", ["in/1"])


def test_a_gap_must_be_accounted_for() -> None:
    ledger = Ledger([result(1), result(3), result(1, boot="c")])
    ledger.without_gaps("lab", discarded=1)
    with pytest.raises(AssertionError, match="1 results are missing, 0 are accounted for"):
        ledger.without_gaps("lab")


def test_live_and_replayed_results_are_in_order_each_for_themselves() -> None:
    Ledger([result(3), result(1, replayed=True), result(4), result(2, replayed=True)]).in_order("lab")
    with pytest.raises(AssertionError, match=r"out of order \(replayed: True\): \[2, 1\]"):
        Ledger([result(2, replayed=True), result(1, replayed=True)]).in_order("lab")


def test_counters_that_do_not_add_up_are_found() -> None:
    def stats(**wrong: int) -> Message:
        document = {"pipelines": {"lab": Counters().as_dict() | wrong}}
        return Message("edge/device/stats", json.dumps(document).encode(), False, 0, None, 0.0)

    Ledger([stats()]).balanced()
    with pytest.raises(AssertionError, match="captured 1 is not inferred"):
        Ledger([stats(), stats(captured=1)]).balanced()
