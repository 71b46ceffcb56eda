"""An agent takes the next version of itself from a signed repository, under a real systemd, and goes back again.

Real wheels, real environments, the real units and install.sh, in a container with a Debian of its own.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent import __version__
from edge_agent.release.agent import pack
from edge_agent.release.repository import SignedRepository
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.devices.container import Container
from tests.devices.debian import build_wheel, wheelhouse
from tests.installation import SCRIPT
from tests.update.agent_wheels import DIES, as_version
from tests.update.kit import IMAGE, WebServer, ask

pytestmark = [pytest.mark.devices, pytest.mark.timeout(1800)]

EXTRAS = "tflite,update"
PLATFORM = "cp311-x86_64"
PATIENCE_S = 300.0
INSTALL = ("sh", "/srv/install.sh", "--extras", EXTRAS, "--wheelhouse", "/srv/wheelhouse")


class Device:
    """The container with the agent in it, what it says, and the repository that it follows."""

    def __init__(self, container: Container, broker: Mosquitto, repository: SignedRepository, folder: Path) -> None:
        self.container, self.repository = container, repository
        self._folder = folder
        self._client = Subscriber(broker.port, "edge/container/#")

    def release(self, version: str, more: str = "") -> None:
        """Releases another version of the agent, perhaps with more code where it reports that it is ready."""
        folder = self._folder / f"agent-{version}"
        as_version(next(self._folder.glob("*.whl")), version, folder, more)
        for wheel in (self._folder / "wheelhouse").glob("*.whl"):
            if not wheel.name.startswith("edge_agent"):
                shutil.copy(wheel, folder)
        pack(folder, PLATFORM, archive := self._folder / f"agent-{version}.zip")
        self.repository.add({PLATFORM: archive}, "agent", version, 10_000, [])

    def steps(self) -> list[tuple[str, str]]:
        """What `P/update` has said of the agent: step and version."""
        said = [json.loads(one.payload) for one in self._client.messages if one.topic == "edge/container/update"]
        return [(one["agent"]["step"], one["agent"]["version"]) for one in said]

    def reaches(self, step: str, version: str) -> None:
        """Waits until the update of the agent has reached a step, and for a result afterwards."""
        wanted = (step, f"agent/{version}")
        try:
            wait_until(lambda: wanted in self.steps(), PATIENCE_S, f"{wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.steps()[-5:]}") from None
        self.serves()

    def serves(self) -> None:
        """It answers a picture."""
        topic = "edge/container/lab/result"
        before = sum(one.topic == topic for one in self._client.messages)
        self._client.publish("lab", IMAGE)
        self._client.wait_for(lambda one: one.topic == topic, before + 1, PATIENCE_S)

    def commanded(self, **request: Any) -> dict[str, Any]:
        """The answer to a command."""
        topic = "edge/container/cmd/reply"
        before = sum(one.topic == topic for one in self._client.messages)
        self._client.publish("edge/container/cmd", json.dumps(request))
        replies = self._client.wait_for(lambda one: one.topic == topic, before + 1, PATIENCE_S)
        found: dict[str, Any] = json.loads(replies[-1].payload)
        return found

    def version(self) -> str:
        """Of the agent that the service runs."""
        return self.container.says("/opt/edge-agent/current/bin/edge-agent", "--version").split()[-1]

    def installed(self) -> set[str]:
        """The versions on its disk."""
        names = self.container.says("ls", "/opt/edge-agent").split()
        return {name.rpartition("-")[0] for name in names if name[0].isdigit()}


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, broker: Mosquitto) -> Iterator[Device]:
    """A container in which install.sh has brought the service up."""
    folder = tmp_path_factory.mktemp("container")
    repository = SignedRepository(folder / "repository", ask)
    repository.init()
    wheel = build_wheel(folder)
    wheels = wheelhouse(wheel, folder / "wheelhouse", EXTRAS)
    with WebServer(folder / "repository") as server, Container("container") as container:
        for source, path in ((SCRIPT, "install.sh"), (wheel, wheel.name), (wheels, "wheelhouse")):
            container.put(source, f"/srv/{path}")
        container.run(*INSTALL, f"/srv/{wheel.name}")
        container.put(repository.first_root, "/etc/edge-agent/root.json")
        settings = {
            "device_id": "container",
            "mqtt": {"url": broker.url},
            "models": {"digits": {"path": "digits"}},
            "pipelines": {"lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"}},
            "update": {
                "url": server.url,
                "root": "root.json",
                "agent": "agent",
                "interval": "2s",
                "probation": {"duration": "5s"},
            },
        }
        container.run("tee", "/etc/edge-agent/agent.yaml", given=yaml.safe_dump(settings))
        container.run(*INSTALL, f"/srv/{wheel.name}")
        device = Device(container, broker, repository, folder)
        device.serves()
        yield device


def test_it_takes_the_next_version(device: Device) -> None:
    device.release("0.2.0")
    device.reaches("committed", "0.2.0")
    assert device.version() == "0.2.0"
    assert device.container.says("systemctl", "is-active", "edge-agent") == "active"


def test_it_goes_back_from_one_that_does_not_stay_up(device: Device) -> None:
    device.release("0.2.1", DIES)
    device.reaches("refused", "0.2.1")
    assert device.version() == "0.2.0"
    assert device.installed() == {__version__, "0.2.0"}, "nothing is left of the one that failed"


def test_it_leaves_one_that_is_revoked(device: Device) -> None:
    device.repository.revoke("agent/0.2.0")
    device.reaches("rolled back", "0.2.0")
    assert device.version() == __version__


def test_it_goes_back_when_it_is_told_to(device: Device) -> None:
    device.release("0.3.0")
    device.reaches("committed", "0.3.0")
    assert device.commanded(command="pin", target="agent", pinned=True)["version"] == "agent/0.3.0"
    assert device.commanded(command="pin", target="agent", pinned=False)["ok"]
    assert device.commanded(command="rollback", target="agent")["ok"]
    device.reaches("rolled back", "0.3.0")
    wait_until(lambda: device.version() == __version__, PATIENCE_S, "the version before is in use")
    device.serves()


def test_the_units_are_right_and_run_as_they_say(device: Device) -> None:
    assert device.container.says("systemctl", "--failed", "--plain", "--no-legend") == ""
    shown = device.container.says("systemctl", "show", "edge-agent", "-p", "User", "-p", "NoExecPaths", "-p", "Type")
    assert set(shown.splitlines()) == {"User=edge-agent", "NoExecPaths=/var/lib/edge-agent", "Type=notify"}
    assert device.container.says("systemctl", "is-enabled", "edge-agent-update.path") == "enabled"
