"""Checks of cameras, serial ports, sensors and microphones: which are there, and whether this user may open them.

No device is opened: /sys and /dev are enough, and a camera in use is not disturbed.
"""

import re
import shlex
import shutil
from pathlib import Path
from typing import TypeVar

from edge_agent.doctor.machine import Finding, Machine, failure, ok, warning
from edge_agent.errors import SourceError
from edge_agent.settings import AiCameraSource, CameraSource
from edge_agent.settings.streams import CommandSource, IioSource, MicrophoneSource, SerialSource
from edge_agent.sources.v4l2 import find_device, nodes

# Video nodes that are not cameras: codecs and image processors of the Raspberry Pi and others.
NO_CAMERA = re.compile(r"codec|isp|hevc|rpivid|pispbe|stateless|vpu|-dec\b|-enc\b", re.IGNORECASE)
# Raw nodes of a camera on the Raspberry Pi's ribbon cable, usable by libcamera only.
RIBBON = re.compile(r"unicam|rp1-cfe", re.IGNORECASE)
CAMERA_TOOLS = ("rpicam-vid", "libcamera-vid")
LIST_TOOLS = ("rpicam-hello", "libcamera-hello")
SERIAL_PORTS = ("ttyUSB*", "ttyACM*", "ttyAMA*", "serial[0-9]*")
CAMERA = re.compile(r"^\d+ : (\S+)", re.MULTILINE)
SYSFS = "/sys/class/video4linux"
SENSORS = "/sys/bus/iio/devices"
LIST_CAMERAS = "v4l2-ctl --list-devices"
# Programs that are commonly run as sources -> the package that has them.
PACKAGES = {
    "rpicam-vid": "rpicam-apps-lite",
    "rpicam-still": "rpicam-apps-lite",
    "ffmpeg": "ffmpeg",
    "arecord": "alsa-utils",
    "gst-launch-1.0": "gstreamer1.0-tools",
}

S = TypeVar("S")


def access_problem(machine: Machine, node: Path) -> tuple[str, str] | None:
    """Why this user may not open a device, and the command that fixes it; None if it may."""
    if machine.may_use(node):
        return None
    group = machine.group_name(node.stat().st_gid)
    why = f"{machine.user} may not open {machine.seen(node)} (group {group})"
    if machine.is_member(group):
        return f"{why}: is in the group, but logged in before that", "log out and in again"
    if group in ("root", "0"):
        return why, f"sudo chmod a+rw {machine.seen(node)}"
    return why, f"sudo usermod -aG {group} {machine.user}  # then log out and in again"


def user(machine: Machine) -> list[Finding]:
    """The user and its groups, which decide what may be opened."""
    if machine.user == "root":
        return [ok("root, who may open everything; as the service sees it: sudo -u edge-agent edge-agent doctor")]
    return [ok(f"{machine.user}, groups {', '.join(sorted(map(machine.group_name, machine.groups)))}")]


def cameras(machine: Machine) -> list[Finding]:
    """V4L2 cameras, cameras on a ribbon cable, and configured cameras."""
    found, ribbon = [], False
    for node, name in _camera_nodes(machine):
        if RIBBON.search(name):
            ribbon = True
        elif not node.exists():
            found.append(warning(f"{name}: {machine.seen(node)} is missing", "sudo udevadm trigger"))
        elif why := access_problem(machine, node):
            found.append(warning(f"{name}: {why[0]}", why[1]))
        else:
            found.append(ok(f"{machine.seen(node)}: {name}"))
    found += _ribbon_cameras(machine, plugged_in=ribbon) + _wanted_cameras(machine)
    return found or [ok("none")]


def _camera_nodes(machine: Machine) -> list[tuple[Path, str]]:
    """File in /dev and name of the nodes that deliver pictures."""
    found = []
    for entry in nodes(machine.path(SYSFS)):
        name = machine.attribute(entry, "name")
        first = machine.attribute(entry, "index") in ("", "0")  # further nodes of a USB camera give metadata
        if not NO_CAMERA.search(name) and (first or RIBBON.search(name)):
            found.append((machine.path(f"/dev/{entry.name}"), name))
    return found


