import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.system.limits import SELECT_LIMIT

# Seconds that a stop took at worst, with a busy processor.
LONGEST_STOP_S = 16
UNIT = Path(__file__).parents[1] / "systemd" / "edge-agent.service"
PROGRAMS = ("/opt/edge-agent/current/bin/edge-agent", "/bin/kill")

pytestmark = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="needs systemd-analyze: apt-get install systemd"
)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_finds_no_mistake_in_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    for program in PROGRAMS:
        assert f"={program} " in text
        # systemd-analyze wants to see the programs, which need not be installed here.
        text = text.replace(program, sys.executable)
    copy = tmp_path / UNIT.name
    copy.write_text(text)
    result = analyze("verify", str(copy))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_exposure_is_at_most_two_and_a_half() -> None:
    result = analyze("security", "--offline=true", "--threshold=25", "--no-pager", str(UNIT))
    assert result.returncode == 0, result.stdout + result.stderr


def test_everything_that_systemd_counts_as_loose_is_explained_in_a_comment() -> None:
    result = analyze("security", "--offline=true", "--json=short", "--no-pager", str(UNIT))
    loose = {check["name"].split("=")[0] for check in json.loads(result.stdout) if check["set"] is False}
    comments = "".join(line for line in UNIT.read_text().splitlines() if line.startswith("# "))
    assert {"DeviceAllow", "PrivateNetwork"} <= loose
    assert {directive for directive in loose if f"{directive}=" not in comments} == set()


def settings() -> dict[str, list[str]]:
    """What the unit sets, without comments: values by directive."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_nothing_in_the_state_folder_is_run() -> None:
    unit = settings()
    assert unit["NoExecPaths"] == [f"/var/lib/{unit['StateDirectory'][0]}"]


def test_what_the_service_keeps_is_for_its_own_user_alone() -> None:
    unit = settings()
    assert unit["User"] == ["edge-agent"]
    assert (unit["StateDirectoryMode"], unit["UMask"]) == (["0700"], ["0077"])


def test_memory_files_and_the_time_of_a_stop_are_limited() -> None:
    unit = settings()
    assert unit["MemoryMax"] == ["80%"]
    assert unit["OOMPolicy"] == ["continue"]
    assert unit["LimitNOFILE"] == [str(SELECT_LIMIT)]
    assert int(unit["TimeoutStopSec"][0].removesuffix("s")) > LONGEST_STOP_S


def test_usb_devices_are_not_open_to_everybody() -> None:
    assert not any("usb" in device for device in settings()["DeviceAllow"])
