"""Accelerators: what is plugged in, what the runtimes can use, and what the configuration asks for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_agent.doctor.devices import closed
from edge_agent.doctor.machine import Finding, Machine, failure, ok, warning
from edge_agent.doctor.packages import EDGETPU_BUILDS, EDGETPU_PACKAGES
from edge_agent.engines.accelerators import ACCELERATORS, COMPILED_MODEL, name_of

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


class Accelerator(NamedTuple):
    """What a configuration can ask for: the shared library or the execution provider behind it, and what brings it."""

    name: str
    library: str
    provider: str
    install: str


class Hardware(NamedTuple):
    """A device that can be recognised.

    Attributes:
        bus: `usb` or `pci`.
        ids: `vendor:device`, in hexadecimal; a vendor alone stands for all its devices.
        node: pattern of its files in /dev; "" for a USB device, which has its file in /dev/bus/usb.
        driver: the command that brings its driver.
        accelerator: what a configuration calls it; "" if edge-agent can't use it.
    """

    title: str
    bus: str
    ids: tuple[str, ...]
    node: str
    driver: str
    accelerator: str


HARDWARE = (
    # Under the first id until its firmware is loaded, under the second one then.
    Hardware("Coral Edge TPU", "usb", ("1a6e:089a", "18d1:9302"), "", "", "edgetpu"),
    Hardware("Coral Edge TPU", "pci", ("1ac1:089a",), "apex_*", GASKET, "edgetpu"),
    Hardware("Hailo", "pci", ("1e60",), "hailo*", "sudo apt install hailo-all && sudo reboot", ""),
)


def known() -> list[Accelerator]:
    """All that a configuration can ask for."""
    install = f"a build of {EDGETPU_PACKAGES[0]} from {EDGETPU_BUILDS}: sudo dpkg -i {EDGETPU_PACKAGES[0]}_*.deb"
    own = {"cpu": "pip install ai-edge-litert onnxruntime", "edgetpu": install}
    return [
        Accelerator(name, row.tflite if ".so" in row.tflite else "", row.onnx, own.get(name) or row.install)
        for name, row in ACCELERATORS.items()
        if row.tflite != COMPILED_MODEL  # a GPU is known once a model is loaded there
    ]


def accelerators(machine: Machine) -> list[Finding]:
    """What can be used, what is asked for and can't be, and what is plugged in."""
    providers = _providers(machine)
    problems: dict[str, str] = {}
    usable = []
    for accelerator in known():
        if accelerator.library:
            ran = machine.python(LIBRARY, accelerator.library)
            problems[accelerator.name] = "" if ran.code == 0 else ran.reason.removeprefix("OSError: ")
            detail = ran.out.strip() or accelerator.library
        else:
            lacks = accelerator.provider and accelerator.name != "cpu" and accelerator.provider not in providers
            problems[accelerator.name] = f"this ONNX Runtime has no {accelerator.provider}" if lacks else ""
            detail = accelerator.provider
        if not problems[accelerator.name]:
            usable.append(accelerator.name if accelerator.name == "cpu" else f"{accelerator.name} ({detail})")
    return [ok(f"can be asked for: {', '.join(usable)}"), *_asked(machine, problems), *_plugged_in(machine, problems)]


def _providers(machine: Machine) -> list[str]:
    ran = machine.python(PROVIDERS)
    return list(json.loads(ran.out.splitlines()[-1])) if ran.code == 0 else []


def _asked(machine: Machine, problems: dict[str, str]) -> Iterator[Finding]:
    """What models of the configuration ask for in vain."""
    install = {accelerator.name: accelerator.install for accelerator in known()}
    for name, model in machine.config.settings.models.items() if machine.config else ():
        for asked in model.accelerators:
            if problem := problems.get(called := name_of(asked)):
                found = warning if "cpu" in model.accelerators else failure
                yield found(f"model {name} asks for {called}: {problem}", install[called])


def _plugged_in(machine: Machine, problems: dict[str, str]) -> Iterator[Finding]:
    install = {accelerator.name: accelerator.install for accelerator in known()}
    for hardware in HARDWARE:
        for device in _devices(machine, hardware):
            title = f"{hardware.title} at {hardware.bus.upper()} {device.name}"
            if not hardware.accelerator:
                yield ok(f"{title}: this version can't use it")
                continue
            nodes = _nodes(machine, hardware, device)
            if not nodes:
                yield warning(f"{title}: it has no file in /dev: its driver is not loaded", hardware.driver)
            for node in nodes:
                if why := closed(machine, node):
                    # A rule lasts, as other permissions do not: the device comes anew when its firmware is loaded.
                    yield warning(f"{title}: {why[0]}", USB_RULE if hardware.bus == "usb" else why[1])
            if problem := problems.get(hardware.accelerator):
                yield warning(f"{title}: its library does not load: {problem}", install[hardware.accelerator])
            speed = machine.attribute(device, "speed")
            if speed.isdecimal() and int(speed) <= SLOW_USB:
                yield warning(f"{title}: on a USB 2 port, which slows it down", "plug it into a USB 3 port")
            elif nodes and not problem and not any(closed(machine, node) for node in nodes):
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
