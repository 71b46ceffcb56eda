from pathlib import Path

import pytest

from tests import scenarios
from tests.broker import Mosquitto

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_fifty_kills_while_a_thousand_images_arrive_lose_none(
    mosquitto: Mosquitto, tmp_path: Path, protocol: str
) -> None:
    scenarios.kill_again_and_again(tmp_path, mosquitto, kills=50, images=1000, protocol=protocol, seed=50)
