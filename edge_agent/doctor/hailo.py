"""Hailo's chips: whether driver, firmware, library and Python binding are those of the chip, and of one version.

HailoRT 4 is for Hailo-8 and 8L, HailoRT 5 for the 10H; each refuses parts of another version, down to the last digit.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent import settings
from edge_agent.doctor import debian
from edge_agent.doctor.devices import access_problem
from edge_agent.doctor.machine import Finding, Machine, failure, ok, warning
from edge_agent.engines.chip_engine import SYSTEM_PYTHON

# `device` of PCI vendor 1e60.
_VENDOR, _HAILO_8, _HAILO_10H = "1e60", "2864", "45c4"
_LIBRARIES = ("/usr/lib", "/usr/lib/aarch64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib")
_BINDINGS = ("/usr/lib/python3/dist-packages", "/usr/local/lib/python3*/dist-packages")
_LIBRARY = re.compile(r"libhailort\.so\.(\d+\.\d+\.\d+)$")
_BINDING = re.compile(r"hailort-(\d+\.\d+\.\d+)")
_USB = re.compile(r"hailo|ugen300", re.IGNORECASE)
_RULE = (
    """echo 'SUBSYSTEM=="hailo_chardev", MODE="0666"' | sudo tee /etc/udev/rules.d/51-hailo-udev.rules """
    "&& sudo udevadm control --reload && sudo udevadm trigger"
)
# From this version on, the driver of the 10H calls its file in /dev otherwise.
_NEW_NODE = (5, 3)
_SERVICE = "sudo systemctl enable --now hailort.service"


@dataclass(frozen=True, slots=True)
class Family:
    """The chips that one line of HailoRT is for.

    Attributes:
        title: of the chips.
        meta: package that brings all of it.
        module: the kernel's.
        driver: package of the driver.
        library: package of the library.
        binding: package of the Python module.
        major: of its versions.
    """

    title: str
    meta: str
    module: str
    driver: str
    library: str
    binding: str
    major: int


H8 = Family("Hailo-8 or 8L", "hailo-all", "hailo_pci", "hailort-pcie-driver", "hailort", "python3-hailort", 4)
H10 = Family(
    *("Hailo-10H", "hailo-h10-all", "hailo1x_pci", "h10-hailort-pcie-driver", "h10-hailort", "python3-h10-hailort", 5)
)


@dataclass(frozen=True, slots=True)
class Installed:
    """What of HailoRT is on a machine; versions are "" where there is none.

    Attributes:
        packages: of Debian, with their versions.
        release: of Debian.
        loaded: the version of the kernel's module that is loaded; None if it is not.
        others: whether the module of the other family is loaded.
        libraries: versions of libhailort.so.
        bindings: versions of the Python module.
        firmware: on the chip, if it can be asked.
        chip: what the chip calls itself, such as `HAILO8L`.
        nodes: files in /dev.
    """

    packages: dict[str, str]
    release: str
    loaded: str | None
    others: bool
    libraries: list[str]
    bindings: list[str]
    firmware: str
    chip: str
    nodes: list[Path]


def hailo(machine: Machine) -> list[Finding]:
    """Connected Hailo chips, and what keeps them from being used."""
    found: list[Finding] = []
    devices = list(_devices(machine))
    for family, where in devices:
        installed = _installed(machine, family)
        problem = next(_problems(machine, family, where.startswith("USB"), installed), None)
        title = f"{installed.chip or family.title} at {where}"
        if problem is None:
            found.append(ok(f"{title}: HailoRT {installed.libraries[0]}"))
        else:
            found.append(failure(f"{title}: {problem[0]}", problem[1]))
    models = _models(machine)
    if models and not devices:
        found.append(_no_device(models[0]))
    if len(models) > 1 and any(family is H8 for family, _ in devices) and not machine.path(_SOCKET).exists():
        found.append(
            warning(f"models {' and '.join(models)} share a Hailo chip, which needs HailoRT's service", _SERVICE)
        )
    return found or [ok("none")]


_SOCKET = "/tmp/hailort_uds.sock"  # noqa: S108 - HailoRT's own choice


def _no_device(model: str) -> Finding:
    return failure(
        f"model {model} asks for hailo: there is no such chip on PCI or USB",
        "lspci -d 1e60:  # nothing: seat the cable and the HAT, and set dtparam=pciex1 in /boot/firmware/config.txt",
    )


def _models(machine: Machine) -> list[str]:
    """The configured models that ask for a Hailo chip."""
    models = machine.config.settings.models.items() if machine.config else ()
    return [name for name, model in models if any(map(_is_hailo, model.accelerators))]


def _is_hailo(asked: settings.Accelerator) -> bool:
    return asked == "hailo" or (isinstance(asked, settings.Chip) and asked.chip == "hailo")


def _devices(machine: Machine) -> Iterator[tuple[Family, str]]:
    """Each chip: which line of HailoRT it needs, and where it is."""
    for folder in sorted(machine.path("/sys/bus/pci/devices").glob("*")):
        vendor, device = (machine.attribute(folder, name).removeprefix("0x") for name in ("vendor", "device"))
        if vendor == _VENDOR:
            yield (H10 if device == _HAILO_10H else H8), f"PCI {folder.name}"
    for folder in sorted(machine.path("/sys/bus/usb/devices").glob("*")):
        if any(_USB.search(machine.attribute(folder, name)) for name in ("manufacturer", "product")):
            yield H10, f"USB {folder.name}"  # there are no sticks with the others


def _installed(machine: Machine, family: Family) -> Installed:
    modules = {one.module: machine.path(f"/sys/module/{one.module}") for one in (H8, H10)}
    other = (H8 if family is H10 else H10).module
    loaded = machine.attribute(modules[family.module], "version") if modules[family.module].is_dir() else None
    firmware, chip = _identity(machine)
    return Installed(
        packages=debian.packages(machine),
        release=debian.codename(machine),
        loaded=loaded,
        others=modules[other].is_dir(),
        libraries=_versions(machine, _LIBRARIES, "libhailort.so.*", _LIBRARY),
        bindings=_versions(machine, _BINDINGS, "hailort-*", _BINDING),
        firmware=firmware,
        chip=chip,
        nodes=[node for name in ("hailo[0-9]*", "h1x-*") for node in sorted(machine.path("/dev").glob(name))],
    )


def _versions(machine: Machine, folders: tuple[str, ...], name: str, pattern: re.Pattern[str]) -> list[str]:
    """The versions in the names of files, the newest first."""
    files = [file for folder in folders for file in machine.root.glob(f"{folder.lstrip('/')}/{name}")]
    found = {match[1] for file in files if (match := pattern.search(file.name))}
    return sorted(found, key=_numbers, reverse=True)


def _identity(machine: Machine) -> tuple[str, str]:
    """Version of the firmware and name of the chip, as HailoRT's program prints them; "" if it can't."""
    program = shutil.which("hailortcli", path=machine.environ.get("PATH", ""))
    if program is None:
        return "", ""
    text = machine.run(program, "fw-control", "identify").out
    firmware = re.search(r"Firmware Version: (\d+\.\d+\.\d+)", text)
    chip = re.search(r"Device Architecture: (\w+)", text)
    return firmware[1] if firmware else "", chip[1] if chip else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _exact(version: str) -> str:
    """`4.23.0` of Debian's `4.23.0+1-1`."""
    return ".".join(map(str, _numbers(version)))


