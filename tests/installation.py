"""A device below a temporary folder, for the installation: real files, and stand-ins for what rules a machine."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from tests.pages import ROOT

SCRIPT = ROOT / "deploy" / "install.sh"
EXTRAS = ("tflite", "onnx", "update", "metrics", "dev")
UNIT = ROOT / "systemd" / "edge-agent.service"
# The environment of the tests may have no pip of its own; the Python that it was made with has.
PYTHON = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"

# What stands in for the programs that need a whole machine: each notes how it was called.
STAND_INS = {
    "apt-get": "",
    "chown": "",
    "journalctl": "echo the log of the service",
    "sleep": 'echo "$1" >> "$EDGE_AGENT_ROOT/slept"',
    "useradd": 'touch "$EDGE_AGENT_ROOT/user"',
    "userdel": 'rm "$EDGE_AGENT_ROOT/user"',
    "getent": (
        'case "$1" in\n'
        'passwd) [ -e "$EDGE_AGENT_ROOT/user" ] ;;\n'
        'group) case " ${GROUPS_THERE:-video plugdev} " in *" $2 "*) ;; *) exit 2 ;; esac ;;\n'
        "esac"
    ),
    "runuser": 'shift 3; exec "$@"',
    # A version that is listed in the root's file `broken` does not become ready, one in `unsteady` does not stay so,
    # and one in `short-lived` ends after 25 seconds, as the stand-in of `sleep` counts them.
    "systemctl": (
        "active=$EDGE_AGENT_ROOT/active\n"
        'version=$(readlink "$EDGE_AGENT_ROOT/opt/edge-agent/current" || true)\n'
        'listed() { [ -e "$EDGE_AGENT_ROOT/$1" ] && grep -q "^${version%-*}$" "$EDGE_AGENT_ROOT/$1"; }\n'
        'case "$1" in\n'
        'restart) rm -f "$active"; if listed broken; then exit 1; fi; touch "$active"\n'
        ': > "$EDGE_AGENT_ROOT/slept" ;;\n'
        'is-active) [ -e "$active" ] || exit 3; if listed unsteady; then rm "$active"; fi\n'
        'if listed short-lived && awk "{ t+=\\$1 } END { exit t<25 }" "$EDGE_AGENT_ROOT/slept"; then exit 3; fi ;;\n'
        'show) printf "LoadState=loaded\\nActiveState=active\\n" ;;\n'
        'disable) rm -f "$active" ;;\n'
        "esac"
    ),
    "python3": (
        'case "$1 $2" in\n'
        f'"- "*) exec {PYTHON} -S "$@" ;;\n'
        '"-m venv") for folder; do :; done; mkdir -p "$folder/bin"\n'
        'ln -s "$EDGE_AGENT_ROOT/bin/pip" "$folder/bin/python"\n'
        'ln -s "$EDGE_AGENT_ROOT/bin/edge-agent" "$folder/bin/edge-agent" ;;\n'
        '"-c import struct"*) echo "${PYTHON_IS:-3 11 64}" ;;\n'
        '"-c import ensurepip") [ -z "${VENV_MISSING:-}" ] ;;\n'
        '"-c import cv2, numpy, yaml") false ;;\n'
        '"--version "*) echo "Python of the test" ;;\n'
        "esac"
    ),
    # The real one, where it is asked for.
    "edge-agent": f'[ -z "${{REAL:-}}" ] || exec {sys.executable} -m edge_agent "$@"',
    # An environment's Python: unpacks the wheel, leaves out what it needs; answers markers.
    "pip": (
        f'[ "$1" != - ] || exec {PYTHON} "$@"\n'
        '[ -z "${PIP_FAILS:-}" ] || exit 1\n'
        "for last; do :; done; wheel=${last%\\[*}; folder=${0%/bin/python}/lib/python3.11/site-packages\n"
        f'case $wheel in *.whl) {PYTHON} -S -m zipfile -e "$wheel" "$folder" ;;\n'
        '*) cat "$last" >> "$EDGE_AGENT_ROOT/required" ;; esac'
    ),
}


def make_wheel(folder: Path, version: str, requirements: tuple[str, ...] = (), note: str = "") -> Path:
    """A wheel with what the installation looks at; its unit tells the version."""
    path = folder / f"edge_agent_runtime-{version}-py3-none-any.whl"
    metadata = "".join(f"Provides-Extra: {extra}\n" for extra in EXTRAS)
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requirements)
    with ZipFile(path, "w") as wheel:
        for name, text in {
            "edge_agent/shipped/edge-agent.service": f"# {version} {note}\n{UNIT.read_text()}",
            "edge_agent/shipped/agent.yaml": (ROOT / "deploy" / "agent.yaml").read_text(),
            f"edge_agent_runtime-{version}.dist-info/METADATA": metadata,
        }.items():
            wheel.writestr(ZipInfo(name), text)  # of 1980: made again, it is the same file
    return path


class Device:
    """The folders that an installation fills.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.opt, self.etc = root / "opt" / "edge-agent", root / "etc" / "edge-agent"
        self.state = root / "var" / "lib" / "edge-agent"
        self.unit = root / "etc" / "systemd" / "system" / "edge-agent.service"
        self.drop_in = self.unit.with_name("edge-agent.service.d") / "10-install.conf"
        (root / "bin").mkdir(parents=True)
        (root / "run" / "systemd" / "system").mkdir(parents=True)  # there while systemd runs
        for name, script in STAND_INS.items():
            (root / "bin" / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "$EDGE_AGENT_ROOT/calls"\n{script}\n')
            (root / "bin" / name).chmod(0o755)
        self.environment = {
            "PATH": f"{root / 'bin'}:{os.environ['PATH']}:/usr/bin:/bin",
            "EDGE_AGENT_ROOT": str(root),
            "PYTHONPATH": str(ROOT),
        }

    def run(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs install.sh."""
        return subprocess.run(
            ["sh", str(SCRIPT), *map(str, arguments)],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def install(self, version: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Installs a version, with a configuration that somebody has written."""
        self.etc.mkdir(parents=True, exist_ok=True)
        if not (self.etc / "agent.yaml").exists():
            (self.etc / "agent.yaml").write_text("# mine\nmodels: {digits: {path: digits}}\n")
        return self.run(make_wheel(self.root, version), **environment)

    @property
    def version(self) -> str:
        """The version that the service runs, as the link says and as its unit says."""
        version = (self.opt / "current").readlink().name.rpartition("-")[0]
        assert self.unit.read_text().startswith(f"# {version} ")
        return version

    def versions(self) -> list[str]:
        """Those that are there, without what distinguishes environments of the same version."""
        folders = [path for path in self.opt.iterdir() if path.is_dir() and not path.is_symlink()]
        return sorted(path.name.rpartition("-")[0] for path in folders)

    def calls(self, program: str) -> list[str]:
        """How a stand-in was called, oldest first."""
        file = self.root / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")]
