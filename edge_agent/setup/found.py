"""What a new device can begin with: its cameras and microphones, and the models that are known."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from edge_agent.models import registry
from edge_agent.models.bundle import Manifest, read_manifest
from edge_agent.models.shipped import shipped
from edge_agent.setup.own_models import own_models
from edge_agent.sources.v4l2 import SYSFS, nodes
from edge_agent.system.terminal import printable
from edge_agent.system.text import read_attribute

Takes = Literal["pictures", "sound", "readings"]

# Nodes that give no pictures, and those of a camera on the ribbon cable, which libcamera alone can read.
_NO_CAMERA = re.compile(r"isp|codec|hevc|unicam|rp1-cfe|metadata|loopback-out", re.IGNORECASE)
_LISTED = re.compile(r"^(\d{1,3}) : ([^\s]{1,64})", re.MULTILINE)
_CAPTURE = re.compile(r"^(\d{1,3})-(\d{1,3}): ([^:]{1,80}):.{0,200}capture", re.MULTILINE)
LISTING_TIMEOUT = 10.0
# The models of which the first is proposed, for each kind of input.
PROPOSED = {"pictures": "coco-ssd-mobilenet-v1", "sound": "yamnet", "readings": "vibration"}
_SHIPPED: dict[str, Takes] = {"digits": "pictures", "activity": "readings", "vibration": "readings"}

Source = dict[str, Any]


class Input(NamedTuple):
    """Something that gives inputs.

    Attributes:
        title: for the user.
        takes: what a model for it must take.
        source: its settings in a pipeline.
    """

    title: str
    takes: Takes
    source: Source


class KnownModel(NamedTuple):
    """A model that a configuration can refer to by name.

    Attributes:
        size: bytes of its files.
        here: whether they are on this machine.
    """

    name: str
    description: str
    task: str
    licence: str
    size: int
    takes: Takes
    here: bool


def cameras(sysfs: Path = SYSFS, list_ribbon: Callable[[], str] | None = None) -> list[Input]:
    """The cameras of this machine: USB cameras, and those on a ribbon cable.

    Args:
        sysfs: where the kernel lists video devices.
        list_ribbon: what libcamera's tool lists; default: it is run, if it is there.
    """
    found = []
    for entry in nodes(sysfs):
        name = printable(_attribute(entry / "name"))
        if _attribute(entry / "index") in ("", "0") and not _NO_CAMERA.search(name):
            source: Source = {"type": "camera", "device": int(entry.name.removeprefix("video")), "fps": 5}
            found.append(Input(f"{name} (/dev/{entry.name})", "pictures", source))
    for number, name in _LISTED.findall((list_ribbon or _ribbon)()):
        argv = ["rpicam-vid", "--camera", number, "-t", "0", "-n", "--codec", "mjpeg", "--width", "1280"]
        argv += ["--height", "720", "--framerate", "5", "-o", "-"]
        source = {"type": "command", "format": "mjpeg", "argv": argv}
        found.append(Input(f"{printable(name)} (ribbon cable)", "pictures", source))
    return found


def _attribute(path: Path) -> str:
    try:
        return read_attribute(path)
    except OSError:  # the kernel has no such file, or the device has just gone
        return ""


def _ribbon() -> str:
    if (program := shutil.which("rpicam-hello")) is None or shutil.which("rpicam-vid") is None:
        return ""
    try:
        ran = subprocess.run(  # noqa: S603 - a fixed command
            [program, "--list-cameras"], capture_output=True, text=True, timeout=LISTING_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout + ran.stderr


def microphones(asound: Path = Path("/proc/asound")) -> list[Input]:
    """The microphones that ALSA knows.

    Args:
        asound: where the kernel lists sound devices.
    """
    listed = _attribute(asound / "pcm")
    found = []
    for card, device, name in _CAPTURE.findall(listed):
        source: Source = {"type": "microphone", "device": f"plughw:{int(card)},{int(device)}"}
        found.append(Input(f"{printable(name.strip())} (card {int(card)})", "sound", source))
    return found


def models(takes: Takes) -> list[KnownModel]:
    """The models for a kind of input: the proposed one first, then those that are here."""
    found = []
    for name, kind in _SHIPPED.items():
        manifest = read_manifest(shipped(name))
        size = sum((shipped(name) / file).stat().st_size for file in manifest.files.values())
        found.append(KnownModel(name, "Comes with edge-agent", manifest.task or "", manifest.licence, size, kind, True))
    for name, entry in registry.entries().items():
        kind = _takes(entry)
        here = registry.resolve(name) is not None
        found.append(KnownModel(name, entry.description, entry.task, entry.licence, entry.size, kind, here))
    for name, manifest in own_models().items():
        size = sum((registry.models_dir() / name / file).stat().st_size for file in manifest.plain.values())
        kind = _takes(manifest)
        licence = manifest.licence or "licence not stated"
        found.append(KnownModel(name, "Your own", manifest.task, licence, size, kind, True))
    fitting = [one for one in found if one.takes == takes]
    return sorted(fitting, key=lambda one: (one.name != PROPOSED[takes], not one.here))


def _takes(model: registry.Entry | Manifest) -> Takes:
    if model.input is None or model.input.kind == "image":
        return "pictures"
    return "sound" if model.input.kind == "audio" else "readings"
