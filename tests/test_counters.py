import random
import threading
from collections.abc import Callable

from edge_agent.counters import DISCARDED, DROPPED, Counters, imbalance


def test_they_begin_at_nothing_with_every_reason_named() -> None:
    counts = Counters().as_dict()
    dropped = {"superseded", "stale", "unchanged", "throttled", "invalid", "failed", "refused"}
    assert set(counts["dropped"]) == dropped
    assert {"outbox_full", "expired", "refused"} <= set(counts["discarded"])
    assert imbalance(counts) == ""


def test_each_step_of_an_input_and_a_result_is_counted() -> None:
    counters = Counters()
    for _ in range(5):
        counters.capture()
    counters.infer()
    counters.drop("superseded")
    counters.drop("superseded")
    counters.drop("failed")
    assert [counters.produce() for _ in range(4)] == [1, 2, 3, 4]
    counters.acknowledge()
    counters.discard("expired", 2)
    counts = counters.as_dict()
    assert (counts["captured"], counts["inferred"], counts["in_progress"]) == (5, 1, 1)
    assert (counts["dropped"]["superseded"], counts["dropped"]["failed"]) == (2, 1)
    assert (counts["produced"], counts["acknowledged"], counts["queued"]) == (4, 1, 1)
    assert counts["discarded"]["expired"] == 2
    assert imbalance(counts) == ""


def test_results_of_an_earlier_run_count_as_produced_but_not_in_the_sequence() -> None:
    counters = Counters()
    counters.restore(7)
    assert counters.produce() == 1
    counts = counters.as_dict()
    assert (counts["produced"], counts["restored"], counts["queued"]) == (8, 7, 8)


def test_an_imbalance_is_named_with_its_numbers() -> None:
    counters = Counters()
    counters.capture()
    inputs = counters.as_dict() | {"captured": 3}
    results = counters.as_dict() | {"produced": 2}
    assert imbalance(inputs) == "captured 3 is not inferred + in_progress + dropped = 1"
    assert imbalance(results) == "produced 2 is not acknowledged + queued + discarded = 0"


def test_the_sums_balance_at_every_moment_from_any_number_of_threads() -> None:
    counters = Counters()
    over = threading.Event()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        inputs: list[Callable[[], object]] = [counters.infer, *(lambda why=why: counters.drop(why) for why in DROPPED)]
        results: list[Callable[[], object]] = [
            counters.acknowledge,
            *(lambda why=why: counters.discard(why) for why in DISCARDED),
        ]
        while not over.is_set():
            counters.capture()
            chance.choice(inputs)()
            counters.produce()
            chance.choice(results)()

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    found = {imbalance(counters.as_dict()) for _ in range(2000)}
    over.set()
    for worker in workers:
        worker.join()
    assert found == {""}
    assert counters.as_dict()["captured"] > 0
