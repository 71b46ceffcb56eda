"""The playbooks, run by an Ansible in an environment of its own."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pages import ROOT

PLAYBOOKS = ROOT / "deploy" / "ansible"
PROGRAMS = ROOT / ".venv-ansible" / "bin"
TIMEOUT_S = 1800.0


def play(
    folder: Path, playbook: str, devices: dict[str, Any], *arguments: str, path: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Plays a playbook; skips the test where there is no Ansible.

    Args:
        folder: where the inventory goes.
        playbook: the name of its file.
        devices: the inventory's group: hosts and variables.
        arguments: further ones.
        path: further folders of programs, before the others.
        environment: further variables.
    """
    if not (PROGRAMS / "ansible-playbook").exists():
        pytest.skip("needs Ansible: make check-ansible")
    (folder / "inventory.yaml").write_text(yaml.safe_dump({"edge_devices": devices}))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ANSIBLE"))}
    inherited["PATH"] = f"{path}:{PROGRAMS}:{inherited['PATH']}".removeprefix(":")
    return subprocess.run(
        [PROGRAMS / "ansible-playbook", "-i", folder / "inventory.yaml", PLAYBOOKS / playbook, *arguments],
        env=inherited | {"ANSIBLE_NOCOLOR": "1"} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
