import time
from pathlib import Path

import pytest

from edge_agent.doctor import state
from edge_agent.doctor.machine import ok
from edge_agent.system.clock import Clock
from tests.disks import small_disk, turn_read_only
from tests.doctor.made_up import configured, machine, only, states

THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"
MEMORY = "MemTotal:  4000000 kB\nMemFree: 100 kB\nMemAvailable: {kib} kB\n"


def test_a_configuration_is_told_with_what_is_in_it(tmp_path: Path) -> None:
    loaded = configured(tmp_path, {"device_id": "porch"})
    found = only(state.configuration(machine(tmp_path, file=Path("agent.yaml"), config=loaded)))
    assert found == ok("agent.yaml: device porch, 0 models, 0 pipelines")


def test_each_mistake_of_a_configuration_is_a_failure(tmp_path: Path) -> None:
    broken = machine(tmp_path, file=Path("agent.yaml"), problems=("agent.yaml:1: x: wrong", "agent.yaml:2: y: wrong"))
    found = state.configuration(broken)
    assert states(found) == ["failure", "failure"]
    assert {finding.fix for finding in found} == {"edge-agent check -c agent.yaml"}


@pytest.mark.parametrize(("synced", "expected"), [(True, "ok"), (False, "warning")])
def test_a_clock_that_nobody_keeps_right_is_told(
    synced: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clock, "synced", lambda _: synced)
    assert only(state.clock(machine(tmp_path))).state == expected


def test_a_clock_that_has_lost_the_time_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    found = only(state.clock(machine(tmp_path)))
    assert (found.state, found.text[:19]) == ("failure", "1970-01-01 00:00:00")
    assert found.fix.startswith("sudo timedatectl set-ntp true")


def test_a_disk_with_room_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    loaded = configured(tmp_path, {"outbox": {"max_size": "100kB"}})
    before = sorted(tmp_path.iterdir())
    assert "and can be written to" in only(state.disk(machine(tmp_path / "root", config=loaded))).text
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "root"] == before


def test_a_folder_that_is_not_there_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    loaded = configured(tmp_path, {"outbox": {"path": "state/outbox.db"}})
    found = only(state.disk(machine(tmp_path, config=loaded)))
    assert (found.state, found.fix) == ("failure", f"sudo install -d -o pi -m 700 {tmp_path}/state")


def test_a_read_only_disk_is_told_with_the_command_that_makes_it_writable(tmp_path: Path) -> None:
    loaded = configured(tmp_path, {"outbox": {"path": "disk/outbox.db"}})
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        turn_read_only(disk)
        found = only(state.disk(machine(tmp_path / "root", config=loaded)))
    assert found.state == "failure"
    assert "Read-only file system" in found.text
    assert found.fix.startswith("sudo mount -o remount,rw ")


def test_a_full_disk_and_one_that_is_too_small_for_the_outbox_are_told(tmp_path: Path) -> None:
    loaded = configured(tmp_path, {"outbox": {"path": "disk/outbox.db"}})
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        (disk / "filled").write_bytes(bytes(900_000))
        assert only(state.disk(machine(tmp_path / "root", config=loaded))).state == "failure"
    with small_disk(tmp_path / "disk", 100_000_000):
        found = only(state.disk(machine(tmp_path / "root", config=loaded)))
    assert (found.state, "64.0 MB for the outbox (outbox.max_size)" in found.text) == ("warning", True)


def test_without_a_configuration_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", 150_000_000) as disk:
        turn_read_only(disk)
        monkeypatch.chdir(disk)
        assert states(state.disk(machine(tmp_path / "root"))) == ["ok"]
        monkeypatch.chdir(tmp_path)


def test_memory_is_told_and_little_of_it_warned_of(tmp_path: Path) -> None:
    assert state.memory(machine(tmp_path, {"/proc/meminfo": MEMORY.format(kib=900_000)})) == [
        ok("921.6 MB of 4.1 GB available")
    ]
    assert states(state.memory(machine(tmp_path, {"/proc/meminfo": MEMORY.format(kib=90_000)}))) == ["warning"]
    assert states(state.memory(machine(tmp_path, {"/proc/meminfo": ""}))) == ["ok"]


def test_programs_that_were_ended_for_want_of_memory_are_told(tmp_path: Path) -> None:
    files = {"/proc/meminfo": MEMORY.format(kib=900_000), "/proc/vmstat": "nr_free_pages 1\noom_kill 3\n"}
    assert "has ended 3 processes" in state.memory(machine(tmp_path, files))[1].text


@pytest.mark.parametrize(
    ("degrees", "flags", "expected"),
    [
        ("48312", "0", ["ok"]),
        ("48312", "50000", ["warning", "ok"]),
        ("85000", "0", ["warning"]),
        ("85000", "e0008", ["warning", "warning", "warning"]),
        ("48312", "50005", ["failure", "ok"]),
        ("nonsense", "nonsense", ["ok"]),
    ],
)
def test_heat_and_throttling_are_told(degrees: str, flags: str, expected: list[str], tmp_path: Path) -> None:
    files = {"/sys/class/thermal/thermal_zone0/temp": f"{degrees}\n", THROTTLED: f"{flags}\n"}
    assert states(state.temperature(machine(tmp_path, files))) == expected


def test_too_low_a_voltage_is_fixed_by_a_power_supply(tmp_path: Path) -> None:
    found = only(state.temperature(machine(tmp_path, {THROTTLED: "50000\n"})))
    assert (found.text, "power supply" in found.fix) == ("since the start: under-voltage, throttled", True)


def test_a_processor_that_the_kernel_holds_back_is_told(tmp_path: Path) -> None:
    folder = "/sys/class/thermal/cooling_device0"
    files = {f"{folder}/type": "cpufreq-cpu0\n", f"{folder}/cur_state": "2\n"}
    found = only(state.temperature(machine(tmp_path, files)))
    assert (found.state, found.text) == ("warning", "now: held back by the kernel: the processor runs slower")
