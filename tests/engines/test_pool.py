import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.engines import Share, TensorSpec
from edge_agent.engines.batching import Batching
from edge_agent.engines.failover import Candidate, Failover
from edge_agent.engines.pool import Pool
from edge_agent.engines.supervised import StuckError
from edge_agent.errors import ModelError
from tests.broker import wait_until

GIVEN = [np.zeros(1, np.float32)]
DEADLINE = 10


class Slow:
    """An engine that answers with its number as soon as it may.

    Attributes:
        may_answer: whether it may.
        inside: the calls that it is in.
        fault: what it raises then; None: it answers.
        closed_at: for each time it was closed, the calls that it was in.
    """

    runtime, accelerator = "a runtime", "cpu"
    share: Share | None = None
    inputs = outputs = (TensorSpec("x", (1,), "float32"),)

    def __init__(self, number: int, accelerator: str = "cpu") -> None:
        self.number, self.accelerator = number, accelerator
        self.may_answer = threading.Event()
        self.inside = 0
        self.fault: ModelError | None = None
        self.closed_at: list[int] = []

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        self.inside += 1
        assert self.inside == 1, "one call at a time"
        answered = self.may_answer.wait(DEADLINE)
        self.inside -= 1
        if self.fault:
            raise self.fault
        assert answered
        return [np.full(len(inputs[0]), self.number)]

    def close(self) -> None:
        self.closed_at.append(self.inside)


@pytest.fixture
def engines() -> list[Slow]:
    return [Slow(number) for number in range(2)]


def test_as_many_calls_run_at_the_same_time_as_there_are_engines_and_the_next_one_waits(engines: list[Slow]) -> None:
    pool = Pool(engines)
    with ThreadPoolExecutor(3) as callers:
        calls = [callers.submit(pool.run, GIVEN) for _ in range(3)]
        wait_until(lambda: all(engine.inside for engine in engines), DEADLINE, "both are in use")
        assert not any(call.done() for call in calls)
        for engine in engines:
            engine.may_answer.set()
        assert {int(call.result(DEADLINE)[0][0]) for call in calls} == {0, 1}


def test_one_caller_meets_the_same_engine_each_time(engines: list[Slow]) -> None:
    pool = Pool(engines)
    for engine in engines:
        engine.may_answer.set()
    assert len({int(pool.run(GIVEN)[0][0]) for _ in range(5)}) == 1


def test_an_engine_that_has_failed_is_free_again(engines: list[Slow]) -> None:
    pool = Pool(engines[:1])
    engines[0].may_answer.set()
    engines[0].fault = ModelError("inference failed")
    with pytest.raises(ModelError, match="inference failed"):
        pool.run(GIVEN)
    engines[0].fault = None
    assert pool.run(GIVEN)[0].tolist() == [0]


def test_a_pool_that_is_closed_ends_its_calls_and_refuses_others(engines: list[Slow]) -> None:
    pool = Pool(engines[:1])
    with ThreadPoolExecutor(2) as callers:
        inside = callers.submit(pool.run, GIVEN)
        wait_until(lambda: engines[0].inside == 1, DEADLINE, "it is in use")
        waiting = callers.submit(pool.run, GIVEN)
        pool.close()
        with pytest.raises(ModelError, match="closed"):
            waiting.result(DEADLINE)
        assert not engines[0].closed_at
        engines[0].may_answer.set()
        assert inside.result(DEADLINE)[0].tolist() == [0]
    assert engines[0].closed_at == [0]
    with pytest.raises(ModelError, match="closed"):
        pool.run(GIVEN)


def test_where_an_accelerator_hangs_all_waiting_calls_are_answered_by_the_pool_of_the_next(
    engines: list[Slow],
) -> None:
    npu = Slow(9, "npu")
    npu.fault = StuckError("gives no answer for 5 s")
    candidates = [
        Candidate("npu", lambda: npu, lambda: (_ for _ in ()).throw(ModelError("not yet"))),
        Candidate("cpu", lambda: Pool(engines), lambda: None),
    ]
    failover = Failover("it", candidates, Batching(npu), ["npu", "cpu"], {})
    assert failover.size == 1
    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(failover.run, GIVEN) for _ in range(4)]
        wait_until(lambda: npu.inside == 1, DEADLINE, "the accelerator is in use")
        npu.may_answer.set()
        for engine in engines:
            engine.may_answer.set()
        assert {int(call.result(DEADLINE)[0][0]) for call in calls} <= {0, 1}
    assert (failover.accelerator, failover.moves, failover.size, failover.runs) == ("cpu", 1, 2, 4)
    assert npu.closed_at == [0]
    failover.close()
