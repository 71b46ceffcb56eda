"""The built-in detector learns what is usual and says what is not, on simulated days."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import InputError
from edge_agent.postprocess.alarms import MAX_CHANNELS, Alarms
from edge_agent.samples import Prediction, Sample
from edge_agent.settings.statistics import Statistics

START = 1_760_000_000
DAY = 86_400


class Sensor:
    """A detector of one channel, and what has happened to it: the day, and the event."""

    def __init__(self, file: Path | None = None, **options: Any) -> None:
        self.alarms = Alarms("cellar", Statistics.model_validate({"type": "statistics"} | options), file)
        self.events: list[tuple[float, dict[str, Any]]] = []
        self.latest: dict[str, Any] = {}

    def read(self, value: float, day: float, channel: str = "temperature") -> dict[str, Any]:
        at = START + day * DAY
        reading = Prediction(None, None, None, value=value, details={"channel": channel, "unit": "°C"})
        [judged], events = self.alarms.update([reading], Sample(b"", at, at, {"topic": "cellar"}))
        self.events += [(day, event.as_dict()) for event in events]
        self.latest = judged.as_dict()
        return self.latest

    def run(self, signal: Callable[[float], float], first: float, last: float, step: float = 900.0) -> None:
        for number in range(int((last - first) * DAY / step)):
            day = first + number * step / DAY
            self.read(signal(day), day)

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(event["event"], event["reason"]) for _, event in self.events]


def room(random_: random.Random) -> Callable[[float], float]:
    """A room, warmer by day, a little warmer from day to day."""
    return lambda day: round(21 + math.sin(2 * math.pi * day) + 0.05 * day + random_.gauss(0, 0.05), 2)


@pytest.fixture
def usual() -> Callable[[float], float]:
    return room(random.Random(1))


def test_a_usual_month_has_no_alarm_and_the_band_follows_the_time_of_day(usual: Callable[[float], float]) -> None:
    sensor = Sensor()
    assert sensor.read(21.0, 0.0) == {
        "channel": "temperature", "unit": "°C", "reading": 21.0, "learning": True,
    }  # fmt: skip
    sensor.run(usual, 0.01, 20.25)
    warm = sensor.latest["expected"]
    sensor.run(usual, 20.25, 20.75)
    cold = sensor.latest["expected"]
    assert sensor.events == []
    assert warm[0] < 23.0 < warm[1]
    assert cold[0] < 21.0 < cold[1] < 23.0
    assert (sensor.latest["label"], sensor.latest["value"] < 1) == ("normal", True)


def test_what_is_unusual_at_this_time_of_day_is_an_alarm_and_its_end_is_reported(
    usual: Callable[[float], float],
) -> None:
    sensor = Sensor()
    sensor.run(usual, 0, 20.75)
    sensor.run(lambda day: usual(day) + 2.0, 20.75, 20.85)  # as warm as at noon, in the night
    assert sensor.said == [("alarm", "level")]
    assert (sensor.latest["label"], sensor.latest["reason"]) == ("anomaly", "level")
    sensor.run(usual, 20.85, 21.0)
    assert sensor.said == [("alarm", "level"), ("end", "level")]
    day, end = sensor.events[1]
    assert end["duration_s"] == pytest.approx((day - sensor.events[0][0]) * DAY, abs=1)


def test_a_single_outlier_is_no_alarm(usual: Callable[[float], float]) -> None:
    sensor = Sensor()
    sensor.run(usual, 0, 10)
    sensor.read(85.0, 10)
    sensor.run(usual, 10.01, 10.2)
    assert sensor.events == []


def test_a_lasting_change_within_the_band_is_found() -> None:
    random_ = random.Random(1)
    sensor = Sensor(deviations=8)
    sensor.run(lambda _: random_.gauss(50, 1), 0, 8)
    sensor.run(lambda _: random_.gauss(53, 1), 8, 8.5)
    assert sensor.said == [("alarm", "change")]


def test_two_usual_levels_are_usual_and_a_third_is_not() -> None:
    random_ = random.Random(1)

    def refrigerator(day: float) -> float:
        return 80 + random_.gauss(0, 2) if day * 1440 % 40 < 13 else 1.0

    sensor = Sensor()
    sensor.run(refrigerator, 0, 3, 120.0)
    assert sensor.events == []
    sensor.run(lambda day: refrigerator(day) + 300, 3, 3.01, 120.0)
    assert sensor.said == [("alarm", "level")]


def test_a_reading_that_no_longer_changes_is_stuck_and_one_that_never_did_is_not(
    usual: Callable[[float], float],
) -> None:
    sensor, constant = Sensor(deviations=50), Sensor()
    sensor.run(usual, 0, 3)
    sensor.run(lambda _: 21.03, 3, 3.4)
    assert sensor.said == [("alarm", "stuck")]
    constant.run(lambda _: 230.0, 0, 8, 1800.0)
    assert constant.events == []


def test_a_reading_that_does_not_come_is_missing_until_it_comes(usual: Callable[[float], float]) -> None:
    sensor = Sensor()
    sensor.run(usual, 0, 2)
    now = START + 2 * DAY
    assert (list(sensor.alarms.overdue(now, 0.0)), sensor.alarms.silent) == ([], [])
    [alarm] = sensor.alarms.overdue(now + 3600, 5.0)
    assert (alarm.as_dict(), alarm.time) == (
        {"event": "alarm", "channel": "temperature", "topic": "cellar", "reason": "gap"}, 5.0,
    )  # fmt: skip
    assert (list(sensor.alarms.overdue(now + 3700, 5.0)), sensor.alarms.silent) == ([], ["cellar temperature"])
    sensor.read(usual(2.1), 2.1)
    assert (sensor.said, sensor.alarms.silent) == ([("end", "gap")], [])


def test_what_lasts_for_long_is_usual_from_then_on(usual: Callable[[float], float]) -> None:
    sensor = Sensor(settle="12h")
    sensor.run(usual, 0, 3)
    sensor.run(lambda day: usual(day) + 20, 3, 6)
    assert next(event for _, event in sensor.events if event["event"] == "end")["settled"] is True
    assert (sensor.said, sensor.latest["label"]) == ([("alarm", "level"), ("end", "level")], "normal")


def test_what_has_been_learned_outlasts_a_restart(usual: Callable[[float], float], tmp_path: Path) -> None:
    file = tmp_path / "baselines" / "cellar.json"
    first = Sensor(file)
    first.run(usual, 0, 9)
    first.alarms.save()
    again, other = Sensor(file), Sensor(file, every="10s")
    value = usual(9)
    assert again.read(value, 9) == first.read(value, 9)
    assert "expected" in again.latest
    assert other.read(value, 9)["learning"] is True  # its values are something else
    again.run(lambda day: usual(day) + 4, 9.01, 9.05)
    assert again.said == [("alarm", "level")]
    assert file.stat().st_size < 10_000


@pytest.mark.parametrize("content", ["", "[1]", '{"options": {"every": null, "by": "mean"}, "channels": [[1, "a"]]}'])
def test_a_file_that_can_not_be_read_is_learned_again(content: str, tmp_path: Path) -> None:
    file = tmp_path / "cellar.json"
    file.write_text(content)
    sensor = Sensor(file)
    assert sensor.read(21.0, 0)["learning"] is True


def test_the_number_of_channels_is_bounded() -> None:
    sensor = Sensor()
    for number in range(MAX_CHANNELS):
        sensor.read(1.0, 0, f"channel {number}")
    with pytest.raises(InputError):
        sensor.read(1.0, 0, "one more")
