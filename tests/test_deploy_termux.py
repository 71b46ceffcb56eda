"""The installation on a phone, in a temporary root with stand-ins, and its service under the real runit."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import yaml

from edge_agent.config import loader
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.pages import ROOT

SCRIPTS = ROOT / "deploy" / "termux"

# What stands in for Termux' programs: each notes how it was called.
STAND_INS = {
    "pkg": "",
    "termux-wake-lock": "",
    "termux-wake-unlock": "",
    "uname": 'echo "${MACHINE:-aarch64}"',
    # Like proot it runs the program as a child, takes no notice of SIGTERM, and passes none on.
    "proot-distro": (
        'case "$1 $2 $3" in\n'
        '"install debian ") touch "$ROOT/debian" ;;\n'
        '"login debian --") [ -e "$ROOT/debian" ] || exit 1; shift 3; trap : TERM HUP; "$@" & child=$!\n'
        "while :; do wait $child && code=0 || code=$?; kill -0 $child 2>/dev/null || exit $code; done ;;\n"
        "esac"
    ),
    "apt-get": "",
    "getprop": 'echo "${PHONE:-Pixel 4a (5G)}"',
    # Makes an environment that holds this project in place of an empty one.
    "python3": (
        'case "$1 $2" in\n'
        '"-m venv") mkdir -p "$3/bin"; ln -s "$ROOT/bin/pip-stand-in" "$3/bin/python"\n'
        f'printf \'#!/bin/sh\\nexec {sys.executable} -m edge_agent "$@"\\n\' > "$3/bin/edge-agent"\n'
        'chmod 755 "$3/bin/edge-agent" ;;\n'
        '"-c import ensurepip") [ -e "$ROOT/venv-installed" ] ;;\n'
        "esac"
    ),
    "pip-stand-in": '[ -z "${PIP_FAILS:-}" ]',
}


class Phone:
    """Termux' folders below a temporary one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.prefix, self.home = root / "usr", root / "home"
        self.folder, self.service = self.home / "edge-agent", self.prefix / "var" / "service" / "edge-agent"
        (root / "bin").mkdir()
        (self.prefix / "bin").mkdir(parents=True)
        (self.prefix / "bin" / "sh").symlink_to("/bin/sh")
        self.home.mkdir()
        shutil.copytree(SCRIPTS, self.home / "termux")
        self.wheel = self.home / "edge_agent_runtime-0.1.0-py3-none-any.whl"
        self.wheel.touch()
        for name, script in STAND_INS.items():
            (root / "bin" / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "$ROOT/calls"\n{script}\n')
            (root / "bin" / name).chmod(0o755)
        self.environment = {
            "PATH": f"{root / 'bin'}:{os.environ['PATH']}:/usr/bin:/bin",
            "PREFIX": str(self.prefix),
            "HOME": str(self.home),
            "ROOT": str(root),
            "EDGE_AGENT_TARGET": str(root / "opt"),
            "PYTHONPATH": str(ROOT),
        }

    def install(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(self.home / "termux" / "install.sh"), *(arguments or (str(self.wheel),))],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self, program: str) -> list[str]:
        file = self.root / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")]


@pytest.fixture
def phone(tmp_path: Path) -> Phone:
    return Phone(tmp_path)


def test_the_installation_puts_everything_in_its_place(phone: Phone) -> None:
    done = phone.install()
    assert done.returncode == 0, done.stderr
    assert phone.calls("pkg") == ["install -y proot-distro termux-api termux-services"]
    assert phone.calls("apt-get")[-1] == "install -y --no-install-recommends python3-venv ca-certificates"
    assert phone.calls("pip-stand-in") == [f"-m pip install --no-cache-dir {phone.wheel}[tflite,onnx]"]
    assert (phone.root / "opt" / "current" / "bin" / "edge-agent").exists()
    assert {path.name for path in phone.folder.iterdir()} == {"agent.yaml", "in-debian.sh", "photos.sh", "start.sh"}
    assert phone.folder.stat().st_mode & 0o077 == 0
    files = {str(path.relative_to(phone.service)) for path in phone.service.rglob("*") if path.is_file()}
    assert files == {"run", "finish", "down", "control/t", "control/h", "log/run"}
    for file in files - {"down"}:
        text = (phone.service / file).read_text()
        assert text.startswith(f"#!{phone.prefix}/bin/sh\n")
        assert "@" not in text
        assert os.access(phone.service / file, os.X_OK)


