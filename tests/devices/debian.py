"""Debians of their own for tests, like this machine or emulated: made once; each device a copy that is thrown away.

As root, with debootstrap, and qemu-user-static for other machines. A device is an overlay over a system under build/,
in namespaces of its own. They are held by a process that reads from a pipe; so, however the tests end, its processes
and mounts end too. systemd does not run in it: systemctl.py starts the service as the unit says, and waits until it is
ready.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from zipfile import ZipFile

import pytest

from edge_agent import __version__
from tests.installation import PYTHON, SCRIPT
from tests.pages import ROOT

BUILD = ROOT / "build"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
STAND_INS = {
    "systemctl": Path(__file__).with_name("systemctl.py").read_text(),
    "journalctl": "#!/bin/sh\ntail -n 20 /run/edge-agent-service/log\n",
}
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PIP_CERT": str(CERTIFICATES),
}
PACKAGES = ("python3-venv", "ca-certificates", "mosquitto", "openssh-server", "sudo")
COMMAND_TIMEOUT_S = 3600.0
# Those of a Raspberry Pi 3 and a Raspberry Pi 2: what only later ones can do makes a program end. (qemu's own choice
# can do all, and takes its time over Debian 13's pointer authentication.)
CPUS = {"aarch64": "cortex-a53", "arm": "cortex-a7"}


def run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def emulated(processor: str) -> Iterator[None]:
    """Until the end of it, the kernel has programs for `processor` ("aarch64", "arm") run by qemu."""
    rule, entry = Path(f"/usr/lib/binfmt.d/qemu-{processor}.conf"), BINFMT / f"qemu-{processor}"
    if os.geteuid() != 0 or not rule.exists():
        pytest.skip("needs root and qemu-user-static: apt-get install qemu-user-static")
    with contextlib.ExitStack() as undo:
        undo.enter_context(pytest.MonkeyPatch.context()).setenv("QEMU_CPU", CPUS[processor])
        if not (BINFMT / "register").exists():
            run("mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT)
            undo.callback(run, "umount", BINFMT)
        if not entry.exists():
            (BINFMT / "register").write_text(rule.read_text())
            undo.callback(entry.write_text, "-1")
        yield


def debian(suite: str, architecture: str, *packages: str, kind: str = "") -> Path:
    """The folder of a Debian, made once: with Python, what the tests need in it, and further packages.

    Args:
        suite: of Debian.
        architecture: of the packages.
        packages: further ones.
        kind: names the folder of one that has other packages than the usual ones.
    """
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        pytest.skip("needs root and debootstrap: apt-get install debootstrap")
    folder = BUILD / "-".join(filter(None, (suite, architecture, kind)))
    if not folder.exists():
        made = folder.with_suffix(".new")
        shutil.rmtree(made, ignore_errors=True)
        made.parent.mkdir(exist_ok=True)
        include = ",".join([*(PACKAGES if not kind else ("python3-venv",)), *packages])
        run("debootstrap", f"--arch={architecture}", "--variant=minbase", f"--include={include}", suite, made)
        made.rename(folder)
    return folder


def build_wheel(folder: Path) -> Path:
    """The project's wheel."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def wheelhouse(wheel: Path, folder: Path, extras: str = "tflite") -> Path:
    """A folder with the wheels of everything that the wheel needs on Debian 12, of this machine's kind."""
    pip = (PYTHON, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--python-version", "3.11")
    run(*pip, "-c", ROOT / "constraints.txt", "-d", folder, f"{wheel}[{extras}]")
    return folder


def with_version(wheel: Path, version: str, broken_if: str = "") -> Path:
    """The same wheel under another version, which may end before it is ready, though its `check` works.

    Args:
        wheel: the project's.
        version: the other one.
        broken_if: an expression; where it is true, the agent ends.
    """
    made = wheel.with_name(wheel.name.replace(__version__, version))
    with ZipFile(wheel) as old, ZipFile(made, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name == "edge_agent/__init__.py":
                text = text.replace(__version__.encode(), version.encode())
            if name == "edge_agent/daemon/agent.py" and broken_if:
                text += f"\nif {broken_if}:\n    raise RuntimeError('a bad release')\n".encode()
            if name.endswith("/METADATA"):
                text = text.replace(f"Version: {__version__}".encode(), f"Version: {version}".encode())
            if not name.endswith("/RECORD"):
                new.writestr(name.replace(f"-{__version__}.dist-info", f"-{version}.dist-info"), text)
        new.writestr(f"edge_agent_runtime-{version}.dist-info/RECORD", "")
    return made


class Device:
    """A Debian that is thrown away in the end; a context manager.

    Args:
        name: of its folder under build/devices.
        system: the folder of the Debian that it begins as.
        network: this machine's; else it has none until it is given one.
    """

    def __init__(self, name: str, system: Path, *, network: bool = True) -> None:
        self._folder = BUILD / "devices" / name
        self._system = system
        self._namespaces = () if network else ("--net", "--uts")

    def __enter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)
        for part in ("changes", "work", "root"):
            (self._folder / part).mkdir(parents=True)
        # Not /sys: it would tell the runtimes about the processor of this machine instead of the emulated one.
        mounts = (
            'mount -t overlay -o "lowerdir=$1,upperdir=changes,workdir=work" device root && '
            "mount -t proc proc root/proc && mount --rbind /dev root/dev && "
            "mount -t tmpfs run root/run && mount -t tmpfs tmp root/tmp && "
            "exec chroot root sh -c 'echo mounted; exec cat'"
        )
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--pid", *self._namespaces, "--fork", "sh", "-c", mounts, "sh", self._system],
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"mounted\n"
        parent = self._holder.pid
        self.pid = int(Path(f"/proc/{parent}/task/{parent}/children").read_text())
        for name, text in STAND_INS.items():
            (self.root / "usr" / "local" / "bin" / name).write_text(text)
            (self.root / "usr" / "local" / "bin" / name).chmod(0o755)
        (self.root / "run" / "systemd" / "system").mkdir(parents=True)  # there while systemd runs
        for file in (Path("/etc/resolv.conf"), CERTIFICATES):
            if file.exists():
                self.put(file, str(file))
        self.put(SCRIPT, "/srv/install.sh")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()
        shutil.rmtree(self._folder)

    @property
    def root(self) -> Path:
        """Its root folder, as this process sees it."""
        return Path(f"/proc/{self.pid}/root")

    def put(self, source: Path, path: str) -> None:
        """Copies a file or a folder to an absolute path on the device."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)

    def show(self, folder: Path, path: str) -> None:
        """Mounts a folder of this machine at an absolute path on the device, read-only."""
        target = self._folder / "root" / path.lstrip("/")
        enter = ["nsenter", f"--target={self.pid}", "--mount"]
        run(*enter, "sh", "-c", 'mkdir -p "$2" && mount --bind -o ro "$1" "$2"', "sh", folder, target)

    def run(
        self, *command: str, network: bool = True, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command on it."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--uts", "--root", "--wd"]
        emulation = {name: value for name, value in os.environ.items() if name == "QEMU_CPU"}
        return subprocess.run(
            [*enter, *([] if network else ["unshare", "--net"]), *command],
            env=ENVIRONMENT | emulation | (environment or {}),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def install(self, wheel: Path, *arguments: str, network: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs install.sh with a wheel of this machine."""
        self.put(wheel, f"/srv/{wheel.name}")
        return self.run("sh", "/srv/install.sh", *arguments, f"/srv/{wheel.name}", network=network)