def _problems(machine: Machine, family: Family, on_usb: bool, here: Installed) -> Iterator[tuple[str, str]]:
    """What is wrong, what has to be fixed first coming first: a sentence, and the command."""
    other = H8 if family is H10 else H10
    install = f"sudo apt install {family.meta} && sudo reboot"
    if family is H10 and here.release == "bookworm":
        yield (
            "Raspberry Pi OS has its packages from Trixie on, and this is Bookworm",
            f"install Raspberry Pi OS Trixie, then: {install}",
        )
    if other.meta in here.packages or (other.library in here.packages and family.library not in here.packages):
        yield f"{other.meta} is installed, which is for {other.title} and never finds this chip", install
    if family.library in here.packages and other.binding in here.packages:
        yield (
            f"{other.binding} is for {other.title}, and {family.library} is the library of this chip",
            f"sudo apt install {family.binding}",
        )
    if not here.libraries:
        yield "HailoRT is not installed", install
        return
    library = here.libraries[0]
    if _numbers(library)[0] != family.major:
        yield f"libhailort {library} is for {other.title}: this chip needs HailoRT {family.major}", install
    if len(here.libraries) > 1:
        old = here.libraries[-1]
        yield (
            f"there are several versions of libhailort: {', '.join(here.libraries)}",
            f"dpkg -S 'libhailort.so.{old}' || sudo rm /usr/lib/libhailort.so.{old} /usr/local/lib/libhailort.so.{old}",
        )
    if not on_usb:
        yield from _driver(family, here, library)
    yield from _firmware(family, here, library)
    yield from _binding(machine, family, here, library)
    yield from _nodes(machine, family, here, library)


