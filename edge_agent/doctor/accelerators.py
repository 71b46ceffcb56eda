"""Checks of accelerators: connected devices, what the runtimes can use, and what the configuration requests."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_agent import settings
from edge_agent.config.loader import Config
from edge_agent.doctor.devices import access_problem
from edge_agent.doctor.machine import Finding, Machine, failure, ok, warning
from edge_agent.doctor.packages import EDGETPU_BUILDS, EDGETPU_PACKAGES, pip
from edge_agent.engines import plugins
from edge_agent.engines.accelerators import ACCELERATORS, COMPILED_FOR, CPU, Row, name_of
from edge_agent.system.text import parse_json

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


class Availability(NamedTuple):
    """Whether an accelerator is available.

    Attributes:
        problem: why it is not; "" if it is.
        detail: the provider or the version of its library.
    """

    problem: str
    detail: str = ""


class Hardware(NamedTuple):
    """A known device.

    Attributes:
        bus: `usb` or `pci`.
        ids: `vendor:device`, in hexadecimal; a vendor alone matches all its devices.
        node: pattern of its files in /dev; "" for a USB device, whose file is in /dev/bus/usb.
        driver: the command that installs its driver.
    """

    title: str
    bus: str
    ids: tuple[str, ...]
    node: str
    driver: str


HARDWARE = (
    # It has the first id until its firmware is loaded, then the second one.
    Hardware("Coral Edge TPU", "usb", ("1a6e:089a", "18d1:9302"), "", ""),
    Hardware("Coral Edge TPU", "pci", ("1ac1:089a",), "apex_*", GASKET),
)


EDGETPU_INSTALL = f"a build of {EDGETPU_PACKAGES[0]} from {EDGETPU_BUILDS}: sudo dpkg -i {EDGETPU_PACKAGES[0]}_*.deb"


def accelerators(machine: Machine) -> list[Finding]:
    """Available accelerators, requested ones that are not available, and connected devices."""
    providers = _providers(machine)
    available = {
        name: Availability("") if name == CPU else _availability(machine, row, providers)
        for name, row in ACCELERATORS.items()
        # Whether there is a GPU or an NPU shows only when a model is loaded there; chips have checks of their own.
        if row.tflite not in COMPILED_FOR and (row.tflite or row.onnx)
    }
    usable = [f"{name} ({one.detail})" if one.detail else name for name, one in available.items() if not one.problem]
    found = [ok(f"can be asked for: {', '.join(usable)}")]
    return [*found, *_requested(machine, available, providers), *_plugged_in(machine, available["edgetpu"].problem)]


def _providers(machine: Machine) -> list[str]:
    ran = machine.python(PROVIDERS)
    return list(parse_json(ran.out.splitlines()[-1])) if ran.code == 0 else []


def _availability(machine: Machine, row: Row, providers: list[str]) -> Availability:
    if row.onnx in providers:
        return Availability("", row.onnx)
    if not row.tflite:
        return Availability(f"this ONNX Runtime has no {row.onnx}")
    ran = machine.python(LIBRARY, row.tflite)
    return (
        Availability(ran.reason.removeprefix("OSError: "))
        if ran.code != 0
        else Availability("", ran.out.strip() or row.tflite)
    )


def _requested(
    machine: Machine, available: dict[settings.AcceleratorName, Availability], providers: list[str]
) -> Iterator[Finding]:
    """Accelerators that configured models request and that are not available."""
    if machine.config is None:
        return
    for name, model in machine.config.settings.models.items():
        for asked in model.accelerators:
            if isinstance(asked, str | settings.Chip):
                name_ = asked if isinstance(asked, str) else asked.chip
                row, state = ACCELERATORS[name_], available.get(name_, Availability(""))
            elif isinstance(asked, settings.Plugin):
                yield _plugin(asked)
                continue
            else:
                row = _own(asked, machine.config)
                state = _availability(machine, row, providers)
            if state.problem:
                found = warning if CPU in model.accelerators else failure
                yield found(f"model {name} asks for {name_of(asked)}: {state.problem}", _install(asked, row))


def _plugin(asked: settings.Plugin) -> Finding:
    """Whether an installed package brings an accelerator; it is not imported for that."""
    found = plugins.packages(asked.plugin)
    if found:
        return ok(f"plug-in {asked.plugin}: {', '.join(found)}")
    return failure(f"no installed package brings the accelerator {asked.plugin}", pip("install", "PACKAGE"))


def _own(asked: settings.Delegate | settings.Provider, loaded: Config) -> Row:
    """The table's row for a delegate or provider that the configuration names."""
    if isinstance(asked, settings.Provider):
        return Row(onnx=asked.provider)
    return Row(str(loaded.resolve(asked.delegate)) if "/" in asked.delegate else asked.delegate)


def _install(asked: settings.Accelerator, row: Row) -> str:
    """The command that installs it."""
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
            nodes = _nodes(machine, hardware, device)
            if not nodes:
                yield warning(f"{title}: it has no file in /dev: its driver is not loaded", hardware.driver)
            for node in nodes:
                if why := access_problem(machine, node):
                    # A udev rule, since the device gets a new file when its firmware is loaded.
                    yield warning(f"{title}: {why[0]}", USB_RULE if hardware.bus == "usb" else why[1])
            if edgetpu_problem:
                yield warning(f"{title}: its library does not load: {edgetpu_problem}", EDGETPU_INSTALL)
            speed = machine.attribute(device, "speed")
            if speed.isdecimal() and int(speed) <= SLOW_USB:
                yield warning(f"{title}: on a USB 2 port, which slows it down", "plug it into a USB 3 port")
            elif nodes and not edgetpu_problem and not any(access_problem(machine, node) for node in nodes):
                yield ok(title)


def _devices(machine: Machine, hardware: Hardware) -> list[Path]:
    """The folders of these devices in /sys."""
    names = ("idVendor", "idProduct") if hardware.bus == "usb" else ("vendor", "device")
    found = []
    for folder in sorted(machine.path(f"/sys/bus/{hardware.bus}/devices").glob("*")):
        vendor, device = (machine.attribute(folder, name).removeprefix("0x") for name in names)
        if f"{vendor}:{device}" in hardware.ids or vendor in hardware.ids:
            found.append(folder)
    return found


def _nodes(machine: Machine, hardware: Hardware, device: Path) -> list[Path]:
    """The files of a device in /dev."""
    if hardware.bus != "usb":
        return sorted(machine.path("/dev").glob(hardware.node))
    numbers = [machine.attribute(device, name) for name in ("busnum", "devnum")]
    node = machine.path("/dev/bus/usb/" + "/".join(number.zfill(3) for number in numbers))
    return [node] if node.exists() else []
