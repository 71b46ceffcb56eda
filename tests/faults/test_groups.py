from pathlib import Path

import pytest

from tests import scenarios
from tests.broker import Mosquitto

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_members_that_are_killed_by_turns_and_come_back_cost_nothing(
    mosquitto: Mosquitto, tmp_path: Path, protocol: str
) -> None:
    scenarios.a_member_is_killed(tmp_path, mosquitto, images=1500, comes_back=True, protocol=protocol, kills=8)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_member_that_never_comes_back_costs_nothing(mosquitto: Mosquitto, tmp_path: Path, protocol: str) -> None:
    scenarios.a_member_is_killed(tmp_path, mosquitto, images=1500, comes_back=False, protocol=protocol)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_member_that_comes_back_after_it_was_stood_in_for_takes_its_part_again(
    mosquitto: Mosquitto, tmp_path: Path, protocol: str
) -> None:
    ledger = scenarios.a_member_is_killed(
        tmp_path, mosquitto, images=3000, comes_back=True, protocol=protocol, absence=8.0
    )
    boots = {result["boot_id"] for result in ledger.results["lab"]}
    assert len(boots) == 3, "both, and the one that came back once more"
