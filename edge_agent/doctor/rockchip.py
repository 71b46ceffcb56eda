"""Rockchip's NPUs: whether driver, library and Python package are there, and fit together."""

import platform
import re
import sys
from collections.abc import Iterator

from edge_agent import settings
from edge_agent.doctor.machine import Finding, Machine, failure, ok, warning
from edge_agent.doctor.packages import installed, pip
from edge_agent.system import chips
from edge_agent.system.text import decode_lenient

PACKAGE = "rknn-toolkit-lite2"
LIBRARY = "/usr/lib/librknnrt.so"
GET_LIBRARY = (
    "sudo curl -fLo /usr/lib/librknnrt.so https://github.com/airockchip/rknn-toolkit2/raw/master/rknpu2/runtime/Linux/"
    "librknn_api/aarch64/librknnrt.so"
)
# The package has wheels up to this Python.
_LAST_PYTHON = (3, 12)
OWN_PYTHON = (
    "python3.12 -m venv /opt/rknn && /opt/rknn/bin/pip install rknn-toolkit-lite2  "
    "# then: {chip: rknn, options: {python: /opt/rknn/bin/python3}}"
)
# The runtime recommends at least this driver; from the second on, several cores are used without errors.
_LEAST_DRIVER, _GOOD_DRIVER = (0, 8, 8), (0, 9, 6)
_DRIVER_FILES = ("/sys/module/rknpu/version", "/sys/kernel/debug/rknpu/version", "/proc/rknpu/version")
_MAX_LIBRARY = 32_000_000


def rockchip(machine: Machine, python: tuple[int, ...] = sys.version_info[:2]) -> list[Finding]:
    """The NPU of a Rockchip board, if this is one.

    Args:
        machine: the machine.
        python: version of the Python that runs the agent.
    """
    chip = next(iter(chips.rockchip(machine.root)), "")
    asked = _asked(machine)
    if not chip:
        if asked:
            fix = "tr '\\0' '\\n' < /proc/device-tree/compatible  # names the chip of this board"
            return [failure(f"model {asked[0][0]} asks for rknn: this machine has no Rockchip NPU", fix)]
        return [ok("none")]
    found = [
        warning(f"{chip}: {text}", fix) if not asked else failure(f"{chip}: {text}", fix)
        for text, fix in _problems(machine, [options for _, options in asked], python)
    ]
    return found[:1] or [ok(f"{chip}: librknnrt {_library(machine)}")]


def _asked(machine: Machine) -> list[tuple[str, dict[str, str]]]:
    """The models that ask for the NPU, with its options."""
    models = machine.config.settings.models.items() if machine.config else ()
    found = []
    for name, model in models:
        for one in model.accelerators:
            if isinstance(one, settings.Chip) and one.chip == "rknn":
                found.append((name, dict(one.options)))
            elif one == "rknn":
                found.append((name, {}))
    return found


def _problems(machine: Machine, asked: list[dict[str, str]], python: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """What is wrong, what has to be fixed first coming first: a sentence, and the command."""
    driver = next((version for file in _DRIVER_FILES if (version := machine.read(file))), "")
    numbers = tuple(int(number) for number in re.findall(r"\d+", driver)[:3])
    if not numbers and not machine.path("/sys/module/rknpu").is_dir():
        yield (
            "the kernel has no NPU driver (rknpu)",
            "uname -r  # install the board maker's kernel: Debian's own has no rknpu",
        )
    elif numbers and numbers < _LEAST_DRIVER:
        yield f"the NPU driver is {driver}, and the library needs 0.8.8", "sudo apt full-upgrade && sudo reboot"
    elif numbers and numbers < _GOOD_DRIVER and any("_" in one.get("cores", "") for one in asked):
        yield (
            f"the NPU driver is {driver}, which fails to submit work for several cores: it needs 0.9.6",
            "sudo apt full-upgrade && sudo reboot  # or state cores: auto",
        )
    library = machine.path(LIBRARY)
    if not library.exists():
        yield f"there is no {LIBRARY}", GET_LIBRARY
        return
    if not machine.read(LIBRARY, 4).startswith("\x7fELF"):
        yield f"{LIBRARY} is no library: a page was saved in its place", GET_LIBRARY
        return
    stated = next((one["python"] for one in asked if "python" in one), "")
    package = installed(machine, PACKAGE)
    if not package and not stated:
        if platform.machine() not in ("aarch64", "arm64"):
            yield f"{PACKAGE} exists for 64-bit ARM only", "install a 64-bit system"
        elif python > _LAST_PYTHON:
            yield f"{PACKAGE} exists for Python up to 3.12, and this is {python[0]}.{python[1]}", OWN_PYTHON
        else:
            yield f"{PACKAGE} is not installed", pip("install", PACKAGE)
    version = _library(machine)
    if package and version and _numbers(version) < _numbers(package):
        yield f"librknnrt.so is {version}, and {PACKAGE} is {package}: it refuses files of newer toolkits", GET_LIBRARY


def _library(machine: Machine) -> str:
    """The version that the library carries as text; "" if there is none."""
    try:
        with machine.path(LIBRARY).open("rb") as file:
            content = file.read(_MAX_LIBRARY)
    except OSError:
        return ""
    found = re.search(rb"librknnrt version: (\d+\.\d+\.\d+)", content)
    return decode_lenient(found[1]) if found else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
