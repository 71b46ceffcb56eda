"""Machines that are made up of files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from edge_agent.config import loader
from edge_agent.doctor.machine import Finding, Machine

GROUP = "root:x:0:\nvideo:x:44:\ndialout:x:20:pi\nplugdev:x:46:\n"


def machine(root: Path, files: Mapping[str, str] | None = None, **fields: Any) -> Machine:
    """A machine with these files below its root, whose user is `pi`."""
    for name, text in {"/etc/group": GROUP, **(files or {})}.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Machine(**{"root": root, "user": "pi", "groups": frozenset({1000}), "may_use": lambda _: True, **fields})


def configured(folder: Path, document: Mapping[str, Any]) -> loader.Config:
    """A configuration, read from a file."""
    file = folder / "agent.yaml"
    file.write_text(yaml.safe_dump(dict(document), sort_keys=False))
    return loader.load(file)


def states(found: list[Finding]) -> list[str]:
    return [finding.state for finding in found]


def only(found: list[Finding]) -> Finding:
    (finding,) = found
    return finding
