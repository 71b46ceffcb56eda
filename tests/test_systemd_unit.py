import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.system.limits import SELECT_LIMIT
from edge_agent.update.agent_release import REQUEST

# Seconds that a stop took at worst, with a busy processor.
LONGEST_STOP_S = 16
UNITS = sorted((Path(__file__).parents[1] / "systemd").iterdir())
INSTALLER, UNIT = (
    next(unit for unit in UNITS if unit.name == f"{name}.service") for name in ("edge-agent-update", "edge-agent")
)
PROGRAMS = ("/opt/edge-agent/current/bin/edge-agent", "/bin/kill")

pytestmark = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="needs systemd-analyze: apt-get install systemd"
)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_finds_no_mistake_in_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text()
        for program in PROGRAMS:
            # systemd-analyze wants to see the programs, which need not be installed here.
            text = text.replace(f"={program} ", f"={sys.executable} ")
        (tmp_path / unit.name).write_text(text)
    assert f"={sys.executable} run " in (tmp_path / UNIT.name).read_text()
    result = analyze("verify", *(str(tmp_path / unit.name) for unit in UNITS))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(("unit", "most"), [(UNIT, 25), (INSTALLER, 30)], ids=lambda one: getattr(one, "stem", ""))
def test_the_exposure_is_bounded(unit: Path, most: int) -> None:
    """In tenths; of a service that installs as root it can't be as small as of one that does not."""
    result = analyze("security", "--offline=true", f"--threshold={most}", "--no-pager", str(unit))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("unit", [UNIT, INSTALLER], ids=lambda unit: unit.stem)
def test_everything_that_systemd_counts_as_loose_is_explained_in_a_comment(unit: Path) -> None:
    result = analyze("security", "--offline=true", "--json=short", "--no-pager", str(unit))
    loose = {check["name"].split("=")[0] for check in json.loads(result.stdout) if check["set"] is False}
    comments = "".join(line for line in unit.read_text().splitlines() if line.startswith("# "))
    assert {"DeviceAllow", "PrivateNetwork"} <= loose
    assert {directive for directive in loose if f"{directive}=" not in comments} == set()


def test_the_installer_is_started_by_the_file_that_the_agent_writes() -> None:
    request = f"/var/lib/edge-agent/updates/agent/{REQUEST}"
    assert f"PathChanged={request}\n" in (UNIT.parent / "edge-agent-update.path").read_text()
    assert f"ConditionPathExists={request}\n" in INSTALLER.read_text()


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
