"""install.sh in a Debian 12 of its own: its Python, its users, its folders; without network but for the broker.

As root, with debootstrap. Debian is made once and kept under build/. systemd does not run in it: systemctl.py starts
the service as the unit says, and waits until it is ready.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from edge_agent import __version__
from tests.broker import Mosquitto, Subscriber
from tests.installation import PYTHON, SCRIPT
from tests.pages import ROOT

pytestmark = [pytest.mark.devices, pytest.mark.timeout(1800)]

DEBIAN = ROOT / "build" / "debian"
SYSTEMCTL = Path(__file__).with_name("systemctl.py")
NEXT = "99.0"
BROKEN = "99.1"


def run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def with_version(wheel: Path, version: str, *, broken: bool = False) -> Path:
    """The same wheel under another version, which may end before it is ready, though its `check` works."""
    made = wheel.with_name(wheel.name.replace(__version__, version))
    with ZipFile(wheel) as old, ZipFile(made, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name == "edge_agent/__init__.py":
                text = text.replace(__version__.encode(), version.encode())
            if name == "edge_agent/agent.py" and broken:
                text += b"\nraise RuntimeError('a bad release')\n"
            if name.endswith("/METADATA"):
                text = text.replace(f"Version: {__version__}".encode(), f"Version: {version}".encode())
            if not name.endswith("/RECORD"):
                new.writestr(name.replace(f"-{__version__}.dist-info", f"-{version}.dist-info"), text)
        new.writestr(f"edge_agent-{version}.dist-info/RECORD", "")
    return made


class Debian:
    """The system, with wheels for everything under /srv."""

    def __init__(self) -> None:
        self.srv = DEBIAN / "srv"
        shutil.rmtree(self.srv)
        wheelhouse = self.srv / "wheelhouse"
        wheelhouse.mkdir(parents=True)
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", self.srv, ROOT)
        (self.wheel,) = self.srv.glob("*.whl")
        pip = (PYTHON, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--python-version", "3.11")
        run(*pip, "-c", ROOT / "constraints.txt", "-d", wheelhouse, f"{self.wheel}[tflite]")
        shutil.copy(SCRIPT, self.srv)
        for name, text in {
            "systemctl": SYSTEMCTL.read_text(),
            "journalctl": "#!/bin/sh\ntail -n 20 /run/edge-agent-service/log\n",
        }.items():
            (DEBIAN / "usr" / "local" / "bin" / name).write_text(text)
            (DEBIAN / "usr" / "local" / "bin" / name).chmod(0o755)

    def run(self, *command: str, network: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in it, in mounts of its own."""
        mounts = 'mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" && exec chroot "$0" "$@"'
        unshare = ["unshare", "--mount", *([] if network else ["--net"])]
        return subprocess.run(
            [*unshare, "sh", "-c", mounts, str(DEBIAN), *command],
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def install(self, wheel: Path, *, network: bool = True) -> subprocess.CompletedProcess[str]:
        arguments = ("--wheelhouse", "/srv/wheelhouse", f"/srv/{wheel.name}")
        return self.run("sh", "/srv/install.sh", *arguments, network=network)


@pytest.fixture(scope="module")
def debian() -> Iterator[Debian]:
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        pytest.skip("needs root and debootstrap: apt-get install debootstrap")
    if not (DEBIAN / "srv").exists():
        shutil.rmtree(DEBIAN, ignore_errors=True)
        made = DEBIAN.with_name("debian.new")
        shutil.rmtree(made, ignore_errors=True)
        made.parent.mkdir(exist_ok=True)
        run("debootstrap", "--variant=minbase", "--include=python3-venv", "bookworm", made)
        made.rename(DEBIAN)
    system = Debian()
    system.run("sh", "/srv/install.sh", "--uninstall", "--purge")
    yield system
    system.run("sh", "/srv/install.sh", "--uninstall", "--purge")


def test_install_serve_update_go_back_remove(debian: Debian, mosquitto: Mosquitto) -> None:
    # Without any network.
    done = debian.install(debian.wheel, network=False)
    assert done.returncode == 0, done.stdout + done.stderr
    etc, opt = DEBIAN / "etc" / "edge-agent", DEBIAN / "opt" / "edge-agent"
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

        done = debian.install(debian.wheel)
        assert done.returncode == 0, done.stdout + done.stderr
        assert said(1) == [b"online"]
        process = Path("/proc") / (DEBIAN / "run" / "edge-agent-service" / "pid").read_text()
        account = debian.run("id", "-u", "edge-agent").stdout.strip()
        assert f"Uid:\t{account}\t{account}" in (process / "status").read_text()
        assert (etc / "credentials" / "broker-password").stat().st_mode & 0o777 == 0o600

        done = debian.install(with_version(debian.wheel, NEXT))
        assert done.returncode == 0, done.stdout + done.stderr
        assert (opt / "current").readlink().name.startswith(f"{NEXT}-")
        assert said(3) == [b"online", b"offline", b"online"]

        done = debian.install(with_version(debian.wheel, BROKEN, broken=True))
        assert done.returncode == 3, done.stdout + done.stderr
        assert "a bad release" in done.stderr
        assert (opt / "current").readlink().name.startswith(f"{NEXT}-")
        assert said(5)[3:] == [b"offline", b"online"]

        done = debian.run("sh", "/srv/install.sh", "--uninstall")
        assert done.returncode == 0, done.stderr
        assert said(6)[5:] == [b"offline"]
    assert (etc / "agent.yaml").exists()
    assert not opt.exists()
    assert not (DEBIAN / "var" / "lib" / "edge-agent").exists()
    assert debian.run("id", "edge-agent").returncode != 0
