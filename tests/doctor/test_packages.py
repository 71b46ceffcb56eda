import sys
from pathlib import Path

import pytest

from edge_agent.doctor import packages
from tests.doctor.made_up import machine, only, states

OLD_LIBRARY = """\
Package: libc6
Status: install ok installed
Version: 2.36

Package: libedgetpu1-std
Status: install ok installed
Version: {version}
"""

# As much of ONNX Runtime as is asked of it.
ONNX_RUNTIME = """\
class InferenceSession:
    def __init__(self, path, providers): pass
    def get_inputs(self): return []
    def run(self, names, feed): return []
"""


def site(folder: Path, **versions: str) -> tuple[str, ...]:
    """A place where packages are looked for, with these, given as `name_with_underscores=version`."""
    folder.mkdir(exist_ok=True)
    for name, version in versions.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n")
    return (str(folder),)


def module(folder: Path, name: str, code: str) -> None:
    package, _, inner = name.partition(".")
    (folder / package).mkdir(exist_ok=True)
    (folder / package / "__init__.py").touch()
    (folder / package / f"{inner or '__init__'}.py").write_text(code)


def test_the_python_is_told_with_the_machine(tmp_path: Path) -> None:
    files = {
        "/etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    }
    said = only(packages.python(machine(tmp_path, files))).text
    assert said.startswith(f"Python {sys.version_info[0]}.{sys.version_info[1]}.")
    assert said.endswith(", Debian GNU/Linux 12 (bookworm), Raspberry Pi 4 Model B Rev 1.4")


def test_the_runtimes_of_this_environment_run_a_model(tmp_path: Path) -> None:
    assert set(states(packages.engines(machine(tmp_path)))) == {"ok"}
    assert only(packages.opencv(machine(tmp_path))).state == "ok"


def test_a_machine_without_a_runtime_is_told_how_to_install_one(tmp_path: Path) -> None:
    found = only(packages.engines(machine(tmp_path, python_path=site(tmp_path / "site"))))
    assert (found.state, found.fix) == ("failure", f"{sys.executable} -m pip install ai-edge-litert onnxruntime")


def test_a_runtime_that_is_missing_is_no_failure_while_there_is_another(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    path = site(folder, onnxruntime="1.20.0")
    module(folder, "onnxruntime", ONNX_RUNTIME)
    found = packages.engines(machine(tmp_path, python_path=path))
    assert [(finding.state, finding.text) for finding in found] == [
        ("ok", "ONNX Runtime 1.20.0 (onnxruntime)"),
        ("ok", "LiteRT is not installed: only .tflite models need it"),
    ]


def test_tflite_runtime_with_a_newer_numpy_is_told_with_the_numpy_that_it_needs(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    path = site(folder, tflite_runtime="2.14.0", numpy="2.2.1", onnxruntime="1.20.0")
    module(folder, "tflite_runtime.interpreter", "raise ImportError('numpy.core.multiarray failed to import')")
    module(folder, "onnxruntime", ONNX_RUNTIME)
    (found,) = [f for f in packages.engines(machine(tmp_path, python_path=path)) if f.state == "failure"]
    assert found.text == "tflite-runtime 2.14.0 is made for numpy 1 and does not run with numpy 2.2.1"
    assert found.fix == f"{sys.executable} -m pip install 'numpy<2'"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('libgomp.so.1: cannot open shared object file')", "ImportError: libgomp.so.1"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "crashes (signal 11)"),
    ],
)
def test_a_runtime_that_runs_no_model_is_told_with_the_reason(code: str, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    path = site(folder, onnxruntime="1.20.0")
    module(folder, "onnxruntime", code)
    found = packages.engines(machine(tmp_path, python_path=path))[0]
    assert found.text.startswith(f"ONNX Runtime 1.20.0 (onnxruntime) runs no model: {said}")
    assert found.fix == f"{sys.executable} -m pip install --force-reinstall onnxruntime"


def test_an_opencv_that_does_not_load_is_replaced_by_the_one_without_a_screen(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    path = site(folder)
    module(folder, "cv2", "raise ImportError('libGL.so.1: cannot open shared object file')")
    found = only(packages.opencv(machine(tmp_path, python_path=path)))
    assert (found.state, found.text) == (
        "failure",
        "OpenCV does not load: ImportError: libGL.so.1: cannot open shared object file",
    )
    assert found.fix.endswith("pip install opencv-python-headless")


def test_two_builds_of_one_package_overwrite_each_other(tmp_path: Path) -> None:
    path = site(tmp_path / "site", onnxruntime="1.20.0", onnxruntime_openvino="1.20.0", opencv_python="4.10")
    found = only(packages.versions(machine(tmp_path, python_path=path)))
    assert found.text == "onnxruntime and onnxruntime-openvino are all ONNX Runtime and overwrite each other"
    assert found.fix.endswith(" -m pip install onnxruntime-openvino")


def test_packages_that_go_together_are_passed_over(tmp_path: Path) -> None:
    path = site(tmp_path / "site", onnxruntime="1.20.0", opencv_python_headless="4.10", ai_edge_litert="2.3.0")
    assert states(packages.versions(machine(tmp_path, python_path=path))) == ["ok"]


@pytest.mark.parametrize(
    ("library", "runtime", "state"),
    [
        ("16.0", {"ai_edge_litert": "2.3.0"}, "failure"),
        ("16.0", {"tflite_runtime": "2.14.0"}, "failure"),
        ("16.0", {"tflite_runtime": "2.5.0.post1"}, "ok"),
        ("16.0tf2.17.1-1", {"ai_edge_litert": "2.3.0"}, "ok"),
        ("16.0", {}, "ok"),
    ],
)
def test_the_old_library_of_the_edge_tpu_does_not_go_with_newer_runtimes(
    library: str, runtime: dict[str, str], state: str, tmp_path: Path
) -> None:
    files = {"/var/lib/dpkg/status": OLD_LIBRARY.format(version=library)}
    path = site(tmp_path / "site", **runtime)
    assert only(packages.versions(machine(tmp_path, files, python_path=path))).state == state


def test_a_library_that_has_been_removed_is_no_matter(tmp_path: Path) -> None:
    text = OLD_LIBRARY.format(version="16.0").replace(
        "install ok installed\nVersion: 16", "deinstall ok config-files\nVersion: 16"
    )
    path = site(tmp_path / "site", ai_edge_litert="2.3.0")
    assert states(packages.versions(machine(tmp_path, {"/var/lib/dpkg/status": text}, python_path=path))) == ["ok"]
