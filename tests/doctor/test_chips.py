"""Machines with a chip, of which one part does not fit the others, and the one command that fixes each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_agent.doctor.ai_camera import ai_camera
from edge_agent.doctor.hailo import hailo
from edge_agent.doctor.rockchip import GET_LIBRARY, OWN_PYTHON, rockchip
from tests.doctor.made_up import configured, machine, only

PCI = "/sys/bus/pci/devices/0001:01:00.0"
DIST = "/usr/lib/python3/dist-packages"
NUMPY = f"{DIST}/numpy/__init__.py"


def dpkg(**packages: str) -> str:
    return "\n".join(
        f"Package: {name.replace('_', '-')}\nStatus: install ok installed\nVersion: {version}\n"
        for name, version in packages.items()
    )


def release(name: str) -> str:
    return f'PRETTY_NAME="Debian GNU/Linux"\nVERSION_CODENAME={name}\n'


# A machine with an 8L, and one with a 10H, on which everything fits.
OF_8L = {
    f"{PCI}/vendor": "0x1e60\n",
    f"{PCI}/device": "0x2864\n",
    "/etc/os-release": release("trixie"),
    "/var/lib/dpkg/status": dpkg(
        hailo_all="4.23.0",
        hailort="4.23.0",
        hailofw="4.23.0-1",
        hailort_pcie_driver="4.23.0+1-1",
        python3_hailort="4.23.0-1",
    ),
    "/sys/module/hailo_pci/version": "4.23.0\n",
    "/usr/lib/libhailort.so.4.23.0": "",
    f"{DIST}/hailort-4.23.0.dist-info/METADATA": "",
    NUMPY: "",
    "/dev/hailo0": "",
}
OF_10H = {
    f"{PCI}/vendor": "0x1e60\n",
    f"{PCI}/device": "0x45c4\n",
    "/etc/os-release": release("trixie"),
    "/var/lib/dpkg/status": dpkg(
        hailo_h10_all="5.1.1", h10_hailort="5.1.1", h10_hailort_pcie_driver="5.1.1", python3_h10_hailort="5.1.1-1"
    ),
    "/sys/module/hailo1x_pci/version": "5.1.1\n",
    "/usr/lib/libhailort.so.5.1.1": "",
    f"{DIST}/hailort-5.1.1.dist-info/METADATA": "",
    NUMPY: "",
    "/dev/hailo0": "",
}
ALL_8 = dpkg(hailo_all="4.23.0", hailort="4.23.0", hailort_pcie_driver="4.23.0", python3_hailort="4.23.0")
ONLY_10H = {key: OF_10H[key] for key in (f"{PCI}/vendor", f"{PCI}/device", "/etc/os-release")}
ONLY_8L = {key: OF_8L[key] for key in (f"{PCI}/vendor", f"{PCI}/device", "/etc/os-release")}


@dataclass(frozen=True)
class Skew:
    """What differs from a machine on which everything fits, and what has to be said of it.

    Attributes:
        base: that machine.
        says: parts of the sentence.
        fix: the beginning of the command.
        files: further files, or other ones.
        without: files that are not there.
        program: what `hailortcli fw-control identify` prints.
    """

    base: Mapping[str, str]
    says: tuple[str, ...]
    fix: str
    files: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    program: str = ""


IDENTITY = "Firmware Version: {} (release,app,extended context switch buffer)\nDevice Architecture: HAILO8L\n"
SKEWS = {
    "the other family's packages on a 10H": Skew(
        {**ONLY_10H, "/var/lib/dpkg/status": ALL_8}, ("hailo-all", "never finds"), "sudo apt install hailo-h10-all"
    ),
    "the other family's packages on an 8L": Skew(
        {**ONLY_8L, "/var/lib/dpkg/status": OF_10H["/var/lib/dpkg/status"]},
        ("hailo-h10-all", "never finds"),
        "sudo apt install hailo-all",
    ),
    "a 10H on Bookworm": Skew(
        {**ONLY_10H, "/etc/os-release": release("bookworm")}, ("Bookworm",), "install Raspberry Pi OS Trixie"
    ),
    "a 10H without anything": Skew(ONLY_10H, ("not installed",), "sudo apt install hailo-h10-all && sudo reboot"),
    "an 8L without anything": Skew(ONLY_8L, ("not installed",), "sudo apt install hailo-all && sudo reboot"),
    "a stick with a 10H without anything": Skew(
        {"/sys/bus/usb/devices/2-1/product": "UGen300\n", "/etc/os-release": release("trixie")},
        ("Hailo-10H at USB 2-1", "not installed"),
        "sudo apt install hailo-h10-all",
    ),
    "a stick with a 10H and HailoRT 4": Skew(
        {"/sys/bus/usb/devices/2-1/manufacturer": "Hailo\n", "/usr/lib/libhailort.so.4.23.0": ""},
        ("4.23.0", "needs HailoRT 5"),
        "sudo apt install hailo-h10-all",
    ),
    "HailoRT 5 from a download on an 8L": Skew(
        {**ONLY_8L, "/usr/local/lib/libhailort.so.5.2.0": ""},
        ("5.2.0", "needs HailoRT 4"),
        "sudo apt install hailo-all",
    ),
    "the binding of the 8 with the library of the 10H": Skew(
        OF_10H,
        ("python3-hailort is for Hailo-8 or 8L",),
        "sudo apt install python3-h10-hailort",
        {"/var/lib/dpkg/status": dpkg(h10_hailort="5.1.1", h10_hailort_pcie_driver="5.1.1", python3_hailort="4.20.0")},
    ),
    "an older driver that is loaded": Skew(
        OF_8L,
        ("loaded is 4.20.0", "library is 4.23.0"),
        "sudo apt install hailort 'hailort-pcie-driver=4.23.0*'",
        {
            "/sys/module/hailo_pci/version": "4.20.0\n",
            "/var/lib/dpkg/status": dpkg(hailo_all="4.23.0", hailort="4.23.0", hailort_pcie_driver="4.20.0"),
        },
    ),
    "a new driver that waits for a restart": Skew(
        OF_8L, ("4.20.0", "waits for a restart"), "sudo reboot", {"/sys/module/hailo_pci/version": "4.20.0\n"}
    ),
    "the driver as a package for DKMS": Skew(
        OF_8L,
        ("loaded is 4.19.0",),
        "sudo apt install hailort 'hailo-dkms=4.23.0*'",
        {
            "/sys/module/hailo_pci/version": "4.19.0\n",
            "/var/lib/dpkg/status": dpkg(hailo_all="4.23.0", hailort="4.23.0", hailo_dkms="4.19.0-1"),
        },
    ),
    "no driver": Skew(
        OF_8L,
        ("hailort-pcie-driver is not installed",),
        "sudo apt install hailort-pcie-driver",
        {"/var/lib/dpkg/status": dpkg(hailort="4.23.0")},
        without=("/sys/module/hailo_pci/version",),
    ),
    "a driver that is not loaded": Skew(
        OF_8L, ("hailo_pci is not loaded",), "sudo modprobe hailo_pci", without=("/sys/module/hailo_pci/version",)
    ),
    "the driver of the other family": Skew(
        OF_10H,
        ("hailo_pci is loaded",),
        "echo 'blacklist hailo_pci' | sudo tee",
        {"/sys/module/hailo_pci/version": "4.23.0\n"},
    ),
    "older firmware on the chip": Skew(
        OF_8L, ("firmware on the chip is 4.20.0",), "sudo reboot", program=IDENTITY.format("4.20.0")
    ),
    "firmware of a 10H after a live upgrade": Skew(
        OF_10H, ("firmware on the chip is 5.0.1", "after a restart"), "sudo reboot", program=IDENTITY.format("5.0.1")
    ),
    "an older package of firmware": Skew(
        OF_8L,
        ("hailofw is 4.20.0",),
        "sudo apt install hailofw",
        {
            "/var/lib/dpkg/status": dpkg(
                hailo_all="4.23.0", hailort="4.23.0", hailofw="4.20.0-2", hailort_pcie_driver="4.23.0"
            )
        },
    ),
    "two libraries": Skew(
        OF_8L,
        ("several versions of libhailort: 4.23.0, 4.21.0",),
        "dpkg -S 'libhailort.so.4.21.0'",
        {"/usr/local/lib/libhailort.so.4.21.0": ""},
    ),
    "no binding": Skew(
        OF_8L,
        ("no module hailo_platform",),
        "sudo apt install python3-hailort",
        without=(f"{DIST}/hailort-4.23.0.dist-info/METADATA",),
    ),
    "an older binding": Skew(
        OF_8L,
        ("libhailort.so.4.20.0", "library is 4.23.0"),
        "sudo apt install hailort python3-hailort",
        {f"{DIST}/hailort-4.20.0.dist-info/METADATA": ""},
        without=(f"{DIST}/hailort-4.23.0.dist-info/METADATA",),
    ),
    "two bindings": Skew(
        OF_8L,
        ("several versions of the Python module",),
        "sudo /usr/bin/python3 -m pip uninstall hailort",
        {"/usr/local/lib/python3.13/dist-packages/hailort-4.22.0.dist-info/METADATA": ""},
    ),
    "no numpy": Skew(OF_8L, ("no numpy",), "sudo apt install python3-numpy", without=(NUMPY,)),
    "the old file in /dev from 5.3 on": Skew(
        OF_10H,
        ("looks for /dev/h1x-0", "/dev/hailo0"),
        "sudo apt install h10-hailort h10-hailort-pcie-driver",
        {
            "/usr/lib/libhailort.so.5.3.0": "",
            "/sys/module/hailo1x_pci/version": "5.3.0\n",
            f"{DIST}/hailort-5.3.0.dist-info/METADATA": "",
        },
        without=("/usr/lib/libhailort.so.5.1.1", f"{DIST}/hailort-5.1.1.dist-info/METADATA"),
    ),
    "the new file in /dev before 5.3": Skew(
        OF_10H,
        ("looks for /dev/hailo0", "/dev/h1x-0"),
        "sudo apt install",
        {"/dev/h1x-0": ""},
        without=("/dev/hailo0",),
    ),
    "no file in /dev": Skew(OF_8L, ("no file /dev/hailo0",), "sudo dmesg", without=("/dev/hailo0",)),
}


def made(folder: Path, skew: Skew, **more: Any) -> Any:
    files = {name: text for name, text in {**skew.base, **skew.files}.items() if name not in skew.without}
    environ = {"PATH": str(folder / "bin")}
    if skew.program:
        program = folder / "bin" / "hailortcli"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\nprintf '{skew.program}'\n".replace("\n'", "\\n'"))
        program.chmod(0o755)
        environ["PATH"] += ":/bin:/usr/bin"
    return machine(folder / "root", files, environ=environ, **more)


@pytest.mark.parametrize("name", SKEWS)
def test_each_skew_is_named_with_the_one_command_that_fixes_it(name: str, tmp_path: Path) -> None:
    skew = SKEWS[name]
    found = only(hailo(made(tmp_path, skew)))
    assert found.state == "failure"
    assert [part for part in skew.says if part not in found.text] == []
    assert found.fix.startswith(skew.fix)


@pytest.mark.parametrize(("base", "title"), [(OF_8L, "Hailo-8 or 8L"), (OF_10H, "Hailo-10H")])
def test_parts_of_one_version_are_ok(base: Mapping[str, str], title: str, tmp_path: Path) -> None:
    found = only(hailo(made(tmp_path, Skew(base, (), ""))))
    assert (found.state, found.text.partition(" at ")[0]) == ("ok", title)


def test_a_file_that_may_not_be_used_is_named_with_the_rule(tmp_path: Path) -> None:
    found = only(hailo(made(tmp_path, Skew(OF_8L, (), ""), may_use=lambda path: path.name != "hailo0")))
    assert found.state == "failure"
    assert "hailo_chardev" in found.fix


def test_a_configured_chip_that_is_not_there_is_a_failure_and_no_chip_at_all_is_none(tmp_path: Path) -> None:
    assert only(hailo(machine(tmp_path / "empty"))).text == "none"
    asking = configured(tmp_path, {"models": {"people": {"path": "x.hef", "accelerators": ["hailo"]}}})
    found = only(hailo(machine(tmp_path / "root", config=asking)))
    assert (found.state, "dtparam=pciex1" in found.fix) == ("failure", True)


def test_two_models_on_an_8l_need_the_service(tmp_path: Path) -> None:
    model = {"path": "x.hef", "accelerators": ["hailo"]}
    asking = configured(tmp_path, {"models": {"people": model, "doors": model}})
    (fits, found) = hailo(made(tmp_path, Skew(OF_8L, (), ""), config=asking))
    assert (fits.state, found.state, found.fix) == ("ok", "warning", "sudo systemctl enable --now hailort.service")


BOARD = {
    "/proc/device-tree/compatible": "radxa,rock-5b\0rockchip,rk3588\0",
    "/sys/module/rknpu/version": "0.9.8\n",
    "/usr/lib/librknnrt.so": "\x7fELF librknnrt version: 2.3.2 (429f97ae6b@2025-04-09T09:09:27)",
    "/packages/rknn_toolkit_lite2-2.3.2.dist-info/METADATA": "Name: rknn-toolkit-lite2\nVersion: 2.3.2\n",
}
ROCKCHIP = {
    "no driver": ({}, ("/sys/module/rknpu/version",), "no NPU driver", "uname -r"),
    "an old driver": ({"/sys/module/rknpu/version": "0.8.2"}, (), "0.8.2", "sudo apt full-upgrade"),
    "a driver for one core": ({"/sys/module/rknpu/version": "0.9.2"}, (), "several cores", "sudo apt full-upgrade"),
    "no library": ({}, ("/usr/lib/librknnrt.so",), "no /usr/lib/librknnrt.so", GET_LIBRARY),
    "a page in place of the library": ({"/usr/lib/librknnrt.so": "<!DOCTYPE html>"}, (), "no library", GET_LIBRARY),
    "a library that is older than the package": (
        {"/usr/lib/librknnrt.so": "\x7fELF librknnrt version: 1.5.2 (c6b7b351a)"},
        (),
        "librknnrt.so is 1.5.2, and rknn-toolkit-lite2 is 2.3.2",
        GET_LIBRARY,
    ),
    "no package for this Python": (
        {},
        ("/packages/rknn_toolkit_lite2-2.3.2.dist-info/METADATA",),
        "Python up to 3.12, and this is 3.13",
        OWN_PYTHON,
    ),
}


@pytest.mark.parametrize("name", ROCKCHIP)
def test_each_skew_of_a_rockchip_board_is_named_with_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    files, without, says, fix = ROCKCHIP[name]
    root = {path: text for path, text in {**BOARD, **files}.items() if path not in without}
    entry = {"chip": "rknn", "options": {"cores": "0_1"}}
    asking = configured(tmp_path, {"models": {"people": {"path": "x.rknn", "accelerators": [entry]}}})
    here = machine(tmp_path / "root", root, config=asking, python_path=(str(tmp_path / "root/packages"),))
    found = only(rockchip(here, (3, 13)))
    assert (found.state, says in found.text, found.fix.startswith(fix)) == ("failure", True, True), found


def test_a_rockchip_board_on_which_everything_fits_is_ok_and_another_machine_has_none(tmp_path: Path) -> None:
    here = machine(tmp_path / "root", BOARD, python_path=(str(tmp_path / "root/packages"),))
    found = only(rockchip(here))
    assert (found.state, found.text) == ("ok", "rk3588: librknnrt 2.3.2")
    assert only(rockchip(machine(tmp_path / "pc"))).text == "none"
    asking = configured(tmp_path, {"models": {"people": {"path": "x.rknn", "accelerators": ["rknn"]}}})
    assert only(rockchip(machine(tmp_path / "pc", config=asking))).state == "failure"


SENSOR = {
    "/sys/bus/i2c/devices/10-001a/name": "imx500\n",
    "/sys/module/imx500/refcnt": "1",
    "/var/lib/dpkg/status": dpkg(imx500_all="1.0.8"),
    "/etc/os-release": "ID=debian\n",
}
CAMERAS = {
    "Ubuntu": ({"/etc/os-release": "ID=ubuntu\n"}, (), "Ubuntu", "install Raspberry Pi OS"),
    "no firmware": ({}, ("/var/lib/dpkg/status",), "imx500-all", "sudo apt install imx500-all && sudo reboot"),
    "no sensor": ({}, ("/sys/bus/i2c/devices/10-001a/name",), "no IMX500", "rpicam-hello --list-cameras"),
    "no driver": ({}, ("/sys/module/imx500/refcnt",), "not loaded", "sudo modprobe imx500"),
}


@pytest.mark.parametrize("name", CAMERAS)
def test_what_an_ai_camera_lacks_is_named_with_the_command(name: str, tmp_path: Path) -> None:
    files, without, says, fix = CAMERAS[name]
    root = {path: text for path, text in {**SENSOR, **files}.items() if path not in without}
    models = {"objects": {"path": "x.rpk"}}
    pipelines = {"yard": {"source": {"type": "ai_camera", "model": "objects"}}}
    asking = configured(tmp_path, {"models": models, "pipelines": pipelines})
    found = only(ai_camera(machine(tmp_path / "root", root, config=asking)))
    assert (found.state, says in found.text, found.fix.startswith(fix)) == ("failure", True, True), found


def test_an_ai_camera_on_which_everything_fits_is_ok_and_no_camera_is_none(tmp_path: Path) -> None:
    assert only(ai_camera(machine(tmp_path / "root", SENSOR))).state == "ok"
    assert only(ai_camera(machine(tmp_path / "pc"))).text == "none"