def _driver(family: Family, here: Installed, library: str) -> Iterator[tuple[str, str]]:
    package = _exact(here.packages.get(family.driver, here.packages.get("hailo-dkms", "")))
    if here.others:
        module = (H8 if family is H10 else H10).module
        yield (
            f"the module {module} is loaded, which is for other chips",
            f"echo 'blacklist {module}' | sudo tee /etc/modprobe.d/blacklist-{module}.conf && sudo reboot",
        )
    if here.loaded is None:
        if not package:
            yield f"its driver {family.driver} is not installed", f"sudo apt install {family.driver} && sudo reboot"
        yield f"its driver {family.module} is not loaded", f"sudo modprobe {family.module} || sudo reboot"
    elif here.loaded and _exact(here.loaded) != library:
        text = f"the driver that is loaded is {_exact(here.loaded)}, and the library is {library}"
        if package == library:
            yield f"{text}: the new driver waits for a restart", "sudo reboot"
        else:
            name = "hailo-dkms" if "hailo-dkms" in here.packages else family.driver
            keep = f"{name}={library}*" if package else family.driver
            yield text, f"sudo apt install {family.library} '{keep}' && sudo reboot"


def _firmware(family: Family, here: Installed, library: str) -> Iterator[tuple[str, str]]:
    package = _exact(here.packages.get("hailofw", "")) if family is H8 else ""
    if package and package != library:
        yield (
            f"the package hailofw is {package}, and the library is {library}",
            "sudo apt install hailofw && sudo reboot",
        )
    if here.firmware and here.firmware != library:
        text = f"the firmware on the chip is {here.firmware}, and the library is {library}"
        # The chip keeps what it has been given until its power or its PCI link is reset.
        yield f"{text}: it gets the new one after a restart", "sudo reboot"


def _binding(machine: Machine, family: Family, here: Installed, library: str) -> Iterator[tuple[str, str]]:
    if not here.bindings:
        yield f"{SYSTEM_PYTHON} has no module hailo_platform", f"sudo apt install {family.binding}"
        return
    if len(here.bindings) > 1:
        yield (
            f"there are several versions of the Python module: {', '.join(here.bindings)}",
            f"sudo {SYSTEM_PYTHON} -m pip uninstall hailort; sudo apt install --reinstall {family.binding}",
        )
    if here.bindings[0] != library:
        yield (
            f"the Python module is for libhailort.so.{here.bindings[0]}, and the library is {library}",
            f"sudo apt install {family.library} {family.binding}",
        )
    if not any(list(machine.root.glob(f"{folder.lstrip('/')}/numpy")) for folder in _BINDINGS):
        yield f"{SYSTEM_PYTHON} has no numpy, which the Python module needs", "sudo apt install python3-numpy"


def _nodes(machine: Machine, family: Family, here: Installed, library: str) -> Iterator[tuple[str, str]]:
    """The file in /dev: hailo0, and from HailoRT 5.3 on h1x-0 for the 10H."""
    expected = "h1x-" if family is H10 and _numbers(library)[:2] >= _NEW_NODE else "hailo"
    fitting = [node for node in here.nodes if node.name.startswith(expected)]
    if not fitting and here.nodes:
        text = f"HailoRT {library} looks for /dev/{expected}0, and there is {machine.seen(here.nodes[0])}"
        yield (
            f"{text}: one of driver and library is from before HailoRT 5.3, or a container was given the old file",
            f"sudo apt install {family.library} {family.driver} && sudo reboot  # container: --device /dev/{expected}0",
        )
    elif not fitting:
        yield f"it has no file /dev/{expected}0", "sudo dmesg | grep -i hailo  # names why the driver refuses the chip"
    for node in fitting:
        if access_problem(machine, node):
            yield f"{machine.user} may not use {machine.seen(node)}", _RULE
