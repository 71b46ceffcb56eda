"""Kept samples come from devices by rsync over ssh.

Where the connection itself is of no interest, a script stands in for ssh, and runs here what would run there.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from edge_agent import cli
from edge_agent.sample_store.labels import Label, append_labels, read_labels
from edge_agent.sample_store.segment import Entry
from edge_agent.sample_store.store import Bounds, SampleStore, read_store
from tests.broker import wait_until
from tests.command_line import command as edge_agent_command
from tests.command_line import environment
from tests.ssh_server import devices

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")


def entry(number: int) -> Entry:
    return Entry({"id": f"{number:016x}", "captured_at": 1000.0 + number}, os.urandom(100_000))


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleStore:
    """A device whose ssh ends at once for a host called `away`."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(
        '#!/bin/sh\ncase " $* " in *" away "*) echo "ssh: connect to host away: timed out" >&2; exit 255;; esac\n'
        'while [ "$1" != rsync ]; do shift; done\nexec "$@"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    store = SampleStore(tmp_path / "device" / "lab", Bounds(10_000_000))
    store.append([entry(0), entry(1)])
    return store


def pull(tmp_path: Path, *hosts: str) -> int:
    path = str(tmp_path / "device")
    return cli.main(["samples", "pull", "--devices", *hosts, "-o", str(tmp_path / "here"), "--path", path])


def test_what_is_new_comes_and_labels_of_both_sides_stay(device: SampleStore, tmp_path: Path) -> None:
    here = tmp_path / "here" / "porch-pi" / "lab"
    assert pull(tmp_path, "ann@porch-pi") == 0
    append_labels(here, [(f"{0:016x}", Label("cat"))], "ann", "now")
    append_labels(device.folder, [(f"{1:016x}", Label("dog"))], "page", "now")
    device.append([entry(2)])
    assert pull(tmp_path, "ann@porch-pi") == 0
    assert pull(tmp_path, "ann@porch-pi") == 0
    assert [one.read() for one in read_store(here)] == [one.read() for one in read_store(device.folder)]
    assert read_labels(here) == {f"{0:016x}": Label("cat"), f"{1:016x}": Label("dog")}
    assert len((here / "labels.jsonl").read_text().splitlines()) == 2


def test_a_device_that_is_away_is_named_and_the_others_are_pulled(
    device: SampleStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pull(tmp_path, "away", "porch-pi") == 1
    assert capsys.readouterr().err.startswith("away: ")
    assert len(list(read_store(tmp_path / "here" / "porch-pi" / "lab"))) == 2


@pytest.mark.parametrize("host", ["-oProxyCommand=true", "a b", "", "a:b"])
def test_no_host_is_an_option_of_ssh(host: str, device: SampleStore, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(pull(tmp_path, host))
    assert ended.value.code == 2
    assert not (tmp_path / "here").exists()


SAMPLES = 30
ALL = SAMPLES * 100_000


def filled(home: Path, first: int) -> Path:
    """A store with one segment."""
    store = SampleStore(home / "samples" / "lab", Bounds(80_000_000))
    store.append([entry(number) for number in range(first, first + SAMPLES)])
    return store.folder


def command(tmp_path: Path, *further: str) -> list[str]:
    hosts = ["porch-pi", "yard-pi"]
    return ["samples", "pull", "--devices", *hosts, "-o", str(tmp_path / "here"), "--path", "samples", *further]


def test_over_ssh_a_pull_that_was_killed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    homes = {name: tmp_path / name for name in ("porch-pi", "yard-pi")}
    stores = [filled(home, 1000 * number) for number, home in enumerate(homes.values())]
    with devices(homes, tmp_path / "ssh", monkeypatch):
        killed = subprocess.Popen(
            edge_agent_command(*command(tmp_path, "--max-rate", "2MB")),
            start_new_session=True,
            env=environment(),
            stderr=subprocess.DEVNULL,
        )
        part = tmp_path / "here" / "porch-pi" / "lab" / "00000001.samples"
        wait_until(lambda: part.exists() and part.stat().st_size > 800_000, 20, "a part has come")
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait(10)
        come = part.stat().st_size
        assert come < ALL - 500_000
        sent = tmp_path / "ssh" / "porch-pi" / "sent"
        before = sent.stat().st_size
        assert cli.main(command(tmp_path)) == 0
        # What had come is compared by checksums, and not sent again.
        assert sent.stat().st_size - before < ALL - come + 300_000
    for name, store in zip(homes, stores, strict=True):
        here = tmp_path / "here" / name / "lab"
        assert [one.read() for one in read_store(here)] == [one.read() for one in read_store(store)]
        assert sorted(path.name for path in here.iterdir()) == sorted(path.name for path in store.iterdir())