def _ribbon_cameras(machine: Machine, *, plugged_in: bool) -> list[Finding]:
    """The cameras that libcamera lists; its tools read cameras on a ribbon cable."""
    tool = _program(machine, *CAMERA_TOOLS)
    lister = _program(machine, *LIST_TOOLS)
    if not tool:
        text = "a camera on the ribbon cable, and no libcamera tools to reach it"
        return [warning(text, "sudo apt install rpicam-apps-lite")] if plugged_in else []
    if not lister:
        return [ok(f"{tool} is there")]
    ran = machine.run(lister, "--list-cameras")
    listed = CAMERA.findall(ran.out + ran.err)
    if listed:
        return [ok(f"libcamera: {', '.join(listed)}: use `command` with {Path(tool).name}")]
    if ran.code != 0:
        return [warning(f"{lister} --list-cameras: {ran.reason}", "sudo apt install --reinstall rpicam-apps-lite")]
    if plugged_in:
        text = "the ribbon cable's port is on, and libcamera sees no camera"
        return [warning(text, "sudo poweroff  # then seat the cable again, contacts as the port wants them")]
    return [ok(f"{Path(tool).name} is there; libcamera sees no camera")]


def _wanted_cameras(machine: Machine) -> list[Finding]:
    found = []
    for name, source in _sources(machine, CameraSource):
        try:
            device = find_device(source.device, machine.path(SYSFS))
        except SourceError as error:
            found.append(failure(f"pipeline {name}: {error}", LIST_CAMERAS))
        else:
            found += _wanted(machine, name, device, LIST_CAMERAS)
    return found


def _sources(machine: Machine, kind: type[S]) -> list[tuple[str, S]]:
    """The sources of a kind in the configuration, with the names of their pipelines."""
    pipelines = machine.config.settings.pipelines.items() if machine.config else ()
    return [(name, pipeline.source) for name, pipeline in pipelines if isinstance(pipeline.source, kind)]


def _wanted(machine: Machine, pipeline: str, device: str, lister: str) -> list[Finding]:
    """Why a pipeline can't open its device, if so."""
    node = machine.path(device)
    if not node.exists():
        return [failure(f"pipeline {pipeline}: there is no {device}", lister)]
    why = access_problem(machine, node)
    return [failure(f"pipeline {pipeline}: {why[0]}", why[1])] if why else []


def serial_ports(machine: Machine) -> list[Finding]:
    """Serial ports, and those that are configured."""
    ports = sorted(port for pattern in SERIAL_PORTS for port in machine.path("/dev").glob(pattern))
    found = _usable(machine, ports)
    for name, source in _sources(machine, SerialSource):
        found += _wanted(machine, name, source.port, "ls -l /dev/serial/by-id /dev/tty[AU]*")
    return found or [ok("none")]


def sensors(machine: Machine) -> list[Finding]:
    """Sensors of Linux's Industrial I/O."""
    folders = sorted(machine.path(SENSORS).glob("iio:device*"))
    found = [ok(f"{folder.name}: {machine.attribute(folder, 'name') or 'without a name'}") for folder in folders]
    for name, source in _sources(machine, IioSource):
        from edge_agent.sources.iio_device import find

        try:
            folder = find(source.device, machine.path(SENSORS))
        except SourceError as error:
            found.append(failure(f"pipeline {name}: {error}", f"grep . {SENSORS}/*/name"))
        else:
            if source.buffered:
                found += _wanted(machine, name, f"/dev/{folder.name}", "sudo modprobe industrialio-buffer-cb")
    return found or [ok("none")]


def microphones(machine: Machine) -> list[Finding]:
    """Sound devices that record."""
    return _usable(machine, sorted(machine.path("/dev/snd").glob("pcm*c"))) or [ok("none")]


def programs(machine: Machine) -> list[Finding]:
    """The programs that the sources of the configuration run."""
    found = []
    folder = machine.file.parent if machine.file else Path.cwd()
    wanted = [(name, source.argv[0]) for name, source in _sources(machine, CommandSource)]
    wanted += [(name, source.program) for name, source in _sources(machine, AiCameraSource)]
    wanted += [(name, "arecord") for name, _ in _sources(machine, MicrophoneSource)]
    for name, program in wanted:
        path = _program(machine, str(folder / program) if "/" in program else program)
        if path:
            found.append(ok(f"pipeline {name}: {path}"))
        else:
            package = PACKAGES.get(Path(program).name)
            fix = f"sudo apt install {package}" if package else f"command -v {shlex.quote(program)}"
            found.append(failure(f"pipeline {name}: there is no program {program}", fix))
    return found or [ok("none wanted")]


def _usable(machine: Machine, files: list[Path]) -> list[Finding]:
    found = []
    for node in files:
        why = access_problem(machine, node)
        found.append(warning(*why) if why else ok(machine.seen(node)))
    return found


def _program(machine: Machine, *names: str) -> str:
    """The path of the first program that is installed; "" if none is."""
    paths = (shutil.which(name, path=machine.environ.get("PATH", "")) for name in names)
    return next((path for path in paths if path), "")
