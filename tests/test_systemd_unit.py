import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
