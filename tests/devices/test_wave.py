"""A wave of updates, by Ansible over ssh: three devices with a network of their own each, of which one fails."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent import __version__
from tests.broker import Mosquitto, Subscriber
from tests.devices.debian import Device, build_wheel, debian, run, wheelhouse, with_version
from tests.pages import ROOT
from tests.playbooks import PLAYBOOKS, play

pytestmark = [pytest.mark.devices, pytest.mark.timeout(3600)]

BRIDGE = "edge-agent-test"
# Addresses that are set aside for tests, https://www.rfc-editor.org/rfc/rfc2544
HERE = "198.18.0.1"
ADDRESSES = {"attic": "198.18.0.11", "barn": "198.18.0.12", "cellar": "198.18.0.13"}
NEXT = "99.0"
# Not the ones of this machine's user.
SSH_OPTIONS = "-F none -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
SSHD = """
HostKey /srv/host_key
AuthorizedKeysFile /srv/authorized_keys
PasswordAuthentication no
PermitRootLogin no
Subsystem sftp internal-sftp
"""


@contextlib.contextmanager
def bridge() -> Iterator[None]:
    """What connects the devices with this machine."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with contextlib.suppress(AssertionError):
        run("ip", "link", "delete", BRIDGE)  # of a run that was killed
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    try:
        run("ip", "address", "add", f"{HERE}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        yield
    finally:
        run("ip", "link", "delete", BRIDGE)


def connect(device: Device, name: str) -> None:
    """Gives a device its name and its end of a cable to the bridge."""
    cable = f"edge-{name}"
    run(*("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(device.pid)))
    run("ip", "link", "set", cable, "master", BRIDGE, "up")
    inside = ("nsenter", f"--target={device.pid}", "--net", "--uts")
    run(*inside, "hostname", name)
    run(*inside, "ip", "address", "add", f"{ADDRESSES[name]}/24", "dev", "eth0")
    for interface in ("lo", "eth0"):
        run(*inside, "ip", "link", "set", interface, "up")
    (device.root / "etc" / "hosts").write_text(f"127.0.0.1 localhost {name}\n")


def serve_ssh(device: Device, key: Path) -> str:
    """Lets the user pi in, who may become root, as on Raspberry Pi OS; returns the device's public key."""
    (device.root / "srv" / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
    (device.root / "srv" / "sshd_config").write_text(SSHD)
    script = (
        "useradd --create-home --shell /bin/sh --password '*' pi\n"
        "echo 'pi ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/pi\n"
        "ssh-keygen -q -t ed25519 -N '' -f /srv/host_key\n"
        "mkdir -p /run/sshd\n"
        "/usr/sbin/sshd -f /srv/sshd_config -E /srv/sshd.log\n"
    )
    done = device.run("sh", "-ec", script)
    assert done.returncode == 0, done.stderr
    return (device.root / "srv" / "host_key.pub").read_text()


class Site:
    """Three devices, and what is known of them here."""

    def __init__(self, folder: Path, devices: dict[str, Device]) -> None:
        self.folder = folder
        self.devices = devices
        self.wheel = build_wheel(folder)
        self.wheels = wheelhouse(self.wheel, folder / "wheelhouse")
        self.template = folder / "agent.yaml.j2"
        self.template.write_text((PLAYBOOKS / "agent.example.yaml.j2").read_text().replace("broker.lan", HERE))
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key")
        known = ""
        for name, device in devices.items():
            connect(device, name)
            known += f"{ADDRESSES[name]} {serve_ssh(device, folder / 'key')}"
        (folder / "known_hosts").write_text(known)

    def install(self, wheel: Path) -> subprocess.CompletedProcess[str]:
        variables: dict[str, Any] = {
            "ansible_user": "pi",
            "ansible_ssh_private_key_file": str(self.folder / "key"),
            "ansible_ssh_common_args": f"{SSH_OPTIONS} -o UserKnownHostsFile={self.folder / 'known_hosts'}",
            "edge_agent_wheel": str(wheel),
            "edge_agent_wheelhouse": str(self.wheels),
            "edge_agent_configuration": str(self.template),
            "edge_agent_credentials": {"broker-password": "hunter2"},
            "edge_agent_command": str(ROOT / ".venv" / "bin" / "edge-agent"),
            "edge_agent_watch": ["--url", f"mqtt://{HERE}"],
        }
        hosts = {name: {"ansible_host": address} for name, address in ADDRESSES.items()}
        return play(self.folder, "install.yaml", {"hosts": hosts, "vars": variables}, ANSIBLE_PIPELINING="1")

    def versions(self) -> dict[str, str]:
        program = "/opt/edge-agent/current/bin/edge-agent"
        return {name: device.run(program, "--version").stdout.split()[-1] for name, device in self.devices.items()}

    def processes(self) -> dict[str, str]:
        return {name: (device.root / "run/edge-agent-service/pid").read_text() for name, device in self.devices.items()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    system = debian("bookworm", "amd64")
    with contextlib.ExitStack() as stack:
        stack.enter_context(bridge())
        devices = {name: stack.enter_context(Device(name, system, network=False)) for name in ADDRESSES}
        yield Site(tmp_path, devices)


def test_a_device_that_fails_goes_back_and_those_after_it_are_left_alone(site: Site, tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path / "broker", [f"listener 1883 {HERE}"]) as broker,
        Subscriber(broker.port, "edge/+/status") as client,
    ):

        def said(name: str) -> list[bytes]:
            return [message.payload for message in client.messages if message.topic == f"edge/{name}/status"]

        done = site.install(site.wheel)
        assert done.returncode == 0, done.stdout + done.stderr
        assert site.versions() == dict.fromkeys(ADDRESSES, __version__)
        assert [said(name) for name in ADDRESSES] == 3 * [[b"online"]]

        before = site.processes()
        site.template.write_text(f"# for {NEXT}\n{site.template.read_text()}")
        done = site.install(with_version(site.wheel, NEXT, broken_if="__import__('socket').gethostname() == 'barn'"))
        assert done.returncode == 2, done.stdout + done.stderr
        assert "a bad release" in done.stdout
        assert f"edge-agent {NEXT} did not become ready" in done.stdout
        assert "cellar" not in done.stdout.partition("PLAY RECAP")[0]

        assert site.versions() == {"attic": NEXT, "barn": __version__, "cellar": __version__}
        after = site.processes()
        assert {name for name in ADDRESSES if after[name] != before[name]} == {"attic", "barn"}
        copied = [list((device.root / "var/cache/edge-agent").glob("*.whl")) for device in site.devices.values()]
        assert [len(wheels) for wheels in copied] == [2, 2, 1]
        texts = {name: (device.root / "etc/edge-agent/agent.yaml").read_text() for name, device in site.devices.items()}
        assert [name for name, text in texts.items() if f"# for {NEXT}" in text] == ["attic"]
        assert all(said(name)[-1] == b"online" for name in ADDRESSES)
        assert said("cellar") == [b"online"]
        # All three serve.
        image = (ROOT / "models" / "digits" / "golden" / "5_printed.png").read_bytes()
        with Subscriber(broker.port, "edge/+/lab/result") as results:
            for name in ADDRESSES:
                results.publish(f"lab/{name}/images", image)
            documents = [json.loads(message.payload) for message in results.wait_for(lambda _: True, 3, timeout=60)]
        assert {document["device_id"] for document in documents} == set(ADDRESSES)
        assert [document["predictions"][0]["label"] for document in documents] == 3 * ["5"]
