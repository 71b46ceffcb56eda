"""install.sh in a Debian 12 of its own: its Python, its users, its folders; without network but for the broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Mosquitto, Subscriber
from tests.devices.debian import Device, build_wheel, debian, wheelhouse, with_version

pytestmark = [pytest.mark.devices, pytest.mark.timeout(1800)]

NEXT = "99.0"
BROKEN = "99.1"
OFFLINE = ("--wheelhouse", "/srv/wheelhouse")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return build_wheel(tmp_path)


@pytest.fixture
def device(wheel: Path, tmp_path: Path) -> Iterator[Device]:
    with Device("debian", debian("bookworm", "amd64")) as system:
        system.put(wheelhouse(wheel, tmp_path / "wheelhouse"), "/srv/wheelhouse")
        yield system


def test_install_serve_update_go_back_remove(device: Device, wheel: Path, mosquitto: Mosquitto) -> None:
    # Without any network.
    done = device.install(wheel, *OFFLINE, network=False)
    assert done.returncode == 0, done.stdout + done.stderr
    etc, opt = device.root / "etc" / "edge-agent", device.root / "opt" / "edge-agent"
    assert "Write /etc/edge-agent/agent.yaml" in done.stdout

    (etc / "credentials" / "broker-password").write_text("secret\n")
    (etc / "agent.yaml").write_text(
        "device_id: debian\n"
        f"mqtt:\n  url: {mosquitto.url}\n  username: debian\n"
        "  password_file: ${env:CREDENTIALS_DIRECTORY}/broker-password\n"
        "models: {digits: {path: digits}}\n"
        "pipelines: {lab: {source: {type: mqtt, topic: lab/images}, model: digits}}\n"
    )
    with Subscriber(mosquitto.port, "edge/debian/#") as client:

        def said(count: int) -> list[bytes]:
            messages = client.wait_for(lambda message: message.topic == "edge/debian/status", count, timeout=60)
            return [message.payload for message in messages]

        done = device.install(wheel, *OFFLINE)
        assert done.returncode == 0, done.stdout + done.stderr
        assert said(1) == [b"online"]
        process = device.root / "proc" / (device.root / "run" / "edge-agent-service" / "pid").read_text()
        account = device.run("id", "-u", "edge-agent").stdout.strip()
        assert f"Uid:\t{account}\t{account}" in (process / "status").read_text()
        assert (etc / "credentials" / "broker-password").stat().st_mode & 0o777 == 0o600

        done = device.install(with_version(wheel, NEXT), *OFFLINE)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (opt / "current").readlink().name.startswith(f"{NEXT}-")
        assert said(3) == [b"online", b"offline", b"online"]

        done = device.install(with_version(wheel, BROKEN, broken_if="True"), *OFFLINE)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "a bad release" in done.stderr
        assert (opt / "current").readlink().name.startswith(f"{NEXT}-")
        assert said(5)[3:] == [b"offline", b"online"]

        done = device.run("sh", "/srv/install.sh", "--uninstall")
        assert done.returncode == 0, done.stderr
        assert said(6)[5:] == [b"offline"]
    assert (etc / "agent.yaml").exists()
    assert not opt.exists()
    assert not (device.root / "var" / "lib" / "edge-agent").exists()
    assert device.run("id", "edge-agent").returncode != 0
