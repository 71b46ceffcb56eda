"""Accelerators: what is plugged in, what the runtimes can use, and what the configuration asks for."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_agent import settings
from edge_agent.config.loader import Config
from edge_agent.doctor.devices import closed
from edge_agent.doctor.machine import Finding, Machine, failure, ok, warning
from edge_agent.doctor.packages import EDGETPU_BUILDS, EDGETPU_PACKAGES, pip
from edge_agent.engines.accelerators import ACCELERATORS, COMPILED_FOR_GPU, CPU, Row, name_of

SLOW_USB = 480
USB_RULE = (
    """echo 'SUBSYSTEM=="usb", ATTRS{idVendor}=="1a6e|18d1", GROUP="plugdev", MODE="0660"' """
    "| sudo tee /etc/udev/rules.d/99-edgetpu.rules && sudo udevadm control --reload && sudo udevadm trigger"
)
PROVIDERS = "import json, onnxruntime; print(json.dumps(onnxruntime.get_available_providers()))"
LIBRARY = """\
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
if hasattr(library, "edgetpu_version"):
    library.edgetpu_version.restype = ctypes.c_char_p
    print(library.edgetpu_version().decode())
"""


GASKET = (
    "git clone https://github.com/google/gasket-driver && cd gasket-driver && debuild -us -uc -tc -b "
    "&& sudo dpkg -i ../gasket-dkms_*.deb  # needs devscripts, debhelper and dh-dkms"
)


class Look(NamedTuple):
    """Whether an accelerator can be had: what keeps it from that, or "" and what there is."""

    problem: str
    detail: str = ""


class Hardware(NamedTuple):
    """A device that can be recognised.

    Attributes:
        bus: `usb` or `pci`.
        ids: `vendor:device`, in hexadecimal; a vendor alone stands for all its devices.
        node: pattern of its files in /dev; "" for a USB device, which has its file in /dev/bus/usb.
        driver: the command that brings its driver.
        usable: whether edge-agent can use it: as `edgetpu`, so far.
    """

    title: str
    bus: str
    ids: tuple[str, ...]
    node: str
    driver: str
    usable: bool


HARDWARE = (
    # Under the first id until its firmware is loaded, under the second one then.
    Hardware("Coral Edge TPU", "usb", ("1a6e:089a", "18d1:9302"), "", "", usable=True),
    Hardware("Coral Edge TPU", "pci", ("1ac1:089a",), "apex_*", GASKET, usable=True),
    Hardware("Hailo", "pci", ("1e60",), "hailo*", "sudo apt install hailo-all && sudo reboot", usable=False),
)


EDGETPU_INSTALL = f"a build of {EDGETPU_PACKAGES[0]} from {EDGETPU_BUILDS}: sudo dpkg -i {EDGETPU_PACKAGES[0]}_*.deb"


def accelerators(machine: Machine) -> list[Finding]:
    """What can be used, what is asked for and can't be, and what is plugged in."""
    providers = _providers(machine)
    looks = {
        name: Look("") if name == CPU else _look(machine, row, providers)
        for name, row in ACCELERATORS.items()
        if row.tflite != COMPILED_FOR_GPU  # that there is a graphics processor shows when a model is loaded there
    }
    usable = [f"{name} ({look.detail})" if look.detail else name for name, look in looks.items() if not look.problem]
    found = [ok(f"can be asked for: {', '.join(usable)}")]
    return [*found, *_asked(machine, looks, providers), *_plugged_in(machine, looks["edgetpu"].problem)]


def _providers(machine: Machine) -> list[str]:
    ran = machine.python(PROVIDERS)
    return list(json.loads(ran.out.splitlines()[-1])) if ran.code == 0 else []


def _look(machine: Machine, row: Row, providers: list[str]) -> Look:
    if row.onnx in providers:
        return Look("", row.onnx)
    if not row.tflite:
        return Look(f"this ONNX Runtime has no {row.onnx}")
    ran = machine.python(LIBRARY, row.tflite)
    return Look(ran.reason.removeprefix("OSError: ")) if ran.code != 0 else Look("", ran.out.strip() or row.tflite)


