import time

import pytest

from edge_agent.update import check_pace
from edge_agent.update.check_pace import CheckPace


def test_checks_have_a_least_distance_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = CheckPace()
    assert pace.left(3600) == 0
    pace.began()
    assert pace.left(3600) == check_pace.LEAST_INTERVAL
    assert pace.left(2) == 2
    now += 4
    assert pace.left(3600) == check_pace.LEAST_INTERVAL - 4
    now += 100
    assert pace.left(3600) == 0
