"""Results that wait, and an outbox on the disk that is damaged."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent import settings
from edge_agent.counters import Counters, imbalance
from edge_agent.mqtt.backlog import Backlog
from edge_agent.mqtt.delivery import Delivery
from tests.disks import small_disk, turn_read_only
from tests.mqtt.damage import DAMAGE

RESULTS = 10


class Run:
    """One run of an agent, as far as its backlog is concerned."""

    def __init__(self, path: Path) -> None:
        self.counters: dict[str, Counters] = defaultdict(Counters)
        self.done: list[Delivery] = []
        self.backlog = Backlog(settings.Outbox(), path, lambda name: self.counters[name], self.done.append)
        self.backlog.open(restore=True)

    def produce(self) -> None:
        for _ in range(RESULTS):
            self.counters["lab"].produce()
            self.backlog.accept(Delivery("lab", "t", {"clock_synced": True}))
        self.backlog.save()

    def lost(self) -> int:
        """How many results are counted as lost by damage; the sums balance."""
        counts = self.counters["lab"].as_dict()
        assert not imbalance(counts), imbalance(counts)
        return int(counts["discarded"]["damaged"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An outbox with results of an earlier run."""
    path = tmp_path / "outbox.db"
    run = Run(path)
    run.produce()
    run.backlog.close()
    return path


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_whatever_is_in_the_outboxs_place_results_are_kept_and_the_sums_balance(
    path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    run = Run(path)
    run.produce()
    facts = run.backlog.facts()
    assert (facts["on_disk"], facts["problem"], facts["damaged_files"]) == (RESULTS, "", 1)
    assert len(run.done) == RESULTS
    assert run.lost() == run.counters["lab"].as_dict()["restored"]
    run.backlog.close()


def test_the_results_that_can_be_counted_in_a_damaged_outbox_are(path: Path) -> None:
    DAMAGE["a newer version"](path)
    run = Run(path)
    assert run.lost() == RESULTS


def test_damage_that_is_found_while_saving_loses_no_new_result(path: Path) -> None:
    run = Run(path)
    path.unlink()
    run.produce()
    assert run.lost() == RESULTS
    assert run.backlog.facts()["on_disk"] == RESULTS
    run.backlog.close()


def test_what_can_not_be_moved_away_is_tried_again_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        (disk / "outbox.db").mkdir()
        turn_read_only(disk)
        run = Run(disk / "outbox.db")
        run.produce()
        assert run.backlog.problem
        assert len(caplog.records) == 1
        turn_read_only(disk, back=True)
        run.backlog.retry()
        assert run.backlog.facts()["on_disk"] == RESULTS
        assert run.lost() == 0
        run.backlog.close()
