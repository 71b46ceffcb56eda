"""An agent takes the next version of itself from a signed repository, and goes back from one that does not stay up.

Real wheels of this tree, real environments, real processes; systemctl and what else rules a machine are stand-ins.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.errors import ReleaseError
from edge_agent.release.agent import pack
from edge_agent.release.repository import SignedRepository
from edge_agent.release.rollout import Rollout
from edge_agent.update.agent_release import this_platform
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.installation import SCRIPT, STAND_INS
from tests.pages import ROOT
from tests.update.agent_wheels import DIES, as_version
from tests.update.kit import WebServer, ask

NAME = "porch-pi"


class Machine:
    """A machine on which install.sh has installed the agent, that runs as a process."""

    def __init__(self, root: Path, broker: Mosquitto, server: WebServer, repository: SignedRepository) -> None:
        self.root = root
        self.repository = repository
        self.opt, self.etc, self.state = root / "opt/edge-agent", root / "etc/edge-agent", root / "var/lib/edge-agent"
        for folder in (root / "bin", self.etc, root / "run/systemd/system"):
            folder.mkdir(parents=True)
        for name in ("apt-get", "chown", "journalctl", "useradd", "getent", "runuser"):
            self._stand_in(name, STAND_INS[name])
        self._stand_in("systemctl", f'exec {sys.executable} -P {ROOT / "tests/update/service.py"} "$@"')
        # What the environments of the tests have beside the wheel comes from that of the tests themselves.
        python = shutil.which("python3")
        link = f'echo {sysconfig.get_path("purelib")} > "$(echo "$3"/lib/python3.*/site-packages)/tests.pth"'
        self._stand_in("python3", f'{python} "$@" || exit; if [ "$1 $2" = "-m venv" ]; then {link}; fi')
        update = {"url": server.url, "root": str(repository.first_root), "agent": "agent", "interval": "1s"}
        config = {
            "device_id": NAME,
            "mqtt": {"url": broker.url},
            "models": {"digits": {"path": "digits"}},
            "pipelines": {"lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"}},
            "update": update | {"probation": {"duration": "5s"}},
        }
        (self.etc / "agent.yaml").write_text(yaml.safe_dump(config))
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            "PATH": f"{root / 'bin'}:{os.environ['PATH']}:/usr/bin:/bin",
            "EDGE_AGENT_ROOT": str(root),
            "XDG_CACHE_HOME": str(root / "cache"),
        }
        self.client = Subscriber(broker.port, f"edge/{NAME}/#")

    def _stand_in(self, name: str, script: str) -> None:
        (self.root / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.root / "bin" / name).chmod(0o755)

    def run(self, *command: str | Path) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=400, check=False, cwd="/"
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log()}"
        return done.stdout

    def log(self) -> str:
        return (self.root / "log").read_text()[-5000:] if (self.root / "log").exists() else ""

    def release(self, wheel: Path) -> str:
        """Releases a version; returns its name."""
        version = pack(wheel.parent, this_platform(), archive := wheel.with_suffix(".zip"))
        return self.repository.add({this_platform(): archive}, "agent", version, 10_000, [])[0].name

    def do_what_is_requested(self, version: str) -> str:
        """What the path unit does: waits for a request, and starts the service."""
        request = self.state / "updates" / "agent" / "request"
        self.wait_for("trying", version)
        wait_until(request.exists, 30, "a request")
        request.unlink()
        return self.run(self.opt / "current/bin/edge-agent", "update-agent", "-c", self.etc / "agent.yaml")

    def wait_for(self, step: str, version: str) -> dict[str, Any]:
        def reached() -> list[dict[str, Any]]:
            documents = [json.loads(m.payload) for m in list(self.client.messages) if m.topic == f"edge/{NAME}/update"]
            found = [one["agent"] for one in documents if "agent" in one]
            return [one for one in found if (one["step"], one["version"]) == (step, version)]

        try:
            return wait_until(reached, 60, f"{step} {version}")[-1]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def wait_for_version(self, version: str) -> None:
        """It runs, and says so."""

        def reached() -> bool:
            infos = [json.loads(m.payload) for m in list(self.client.messages) if m.topic == f"edge/{NAME}/info"]
            return bool(infos) and infos[-1]["version"] == version

        wait_until(reached, 60, version)

    def versions(self) -> list[str]:
        folders = [path for path in self.opt.iterdir() if path.is_dir() and not path.is_symlink()]
        return sorted(path.name.rpartition("-")[0] for path in folders if path.name != "updates")

    def progress(self, release: str) -> list[str]:
        rollout = Rollout(self.repository.find(release), "edge")
        for message in list(self.client.messages):
            if message.topic in (f"edge/{NAME}/update", f"edge/{NAME}/status"):
                assert rollout.received(message.topic, message.payload)
        return [row.progress for row in rollout.rows()]

    def close(self) -> None:
        self.client.close()
        subprocess.run([self.root / "bin/systemctl", "stop"], env=self.environment, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture
def machine(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Machine]:
    repository = SignedRepository(tmp_path / "repository", ask)
    repository.init()
    with WebServer(tmp_path / "repository") as server:
        found = Machine(tmp_path / "machine", mosquitto, server, repository)
        try:
            yield found
        finally:
            found.close()


@pytest.mark.faults
def test_the_next_version_takes_over_and_one_that_dies_or_is_revoked_is_left(
    machine: Machine, wheel: Path, tmp_path: Path
) -> None:
    first = as_version(wheel, "0.2.0", tmp_path / "first")
    machine.run("sh", SCRIPT, "--extras", "tflite,update", "--wheelhouse", first.parent, "--watch", "1", first)
    machine.wait_for_version("0.2.0")

    good = machine.release(as_version(wheel, "0.2.1", tmp_path / "second"))
    assert f"{good}: installed" in machine.do_what_is_requested(good)
    machine.wait_for_version("0.2.1")
    machine.wait_for("committed", good)
    assert machine.progress(good) == ["done"]
    assert machine.versions() == ["0.2.0", "0.2.1"]

    bad = machine.release(as_version(wheel, "0.2.2", tmp_path / "third", DIES))
    assert "did not become ready" in machine.do_what_is_requested(bad)
    refused = machine.wait_for("refused", bad)
    machine.wait_for_version("0.2.1")
    assert "did not become ready" in refused["reason"]
    assert machine.progress(bad) == ["failed"]
    assert machine.versions() == ["0.2.0", "0.2.1"]  # nothing of it is left
    assert not list((machine.state / "updates/agent").glob("*.zip"))

    machine.repository.revoke(good)
    request = machine.state / "updates/agent/request"
    wait_until(request.exists, 30, "a request")
    said = machine.run(machine.opt / "current/bin/edge-agent", "update-agent", "-c", machine.etc / "agent.yaml")
    assert "has been revoked" in said
    machine.wait_for_version("0.2.0")
    machine.wait_for("rolled back", good)


def test_wheels_of_another_platform_are_not_released(tmp_path: Path) -> None:
    names = ("edge_agent_runtime-1.0-py3-none-any.whl", "numpy-2.0-cp311-cp311-manylinux_2_17_x86_64.whl")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "cv2-4-cp37-abi3-manylinux_2_17_x86_64.whl").write_bytes(b"")
    assert pack(tmp_path, "cp311-x86_64", tmp_path / "a.zip") == "1.0"
    for platform in ("cp312-x86_64", "cp311-aarch64"):
        with pytest.raises(ReleaseError, match=platform):
            pack(tmp_path, platform, tmp_path / "b.zip")
