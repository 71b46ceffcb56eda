"""Wheels of this tree as other versions, among them one that does not stay up."""

from pathlib import Path
from zipfile import ZipFile

from edge_agent import __version__

DIES = """
import os, threading
_ready = notify_ready
def notify_ready():
    _ready()
    threading.Timer(1.0, os._exit, (1,)).start()
"""


def as_version(wheel: Path, version: str, folder: Path, more: str = "") -> Path:
    """The same wheel as another version, in a folder of its own; with more code where readiness is reported."""
    folder.mkdir()
    new = folder / wheel.name.replace(f"-{__version__}-", f"-{version}-")
    with ZipFile(wheel) as old, ZipFile(new, "w") as out:
        for entry in old.infolist():
            name, content = entry.filename, old.read(entry)
            name = name.replace(f"-{__version__}.dist-info", f"-{version}.dist-info")
            if name.endswith(("/METADATA", "/RECORD")) or name == "edge_agent/__init__.py":
                content = content.replace(__version__.encode(), version.encode())
            if name == "edge_agent/system/systemd.py":
                content += more.encode()
            out.writestr(name, content)
    return new