def test_the_configuration_that_it_begins_with_is_sound(phone: Phone) -> None:
    phone.install()
    loaded = loader.load(phone.folder / "agent.yaml")
    assert loaded.settings.battery.pause_below == 20
    assert (phone.folder / "photos.sh").exists()


@pytest.mark.parametrize(("model", "begins"), [("Pixel 4a (5G)", "pixel-4a-5g-"), ("/+#", "phone-"), ("", "phone-")])
def test_each_phone_has_a_name_of_its_own_as_a_device(model: str, begins: str, phone: Phone, tmp_path: Path) -> None:
    names = set()
    for _ in range(2):
        (phone.folder / "agent.yaml").unlink(missing_ok=True)
        phone.install(PHONE=model or " ")
        names.add(loader.load(phone.folder / "agent.yaml").settings.device_id)
    assert len(names) == 2
    assert all(re.fullmatch(f"{begins}[0-9a-f]{{4}}", name) for name in names), names


def test_certificates_are_installed_where_there_are_none(phone: Phone) -> None:
    (phone.root / "venv-installed").touch()
    certificates = phone.root / "certificates"
    phone.install(EDGE_AGENT_CERTIFICATES=str(certificates))
    assert "ca-certificates" in phone.calls("apt-get")[-1]
    before = len(phone.calls("apt-get"))
    certificates.touch()
    phone.install(EDGE_AGENT_CERTIFICATES=str(certificates))
    assert len(phone.calls("apt-get")) == before


def test_a_second_installation_updates_and_leaves_the_user_s_files_alone(phone: Phone) -> None:
    phone.install()
    first = (phone.root / "opt" / "current").resolve()
    (phone.folder / "agent.yaml").write_text("# mine\n")
    (phone.service / "down").unlink()  # as sv-enable does
    first.rename(first.with_name("20000101000000"))
    done = phone.install()
    assert done.returncode == 0, done.stderr
    assert phone.calls("proot-distro").count("install debian") == 1
    assert (phone.folder / "agent.yaml").read_text() == "# mine\n"
    assert not (phone.service / "down").exists()
    installed = [path.name for path in (phone.root / "opt").iterdir() if not path.is_symlink()]
    assert installed == [(phone.root / "opt" / "current").resolve().name]


