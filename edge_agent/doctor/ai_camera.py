"""The AI Camera: whether the sensor, its driver, its firmware and the program that reads it are there."""

from collections.abc import Iterator

from edge_agent.doctor import debian
from edge_agent.doctor.machine import Finding, Machine, failure, ok, warning
from edge_agent.settings import AiCameraSource
from edge_agent.system import chips

_INSTALL = "sudo apt install imx500-all && sudo reboot"
_LOADER = "/lib/firmware/imx500_loader.fpk"
_DRIVER = "/sys/module/imx500"


def ai_camera(machine: Machine) -> list[Finding]:
    """A connected AI Camera, or one that a pipeline uses, and what keeps it from being used."""
    pipelines = machine.config.settings.pipelines.items() if machine.config else ()
    asked = [name for name, pipeline in pipelines if isinstance(pipeline.source, AiCameraSource)]
    there = "imx500" in chips.imx500(machine.root)
    if not there and not asked:
        return [ok("none")]
    problem = next(_problems(machine, there), None)
    if problem is None:
        return [ok("a sensor with its driver and firmware")]
    text, fix = problem
    return [failure(f"pipeline {asked[0]}: {text}", fix) if asked else warning(text, fix)]


def _problems(machine: Machine, there: bool) -> Iterator[tuple[str, str]]:
    """What is wrong, what has to be fixed first coming first: a sentence, and the command."""
    installed = debian.packages(machine)
    if "ID=ubuntu" in machine.read("/etc/os-release").splitlines():
        yield "Ubuntu's kernels have no driver for the IMX500", "install Raspberry Pi OS, then: " + _INSTALL
    if "imx500-all" not in installed and not machine.path(_LOADER).exists():
        yield "the package imx500-all, with the sensor's firmware, is not installed", _INSTALL
    if not there:
        yield (
            "no IMX500 answers",
            "rpicam-hello --list-cameras  # nothing: seat the cable; dtoverlay=imx500 in /boot/firmware/config.txt",
        )
    if not machine.path(_DRIVER).is_dir():
        yield "its driver imx500 is not loaded", "sudo modprobe imx500 || sudo reboot"