def _asked(machine: Machine, looks: dict[settings.AcceleratorName, Look], providers: list[str]) -> Iterator[Finding]:
    """What models of the configuration ask for in vain."""
    if machine.config is None:
        return
    for name, model in machine.config.settings.models.items():
        for asked in model.accelerators:
            row = ACCELERATORS[asked] if isinstance(asked, str) else _own(asked, machine.config)
            look = looks.get(asked, Look("")) if isinstance(asked, str) else _look(machine, row, providers)
            if look.problem:
                found = warning if CPU in model.accelerators else failure
                yield found(f"model {name} asks for {name_of(asked)}: {look.problem}", _install(asked, row))


def _own(asked: settings.Delegate | settings.Provider, loaded: Config) -> Row:
    """What a configuration names by itself, as the table would have it."""
    if isinstance(asked, settings.Provider):
        return Row(onnx=asked.provider)
    return Row(str(loaded.resolve(asked.delegate)) if "/" in asked.delegate else asked.delegate)


def _install(asked: settings.Accelerator, row: Row) -> str:
    """The command that brings it."""
    if asked == "edgetpu":
        return EDGETPU_INSTALL
    if package := re.match(r"(onnxruntime-\w+), in place of (\w+)", row.install):
        return f"{pip('uninstall', '-y', package[2])} && {pip('install', package[1])}"
    if row.tflite:
        return f"ldd {shlex.quote(row.tflite)}  # names what it lacks"
    return row.install or f"install the build of ONNX Runtime that has {row.onnx}"


def _plugged_in(machine: Machine, edgetpu_problem: str) -> Iterator[Finding]:
    for hardware in HARDWARE:
        for device in _devices(machine, hardware):
            title = f"{hardware.title} at {hardware.bus.upper()} {device.name}"
            if not hardware.usable:
                yield ok(f"{title}: this version can't use it")
                continue
            nodes = _nodes(machine, hardware, device)
            if not nodes:
                yield warning(f"{title}: it has no file in /dev: its driver is not loaded", hardware.driver)
            for node in nodes:
                if why := closed(machine, node):
                    # A rule lasts, as other permissions do not: the device comes anew when its firmware is loaded.
                    yield warning(f"{title}: {why[0]}", USB_RULE if hardware.bus == "usb" else why[1])
            if edgetpu_problem:
                yield warning(f"{title}: its library does not load: {edgetpu_problem}", EDGETPU_INSTALL)
            speed = machine.attribute(device, "speed")
            if speed.isdecimal() and int(speed) <= SLOW_USB:
                yield warning(f"{title}: on a USB 2 port, which slows it down", "plug it into a USB 3 port")
            elif nodes and not edgetpu_problem and not any(closed(machine, node) for node in nodes):
                yield ok(title)


def _devices(machine: Machine, hardware: Hardware) -> list[Path]:
    """Their folders in /sys."""
    names = ("idVendor", "idProduct") if hardware.bus == "usb" else ("vendor", "device")
    found = []
    for folder in sorted(machine.path(f"/sys/bus/{hardware.bus}/devices").glob("*")):
        vendor, device = (machine.attribute(folder, name).removeprefix("0x") for name in names)
        if f"{vendor}:{device}" in hardware.ids or vendor in hardware.ids:
            found.append(folder)
    return found


def _nodes(machine: Machine, hardware: Hardware, device: Path) -> list[Path]:
    """Their files in /dev."""
    if hardware.bus != "usb":
        return sorted(machine.path("/dev").glob(hardware.node))
    numbers = [machine.attribute(device, name) for name in ("busnum", "devnum")]
    node = machine.path("/dev/bus/usb/" + "/".join(number.zfill(3) for number in numbers))
    return [node] if node.exists() else []
