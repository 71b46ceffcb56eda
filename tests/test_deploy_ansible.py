"""The playbooks against three devices, which are folders of this machine, and a real broker."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.broker import Mosquitto, Subscriber
from tests.installation import PYTHON, Device, make_wheel
from tests.pages import ROOT
from tests.playbooks import PLAYBOOKS, PROGRAMS, play

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(600)]

NAMES = ("attic", "barn", "cellar")
SECRET = "hunter2"


class Site:
    """Three devices, an inventory of them, and a broker that each has told it is online."""

    def __init__(self, folder: Path, mosquitto: Mosquitto) -> None:
        self.folder = folder
        self.devices = {name: Device(folder / name) for name in NAMES}
        self.mosquitto = mosquitto
        for name in NAMES:
            self.say(name, "online")
        (folder / "agent.yaml.j2").write_text((PLAYBOOKS / "agent.example.yaml.j2").read_text())

    def say(self, name: str, status: str) -> None:
        with Subscriber(self.mosquitto.port, f"edge/{name}/status") as client:
            client.publish(f"edge/{name}/status", status.encode(), retain=True)

    def play(self, playbook: str, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        hosts = {name: {"edge_agent_root": str(device.root)} for name, device in self.devices.items()}
        for host in hosts.values():
            host |= {"ansible_connection": "local", "ansible_python_interpreter": str(PYTHON)}
        inventory = {"hosts": hosts, "vars": variables}
        path = str(self.devices["attic"].root / "bin")
        return play(self.folder, playbook, inventory, *arguments, path=path, ANSIBLE_BECOME_ASK_PASS="0", REAL="yes")

    def install(self, version: str, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        return self.play(
            "install.yaml",
            *arguments,
            **{
                "ansible_become": False,
                "edge_agent_wheel": str(make_wheel(self.folder, version)),
                "edge_agent_configuration": str(self.folder / "agent.yaml.j2"),
                "edge_agent_credentials": {"broker-password": SECRET},
                "edge_agent_command": str(ROOT / ".venv" / "bin" / "edge-agent"),
                "edge_agent_watch_retries": 1,
            }
            | variables,
        )

    def versions(self) -> dict[str, str | None]:
        return {
            name: device.version if (device.opt / "current").exists() else None for name, device in self.devices.items()
        }


@pytest.fixture
def site(tmp_path: Path, mosquitto: Mosquitto) -> Site:
    return Site(tmp_path, mosquitto)


def changes(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Device -> how many of its tasks have changed something, from the recapitulation."""
    recapitulation = done.stdout.split("PLAY RECAP")[1].splitlines()[1:]
    return {line.split()[0]: line.split("changed=")[1].split()[0] for line in recapitulation if "changed=" in line}


def test_a_fleet_is_installed_and_left_alone_updated_until_a_device_fails_and_removed(site: Site) -> None:
    done = site.install("1.0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.versions() == dict.fromkeys(NAMES, "1.0")
    for name, device in site.devices.items():
        assert f"device_id: {name}\n" in (device.etc / "agent.yaml").read_text()
        assert (device.etc / "credentials" / "broker-password").stat().st_mode & 0o777 == 0o600
    assert SECRET not in done.stdout

    done = site.install("1.0")
    assert done.returncode == 0, done.stdout
    assert changes(done) == dict.fromkeys(NAMES, "0")

    # The second of three breaks: it goes back, configuration and all, and the third is not touched.
    (site.devices["barn"].root / "broken").write_text("1.1\n")
    template = site.folder / "agent.yaml.j2"
    template.write_text(f"# for 1.1\n{template.read_text()}")
    done = site.install("1.1")
    assert done.returncode != 0
    assert "edge-agent 1.1 did not become ready" in done.stdout
    assert site.versions() == {"attic": "1.1", "barn": "1.0", "cellar": "1.0"}
    configurations = {name: (device.etc / "agent.yaml").read_text() for name, device in site.devices.items()}
    assert [name for name, text in configurations.items() if "# for 1.1" in text] == ["attic"]

    done = site.play("remove.yaml", ansible_become=False, edge_agent_purge=True)
    assert done.returncode == 0, done.stdout
    assert not any(device.etc.exists() or device.opt.exists() for device in site.devices.values())


def test_a_device_that_the_broker_does_not_hear_of_ends_the_wave(site: Site) -> None:
    site.say("barn", "offline")
    done = site.install("1.0", edge_agent_watch=["--url", site.mosquitto.url])
    assert done.returncode != 0
    assert "barn: not online at the broker" in done.stdout
    assert site.versions() == {"attic": "1.0", "barn": "1.0", "cellar": None}


def test_only_a_changed_configuration_restarts_the_service(site: Site) -> None:
    assert site.install("1.0").returncode == 0
    template = site.folder / "agent.yaml.j2"
    template.write_text(f"# changed\n{template.read_text()}")
    done = site.install("1.0")
    assert done.returncode == 0, done.stdout
    # The configuration and the restart.
    assert changes(done) == dict.fromkeys(NAMES, "2")


def test_a_dry_run_of_an_update_changes_nothing(site: Site) -> None:
    assert site.install("1.0").returncode == 0
    done = site.install("1.1", "--check")
    assert done.returncode == 0, done.stdout
    assert site.versions() == dict.fromkeys(NAMES, "1.0")


def test_the_example_inventory_fits_the_playbooks() -> None:
    inventory = yaml.safe_load((PLAYBOOKS / "inventory.example.yaml").read_text())
    defaults = yaml.safe_load((PLAYBOOKS / "roles" / "edge_agent" / "defaults" / "main.yaml").read_text())
    stated = {name for name in inventory["edge_devices"]["vars"] if not name.startswith("ansible_")}
    assert stated <= defaults.keys()
    assert json.dumps(inventory).count("vault_") == 1


def test_ansible_lint_finds_nothing() -> None:
    if not (PROGRAMS / "ansible-lint").exists():
        pytest.skip("needs ansible-lint: make check-ansible")
    environment = os.environ | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "NO_COLOR": "1"}
    done = subprocess.run(
        [PROGRAMS / "ansible-lint", "-q"], cwd=PLAYBOOKS, env=environment, capture_output=True, text=True, check=False
    )
    shutil.rmtree(PLAYBOOKS / ".ansible", ignore_errors=True)
    assert (done.returncode, done.stdout) == (0, "")
