import math

import pytest

from edge_agent.samples import timestamp


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1795392000.1234, "2026-11-23T00:00:00.123Z"),
        (253_402_300_799.9995, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800.0, "9999-12-31T23:59:59.999Z"),
        (1e20, "9999-12-31T23:59:59.999Z"),
        (math.inf, "9999-12-31T23:59:59.999Z"),
        (-62_135_596_800.0, "0001-01-01T00:00:00.000Z"),
        (-1e20, "0001-01-01T00:00:00.000Z"),
        (math.nan, "0001-01-01T00:00:00.000Z"),
    ],
)
def test_every_clock_can_be_written_as_a_date(seconds: float, written: str) -> None:
    assert timestamp(seconds) == written