def test_an_installation_that_fails_leaves_the_one_in_use_as_it_is(phone: Phone) -> None:
    phone.install()
    first = (phone.root / "opt" / "current").resolve()
    in_use = first.rename(first.with_name("20000101000000"))
    (phone.root / "opt" / "current").unlink()
    (phone.root / "opt" / "current").symlink_to(in_use)
    done = phone.install(PIP_FAILS="yes")
    assert done.returncode != 0
    assert (phone.root / "opt" / "current").resolve() == in_use
    assert (in_use / "bin" / "edge-agent").exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ((), {"PREFIX": ""}, "this is not Termux: run it on the phone, in the Termux app"),
        ((), {"MACHINE": "armv8l"}, "this phone runs as armv8l: the runtimes exist for 64-bit processors"),
        (("gone.whl",), {}, "there is no file gone.whl"),
        (("a", "b"), {}, "expected one argument, the path of edge_agent_runtime-*.whl"),
        (("/etc/hostname",), {}, "/etc/hostname is outside of"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_before_anything_is_changed(
    arguments: tuple[str, ...], environment: dict[str, str], message: str, phone: Phone
) -> None:
    done = phone.install(*arguments, **environment)
    assert done.returncode == 1
    assert done.stderr.startswith(f"install.sh: {message}")
    assert done.stderr.count("\n") == 1
    assert phone.calls("pkg") == []
    assert not phone.folder.exists()


class Runit:
    """The real runsvdir over a phone's services."""

    def __init__(self, phone: Phone) -> None:
        self._phone = phone
        self._environment = phone.environment | {"SVDIR": str(phone.service.parent)}

    def sv(self, *arguments: str) -> str:
        done = subprocess.run(
            ["sv", "-w", "20", *arguments, "edge-agent"],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.stdout

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(["runsvdir", str(self._phone.service.parent)], env=self._environment)
        wait_until(lambda: self.sv("status").startswith("down:"), 20, "runit has seen the service")
        return self

    def __exit__(self, *_: object) -> None:
        # SIGHUP: it ends its services, and then itself.
        self._process.send_signal(1)
        self._process.wait(30)


@pytest.fixture
def runit(phone: Phone, mosquitto: Mosquitto) -> Iterator[Runit]:
    if not shutil.which("runsvdir"):
        pytest.skip("needs runit: apt-get install runit")
    assert phone.install().returncode == 0
    example = yaml.safe_load((phone.folder / "agent.yaml").read_text())
    settings = example | {"device_id": "phone", "mqtt": {"url": mosquitto.url}}
    settings["pipelines"] = {"lab": {"source": {"type": "mqtt", "topic": "in/#"}, "model": "digits"}}
    (phone.folder / "agent.yaml").write_text(yaml.safe_dump(settings))
    with Runit(phone) as running:
        yield running


def statuses(client: Subscriber) -> list[bytes]:
    """What it has said of itself, each thing once until it says another."""
    said = [message.payload for message in client.messages if message.topic == "edge/phone/status"]
    return [status for status, _ in itertools.groupby(said)]


def test_the_service_starts_reloads_stops_in_order_and_comes_back_after_a_crash(
    runit: Runit, phone: Phone, mosquitto: Mosquitto
) -> None:
    log = phone.prefix / "var" / "log" / "sv" / "edge-agent" / "current"
    pid = phone.folder / "pid"
    with Subscriber(mosquitto.port, "edge/phone/#") as client:
        assert statuses(client) == []  # nobody has enabled it
        (phone.service / "down").unlink()
        runit.sv("up")
        wait_until(lambda: statuses(client) == [b"online"], 30, "it is online")
        assert phone.calls("termux-wake-lock") == [""]
        runit.sv("hup")
        wait_until(lambda: "configuration reloaded" in log.read_text(), 20, "it has reloaded")
        assert runit.sv("down").startswith("ok: down:")
        assert statuses(client) == [b"online", b"offline"]
        assert "SIGTERM: stopping" in log.read_text()
        wait_until(lambda: phone.calls("termux-wake-unlock") == [""], 20, "the phone may sleep")
        assert not pid.exists()
        runit.sv("up")
        wait_until(lambda: statuses(client)[2:] == [b"online"], 30, "it is online again")
        # Whether it comes back after a crash need not take the ten seconds that it does.
        finish = phone.service / "finish"
        finish.write_text(finish.read_text().replace("sleep 10", "sleep 0.1"))
        os.kill(int(pid.read_text()), 9)
        wait_until(lambda: statuses(client)[3:] == [b"offline", b"online"], 30, "it is back after a crash")
        assert phone.calls("termux-wake-unlock") == [""]


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck: apt-get install shellcheck")
def test_shellcheck_finds_nothing(phone: Phone) -> None:
    assert phone.install().returncode == 0
    # The service's files as they are installed: before that they have no interpreter.
    scripts = [
        *SCRIPTS.glob("*.sh"),
        *(path for path in phone.service.rglob("*") if path.is_file() and path.stat().st_size),
    ]
    assert len(scripts) == 9
    done = subprocess.run(["shellcheck", "-s", "sh", *map(str, scripts)], capture_output=True, text=True, check=False)
    assert done.stdout == ""
