"""Digits become the value of a meter, and what a meter can't show is refused."""

from pathlib import Path
from typing import Any

import pytest

from edge_agent.postprocess.meter import MeterReader
from edge_agent.samples import Prediction, Sample
from edge_agent.settings.meter import Meter

Window = str | dict[str, float]


class Camera:
    """A meter of five digits, two of them behind the point, one reading after the other."""

    def __init__(self, file: Path | None = None, **options: Any) -> None:
        stated = {"kind": "water", "digits": 5, "decimals": 2} | options
        self.reader = MeterReader("meter", Meter.model_validate(stated), file)

    def see(self, *windows: Window, hour: float = 0.0) -> dict[str, Any]:
        """What is published of windows: a digit for sure, or the scores of some labels."""
        scores = [{one: 0.99} if isinstance(one, str) else one for one in windows]
        found = [
            Prediction(label, None, score, region=f"digit {at}")
            for at, window in enumerate(scores)
            for label, score in window.items()
        ]
        [value] = self.reader.read(found, Sample(b"", hour * 3600, hour, {}))
        return value.as_dict()


def test_digits_become_a_value_with_its_unit() -> None:
    assert Camera().see(*"12345") == {
        "confidence": 0.99, "value": 123.45, "unit": "m³", "digits": "12345", "carried": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("windows", "value"),
    [
        (("1", "2", {"3": 0.5, "4": 0.45}, "9", "5"), 123.95),  # about to turn
        (("1", "2", {"3": 0.5, "4": 0.45}, "0", "5"), 124.05),  # has just turned
        (("1", "2", {"9": 0.4, "0": 0.5}, "8", "5"), 129.85),
        (("1", {"2": 0.5, "3": 0.4}, {"9": 0.4, "0": 0.5}, "9", "5"), 129.95),  # two wheels at once
        (("1", {"2": 0.5, "3": 0.4}, {"9": 0.4, "0": 0.5}, "0", "5"), 130.05),
        (("1", "2", "3", "4", {"6": 0.5, "5": 0.49}), 123.45),  # the last wheel
    ],
)
def test_a_half_turned_wheel_is_decided_by_the_wheel_to_its_right(windows: tuple[Window, ...], value: float) -> None:
    assert Camera().see(*windows)["value"] == value


def test_an_unsure_digit_is_taken_from_the_last_value_so_that_the_value_does_not_fall() -> None:
    camera = Camera()
    assert camera.see("1", {"2": 0.4, "7": 0.3}, "3", "4", "5")["refused"] == "unsure"  # there is no last value
    camera.see(*"12395")
    dirty = {"2": 0.4, "7": 0.3}
    seen = camera.see("1", "2", dirty, "9", "7")
    assert (seen["value"], seen["carried"], seen["digits"]) == (123.97, 1, "12?97")
    assert camera.see("1", "2", dirty, "0", "1")["value"] == 124.01
    assert camera.see(dirty, dirty, dirty, dirty, "1")["refused"] == "unsure"


def test_a_value_never_falls_and_never_rises_faster_than_it_can() -> None:
    camera = Camera(max_rate=2.0)
    camera.see(*"12345")
    fallen = camera.see(*"12335", hour=1)
    assert (fallen["value"], fallen["refused"], "carried" in fallen) == (123.45, "falls", False)
    fast = camera.see(*"12645", hour=1)
    assert (fast["value"], fast["refused"]) == (123.45, "too fast")
    assert camera.see(*"12545", hour=1)["value"] == 125.45
    assert camera.see(*"12645", hour=2)["value"] == 126.45


def test_after_the_highest_value_comes_zero() -> None:
    camera = Camera()
    camera.see(*"99998")
    assert camera.see(*"00003")["value"] == 0.03


def test_a_reading_with_another_number_of_digits_is_refused() -> None:
    assert Camera().see(*"1234") == {
        "confidence": 0.99, "unit": "m³", "digits": "1234", "refused": "4 digits",
    }  # fmt: skip


def test_a_model_may_find_the_digits_itself() -> None:
    reader = MeterReader("meter", Meter(kind="gas", digits=3), None)
    boxes = [
        Prediction(label, 0, 0.9, box=(float(left), 0.0, left + 8.0, 12.0))
        for label, left in (("7", 30), ("4", 10), ("2", 20), ("unit", 50))
    ]
    [value] = reader.read(boxes, Sample(b"", 0.0, 0.0, {}))
    assert (value.value, (value.details or {})["digits"]) == (427.0, "427")


def test_the_last_value_outlasts_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "meters" / "meter.json"
    camera = Camera(file)
    camera.see(*"12345")
    camera.see(*"12350")
    camera.reader.save()
    assert Camera(file).see(*"12345")["refused"] == "falls"
    assert Camera(file, decimals=1).see(*"12345")["value"] == 1234.5  # another meter
    file.write_text('{"value": true, "at": "x"}')
    assert Camera(file).see(*"12345")["value"] == 123.45
