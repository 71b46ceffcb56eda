"""The Debian package in a Debian 12 and a Debian 13: installed without network, served, replaced, purged."""

import subprocess
from pathlib import Path

import pytest

from edge_agent import __version__
from tests.broker import Mosquitto, Subscriber
from tests.debian_packages import builder
from tests.devices.debian import Device, build_wheel, debian, run

pytestmark = [pytest.mark.devices, pytest.mark.timeout(3600)]

NEXT = "99.0"
SUITES = {"12-amd64": "bookworm", "13-amd64": "trixie"}
# Everything that the package has a runtime or a reader for.
IMPORTS = "import ai_edge_litert.interpreter, onnxruntime, cv2, av, serial, gpiod, pocketsphinx, tuf, waitress, amqtt"


def newer(package: Path, folder: Path) -> Path:
    """The same package under the version NEXT."""
    run("dpkg-deb", "--raw-extract", package, folder)
    for file in (folder / "DEBIAN" / "control", *folder.glob("usr/lib/edge-agent/lib/*/*/edge_agent/__init__.py")):
        file.write_text(file.read_text().replace(__version__, NEXT))
    made = package.with_name(package.name.replace(__version__, NEXT))
    run("dpkg-deb", "-Znone", "--root-owner-group", "--build", folder, made)
    return made


def apt(device: Device, *arguments: str, network: bool = False) -> subprocess.CompletedProcess[str]:
    done = device.run(
        *("apt-get", "-y", "-q", *arguments), network=network, environment={"DEBIAN_FRONTEND": "noninteractive"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("target", SUITES)
def test_install_serve_upgrade_downgrade_purge(
    target: str,
    mosquitto: Mosquitto,
    tmp_path: Path,
) -> None:
    package = builder().build(build_wheel(tmp_path), builder().TARGETS[target], tmp_path)
    packages = {__version__: package, NEXT: newer(package, tmp_path / "unpacked")}
    with Device(f"package-{target}", debian(SUITES[target], "amd64")) as device:
        # apt's own path has no /usr/local/bin, where the stand-in is.
        (device.root / "usr" / "bin" / "systemctl").unlink(missing_ok=True)
        (device.root / "usr" / "bin" / "systemctl").symlink_to("/usr/local/bin/systemctl")
        path = {version: f"/srv/{file.name}" for version, file in packages.items()}
        for version, file in packages.items():
            device.put(file, path[version])
        etc, state = device.root / "etc" / "edge-agent", device.root / "var" / "lib" / "edge-agent"

        # Without any network; the example of a configuration is not started.
        done = apt(device, "install", path[__version__])
        assert "Write /etc/edge-agent/agent.yaml" in done.stdout
        assert device.run("edge-agent", "--version").stdout == f"edge-agent {__version__}\n"
        checked = device.run("edge-agent", "check")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        imported = device.run("/usr/lib/edge-agent/bin/python", "-c", IMPORTS)
        assert imported.returncode == 0, imported.stderr
        assert not (device.root / "run" / "edge-agent-service").exists()

        configuration = (
            f"device_id: debian\nmqtt:\n  url: {mosquitto.url}\n  username: debian\n"
            "  password_file: ${env:CREDENTIALS_DIRECTORY}/broker-password\n"
            "models: {digits: {path: digits}}\n"
            "pipelines: {lab: {source: {type: mqtt, topic: lab/images}, model: digits}}\n"
        )
        (etc / "agent.yaml").write_text(configuration)
        (etc / "credentials" / "broker-password").write_text("secret\n")
        device.run("systemctl", "enable", "edge-agent.service")
        with Subscriber(mosquitto.port, "edge/debian/#") as client:

            def said(count: int) -> list[bytes]:
                messages = client.wait_for(lambda message: message.topic == "edge/debian/status", count, timeout=120)
                return [message.payload for message in messages]

            done = device.run("dpkg-reconfigure", "edge-agent")
            assert done.returncode == 0, done.stdout + done.stderr
            assert said(1) == [b"online"]
            assert (etc / "credentials" / "broker-password").stat().st_mode & 0o777 == 0o600

            # Now with network: the service that apt starts has to reach the broker on this machine.
            apt(device, "install", path[NEXT], network=True)
            assert device.run("edge-agent", "--version").stdout == f"edge-agent {NEXT}\n"
            assert said(3) == [b"online", b"offline", b"online"]

            apt(device, "install", "--allow-downgrades", path[__version__], network=True)
            assert device.run("edge-agent", "--version").stdout == f"edge-agent {__version__}\n"
            assert said(5)[3:] == [b"offline", b"online"]

            apt(device, "remove", "edge-agent")
            assert said(6)[5:] == [b"offline"]
        assert (etc / "agent.yaml").read_text() == configuration
        assert not (device.root / "usr" / "lib" / "edge-agent").exists()

        apt(device, "purge", "edge-agent")
        assert not etc.exists()
        assert not state.exists()
        assert not (device.root / "etc" / "systemd" / "system" / "edge-agent.service.d").exists()
        assert device.run("id", "edge-agent").returncode != 0
