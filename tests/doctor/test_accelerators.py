import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edge_agent.doctor.accelerators import GASKET, USB_RULE, accelerators
from edge_agent.doctor.machine import Finding
from tests.doctor.made_up import configured, machine, states

CORAL = {
    "/sys/bus/usb/devices/2-1/idVendor": "18d1\n",
    "/sys/bus/usb/devices/2-1/idProduct": "9302\n",
    "/sys/bus/usb/devices/2-1/speed": "5000\n",
    "/sys/bus/usb/devices/2-1/busnum": "2\n",
    "/sys/bus/usb/devices/2-1/devnum": "3\n",
    "/dev/bus/usb/002/003": "",
}
VERSION = 'const char* edgetpu_version() { return "BuildLabel(x), RuntimeVersion(14)"; }'
CRASH = "#include <stdlib.h>\n__attribute__((constructor)) void start() { abort(); }"


def library(folder: Path, code: str) -> dict[str, str]:
    """An environment in which libedgetpu.so.1 is this."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler: apt-get install gcc")
    (folder / "library.c").write_text(code)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libedgetpu.so.1", folder / "library.c"], check=True)
    return os.environ | {"LD_LIBRARY_PATH": str(folder)}


def asking(folder: Path, *names: str | dict[str, Any]) -> Any:
    return configured(folder, {"models": {"digits": {"path": "digits", "accelerators": list(names)}}})


def rest(found: list[Finding]) -> list[Finding]:
    """Without the line that lists what can be asked for."""
    assert found[0].text.startswith("can be asked for: cpu")
    return found[1:]


def test_a_machine_without_accelerators_can_be_asked_for_the_cpu(tmp_path: Path) -> None:
    (found,) = accelerators(machine(tmp_path))
    assert (found.state, found.text) == ("ok", "can be asked for: cpu")


def test_a_library_that_loads_is_listed_with_what_it_says_of_itself(tmp_path: Path) -> None:
    found = accelerators(machine(tmp_path / "root", CORAL, environ=library(tmp_path, VERSION)))
    assert found[0].text == "can be asked for: cpu, edgetpu (BuildLabel(x), RuntimeVersion(14))"
    assert [(finding.state, finding.text) for finding in found[1:]] == [("ok", "Coral Edge TPU at USB 2-1")]


def test_a_library_that_crashes_takes_nothing_along(tmp_path: Path) -> None:
    (found,) = rest(accelerators(machine(tmp_path / "root", CORAL, environ=library(tmp_path, CRASH))))
    assert (found.state, "its library does not load: crashes (signal 6)" in found.text) == ("warning", True)


def test_an_edge_tpu_without_its_library_is_told_with_where_to_get_one(tmp_path: Path) -> None:
    (found,) = rest(accelerators(machine(tmp_path, CORAL)))
    assert found.state == "warning"
    assert "libedgetpu.so.1" in found.text
    assert found.fix.endswith("sudo dpkg -i libedgetpu1-std_*.deb")


def test_an_edge_tpu_that_may_not_be_opened_needs_a_rule(tmp_path: Path) -> None:
    environ = library(tmp_path, VERSION)
    (found,) = rest(accelerators(machine(tmp_path / "root", CORAL, environ=environ, may_use=lambda _: False)))
    assert (found.state, found.fix) == ("warning", USB_RULE)


def test_an_edge_tpu_on_a_slow_port_is_told(tmp_path: Path) -> None:
    files = CORAL | {"/sys/bus/usb/devices/2-1/speed": "480\n"}
    (found,) = rest(accelerators(machine(tmp_path / "root", files, environ=library(tmp_path, VERSION))))
    assert (found.state, found.fix) == ("warning", "plug it into a USB 3 port")


def test_a_card_without_its_driver_is_told(tmp_path: Path) -> None:
    folder = "/sys/bus/pci/devices/0000:01:00.0"
    files = {f"{folder}/vendor": "0x1ac1\n", f"{folder}/device": "0x089a\n"}
    environ = library(tmp_path, VERSION)
    (found,) = rest(accelerators(machine(tmp_path / "root", files, environ=environ)))
    assert (found.state, found.fix) == ("warning", GASKET)
    found_with_driver = rest(accelerators(machine(tmp_path / "root", files | {"/dev/apex_0": ""}, environ=environ)))
    assert states(found_with_driver) == ["ok"]


def test_an_accelerator_that_is_asked_for_in_vain_is_a_failure_unless_the_cpu_stands_in(tmp_path: Path) -> None:
    (alone,) = rest(accelerators(machine(tmp_path, config=asking(tmp_path, "edgetpu"))))
    (with_cpu,) = rest(accelerators(machine(tmp_path, config=asking(tmp_path, "edgetpu", "cpu"))))
    assert alone.text == with_cpu.text
    assert alone.text.startswith("model digits asks for edgetpu: libedgetpu.so.1: cannot open shared object file")
    assert (alone.state, with_cpu.state) == ("failure", "warning")


def test_a_provider_that_this_onnx_runtime_lacks_is_told_with_the_build_that_has_it(tmp_path: Path) -> None:
    loaded = asking(tmp_path, "openvino", {"provider": "OtherExecutionProvider"}, "cpu")
    by_name, by_provider = rest(accelerators(machine(tmp_path, config=loaded)))
    assert by_name.text == "model digits asks for openvino: this ONNX Runtime has no OpenVINOExecutionProvider"
    assert by_name.fix.endswith(" -m pip install onnxruntime-openvino")
    assert by_provider.fix == "install the build of ONNX Runtime that has OtherExecutionProvider"


def test_a_delegate_of_one_s_own_is_loaded_to_see_whether_it_goes(tmp_path: Path) -> None:
    library(tmp_path, VERSION)
    (tmp_path / "lib").mkdir()
    (tmp_path / "libedgetpu.so.1").rename(tmp_path / "lib" / "own.so")
    loads = asking(tmp_path, {"delegate": "lib/own.so"})
    assert rest(accelerators(machine(tmp_path / "root", config=loads))) == []
    (found,) = rest(accelerators(machine(tmp_path / "root", config=asking(tmp_path, {"delegate": "lib/gone.so"}))))
    assert (found.state, found.fix) == ("failure", f"ldd {tmp_path}/lib/gone.so  # names what it lacks")
