import json
import logging
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.counters import imbalance
from edge_agent.daemon.thermal import FIRMWARE, STEP_EVERY, Heat, Thermal, read_heat
from tests.broker import Message, Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration
from tests.sources.stage import DIGITS
from tests.sources.stream_server import StreamServer


def zone(sys: Path, number: int, kind: str, millidegrees: object) -> None:
    write(sys / "class" / "thermal" / f"thermal_zone{number}" / "type", kind)
    write(sys / "class" / "thermal" / f"thermal_zone{number}" / "temp", millidegrees)


def cooling(sys: Path, number: int, kind: str, state: int) -> None:
    write(sys / "class" / "thermal" / f"cooling_device{number}" / "type", kind)
    write(sys / "class" / "thermal" / f"cooling_device{number}" / "cur_state", state)


def write(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{value}\n")


def test_a_raspberry_pi(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", 61_322)
    write(tmp_path / FIRMWARE, "50000")  # something was so once
    assert read_heat(tmp_path) == Heat(61.322, throttled=False)
    for word in "1", "2", "50005", "8":
        write(tmp_path / FIRMWARE, word)
        assert read_heat(tmp_path).throttled, word


def test_a_phone_has_many_zones_of_which_the_hottest_of_its_cpu_counts(tmp_path: Path) -> None:
    for number, (kind, value) in enumerate(
        [("battery", 91_000), ("cpu-0-0-usr", 48_000), ("cpuss-1", 52_500), ("pm8150-tz", 90_000), ("cpu-1-2", 999_000)]
    ):
        zone(tmp_path, number, kind, value)
    cooling(tmp_path, 0, "thermal-cpufreq-0", 0)
    cooling(tmp_path, 1, "pwm-fan", 3)
    assert read_heat(tmp_path) == Heat(52.5, throttled=False)
    cooling(tmp_path, 2, "thermal-cpufreq-4", 5)
    assert read_heat(tmp_path).throttled


def test_where_no_zone_is_named_after_the_cpu_the_hottest_counts(tmp_path: Path) -> None:
    zone(tmp_path, 0, "acpitz", 27_800)
    zone(tmp_path, 1, "zone-b", 40_000)
    assert read_heat(tmp_path).temperature == 40.0


def test_what_can_not_be_read_is_not_known(tmp_path: Path) -> None:
    assert read_heat(tmp_path) == Heat(None, None)
    zone(tmp_path, 0, "cpu-thermal", "n/a")
    write(tmp_path / FIRMWARE, "")
    (tmp_path / "class" / "thermal" / "thermal_zone1").mkdir()
    assert read_heat(tmp_path) == Heat(None, None)


def seen(thermal: Thermal, sys: Path, celsius: float, now: float) -> float:
    zone(sys, 0, "cpu-thermal", round(celsius * 1000))
    thermal.update(now)
    return thermal.factor


def test_heat_slows_down_step_by_step_and_cold_brings_everything_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thermal = Thermal(settings.Thermal(slow_down_at=75, min_rate=0.2), tmp_path)
    with caplog.at_level(logging.INFO):
        course = [(74.9, 0, 1), (75, 5, 0.5), (80, 10, 0.5), (80, 15, 0.25), (80, 25, 0.2), (80, 35, 0.2)]
        course += [
            (74, 45, 0.2),
            (70.1, 55, 0.2),
            (70, 65, 0.4),
            (60, 70, 0.4),
            (60, 75, 0.8),
            (60, 85, 1),
            (60, 95, 1),
        ]
        for celsius, now, factor in course:
            assert seen(thermal, tmp_path, celsius, now) == factor, (celsius, now)
    assert [record.getMessage() for record in caplog.records] == [
        "75 °C: slowing down live sources",
        "60 °C: live sources at full rate again",
    ]
    assert thermal.as_dict() == {"temperature_c": 60.0, "throttled": None, "factor": 1.0}


def test_a_throttled_cpu_slows_down_at_any_temperature(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    thermal = Thermal(settings.Thermal(), tmp_path)
    write(tmp_path / FIRMWARE, "5")
    assert seen(thermal, tmp_path, 40, 0) == 0.5
    assert caplog.messages == ["40 °C, the CPU is throttled: slowing down live sources"]
    write(tmp_path / FIRMWARE, "50000")
    assert seen(thermal, tmp_path, 40, STEP_EVERY) == 1


def test_who_wants_no_slowing_down_and_who_has_no_sensor_has_none(tmp_path: Path) -> None:
    thermal = Thermal(settings.Thermal.model_validate({"slow_down_at": "never"}), tmp_path)
    assert seen(thermal, tmp_path, 110, 0) == 1
    assert thermal.as_dict()["temperature_c"] == 110
    bare = Thermal(settings.Thermal(), tmp_path / "none")
    bare.update(0)
    assert bare.as_dict() == {"temperature_c": None, "throttled": None, "factor": 1.0}


def test_a_hot_daemon_leaves_out_frames_of_live_sources_and_counts_them(mosquitto: Mosquitto, tmp_path: Path) -> None:
    sys = tmp_path / "sys"
    zone(sys, 0, "cpu-thermal", 82_500)
    with StreamServer() as server, Subscriber(mosquitto.port, "edge/hot/stats") as client:
        porch = {"source": {"type": "video", "url": server.url}, "model": "digits"}
        config = configuration(mosquitto, "hot", models={"digits": {"path": str(DIGITS)}}, pipelines={"porch": porch})
        with Daemon(tmp_path, config, environment={"EDGE_AGENT_SYS": str(sys)}):

            def wait_for(**thermal: Any) -> None:
                client.wait_for(lambda message: json.loads(message.payload)["thermal"] == thermal, timeout=40)

            wait_for(temperature_c=82.5, throttled=None, factor=0.5)
            client.wait_for(lambda message: counts(message)["dropped"]["throttled"] > 10, timeout=20)
            zone(sys, 0, "cpu-thermal", 40_000)
            write(sys / FIRMWARE, "0")
            wait_for(temperature_c=40.0, throttled=False, factor=1.0)
    assert {imbalance(counts(message)) for message in client.messages} == {""}


def counts(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message.payload)["pipelines"]["porch"]
    return found
