from pathlib import Path

import pytest

from tests import scenarios
from tests.broker import Mosquitto

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("seed", range(5))
def test_a_bad_network_loses_nothing(mosquitto: Mosquitto, tmp_path: Path, seed: int) -> None:
    scenarios.bad_network(tmp_path, mosquitto, rounds=20, seed=seed)


@pytest.mark.parametrize("persistent", [True, False])
def test_a_broker_that_is_away_for_a_minute_gets_everything(tmp_path: Path, persistent: bool) -> None:
    state = tmp_path / "state" if persistent else None
    with Mosquitto(tmp_path / "broker", persistence=state) as broker:
        ledger = scenarios.broker_away(tmp_path, broker, seconds=60)
    assert sum(result["replayed"] for result in ledger.results["lab"]) >= 1200


def test_an_outbox_that_is_too_small_for_a_minute_counts_what_it_gives_up(tmp_path: Path, mosquitto: Mosquitto) -> None:
    ledger = scenarios.broker_away(tmp_path, mosquitto, seconds=60, max_size="200kB")
    assert ledger.last_counts("lab")["discarded"]["outbox_full"] > 500
