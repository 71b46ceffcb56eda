"""Checks of Python, the runtimes and OpenCV: what is installed, whether it loads, and whether versions conflict."""

import platform
import re
import shlex
import sys
from importlib import metadata
from typing import NamedTuple

from edge_agent.doctor import debian
from edge_agent.doctor.machine import Finding, Machine, Ran, failure, ok, warning
from edge_agent.models.shipped import shipped

NEWEST_PYTHON = (3, 13)

ONNX_BUILDS = ("onnxruntime", "onnxruntime-openvino", "onnxruntime-gpu", "onnxruntime-qnn", "onnxruntime-training")
OPENCV_BUILDS = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
# The last official build of the Edge TPU library is from 2021, for TensorFlow Lite 2.5, and works up to 2.9; newer
# runtimes crash with it: https://github.com/google-coral/edgetpu/issues/712 and
# https://github.com/tensorflow/tensorflow/issues/62371. Community builds have the TensorFlow version in theirs.
EDGETPU_PACKAGES = ("libedgetpu1-std", "libedgetpu1-max")
LAST_TFLITE_OF_OLD_EDGETPU = (2, 9)
EDGETPU_BUILDS = "https://github.com/feranick/libedgetpu/releases"


# An import is not enough: tflite-runtime fails with numpy 2 only when a model runs.
RUN_TFLITE = """\
import importlib, sys
interpreter = importlib.import_module(sys.argv[1]).Interpreter(model_path=sys.argv[2], num_threads=1)
interpreter.allocate_tensors()
interpreter.invoke()
interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
"""
RUN_ONNX = """\
import importlib, sys
import numpy as np
session = importlib.import_module(sys.argv[1]).InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
shapes = {value.name: [size if isinstance(size, int) else 1 for size in value.shape] for value in session.get_inputs()}
session.run(None, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
"""


class Engine(NamedTuple):
    """A runtime.

    Attributes:
        title: its name for people.
        packages: those that install it.
        module: its Python module.
        models: file suffix of the models that it runs.
        run: code that runs a model; its arguments are the module and the model's file.
    """

    title: str
    packages: tuple[str, ...]
    module: str
    models: str
    run: str


ENGINES = (
    Engine("LiteRT", ("ai-edge-litert",), "ai_edge_litert.interpreter", ".tflite", RUN_TFLITE),
    Engine("tflite-runtime", ("tflite-runtime",), "tflite_runtime.interpreter", ".tflite", RUN_TFLITE),
    Engine("ONNX Runtime", ONNX_BUILDS, "onnxruntime", ".onnx", RUN_ONNX),
)


def pip(*arguments: str) -> str:
    """A command with the pip of this environment."""
    return shlex.join([sys.executable, "-m", "pip", *arguments])


def installed(machine: Machine, package: str) -> str:
    """The version of a Python package; "" if it is not installed."""
    found = next(iter(metadata.distributions(name=package, path=list(machine.python_path))), None)
    return found.version if found else ""


def python(machine: Machine) -> list[Finding]:
    """The interpreter, the operating system and the device model."""
    model = machine.read("/proc/device-tree/model")
    system = re.search(r'^PRETTY_NAME="?(.*?)"?$', machine.read("/etc/os-release"), re.MULTILINE)
    version = ".".join(map(str, sys.version_info[:3]))
    text = f"Python {version} ({platform.machine()})" + "".join(
        f", {part}" for part in (system[1] if system else "", model) if part
    )
    if sys.version_info[:2] > NEWEST_PYTHON:
        return [warning(f"{text}: newer than what edge-agent is tried with", "python3.13 -m venv NEW_ENVIRONMENT")]
    return [ok(text)]


def engines(machine: Machine) -> list[Finding]:
    """The installed runtimes, and whether they run the model that comes with edge-agent."""
    found: list[Finding] = []
    there = set()
    for engine in ENGINES:
        versions = {package: installed(machine, package) for package in engine.packages}
        present = [package for package, version in versions.items() if version]
        if not present:
            continue
        there.add(engine.models)
        ran = machine.python(engine.run, engine.module, str(shipped("digits") / f"digits{engine.models}"))
        build = f" ({present[0]})" if len(engine.packages) > 1 else ""
        named = f"{engine.title} {versions[present[0]]}{build}"
        found.append(ok(named) if ran.code == 0 else _does_not_run(machine, named, present[0], ran))
    if not there:
        return [failure("no runtime is installed: no model can run", pip("install", "ai-edge-litert", "onnxruntime"))]
    absent = [engine.title for engine in ENGINES if engine.models not in there and engine.title != "tflite-runtime"]
    return found + [ok(f"{title} is not installed: only {models_of(title)} models need it") for title in absent]


def models_of(title: str) -> str:
    """The file suffix of the models that a runtime is for."""
    return next(engine.models for engine in ENGINES if engine.title == title)


def _does_not_run(machine: Machine, named: str, package: str, ran: Ran) -> Finding:
    numpy = installed(machine, "numpy")
    if package == "tflite-runtime" and not numpy.startswith("1.") and "numpy" in ran.err.lower():
        return failure(f"{named} is made for numpy 1 and does not run with numpy {numpy}", pip("install", "numpy<2"))
    return failure(f"{named} runs no model: {ran.reason}", pip("install", "--force-reinstall", package))


def opencv(machine: Machine) -> list[Finding]:
    """OpenCV, which reads pictures and cameras."""
    ran = machine.python("import cv2; print(cv2.__version__)")
    if ran.code == 0:
        return [ok(f"OpenCV {ran.out.strip()}")]
    if "No module named 'cv2'" in ran.reason and sys.maxsize < 2**32:  # no wheels there
        fix = "sudo apt install python3-opencv  # and an environment made with --system-site-packages"
    else:
        fix = f"{pip('uninstall', '-y', *OPENCV_BUILDS)}; {pip('install', OPENCV_BUILDS[0])}"
    return [failure(f"OpenCV does not load: {ran.reason}", fix)]


def versions(machine: Machine) -> list[Finding]:
    """Packages and libraries that conflict."""
    found = []
    for name, builds in ("ONNX Runtime", ONNX_BUILDS), ("OpenCV", OPENCV_BUILDS):
        several = [package for package in builds if installed(machine, package)]
        if len(several) > 1:
            text = f"{' and '.join(several)} are all {name} and overwrite each other"
            keep = several[-1] if builds is ONNX_BUILDS else several[0]
            fix = f"{pip('uninstall', '-y', *several)} && {pip('install', keep)}"
            found.append(warning(text, fix))
    found += _old_edgetpu(machine)
    return found or [ok("nothing that is known not to go together")]


def _old_edgetpu(machine: Machine) -> list[Finding]:
    package, version = _edgetpu_package(machine)
    runtimes = [(engine, installed(machine, engine.packages[0])) for engine in ENGINES[:2]]
    engine, runtime = next(((engine, there) for engine, there in runtimes if there), (ENGINES[0], ""))
    numbers = tuple(int(part) for part in re.findall(r"\d+", runtime)[:2])
    if not version or not runtime or "tf" in version.lower():
        return []
    if engine.title == "tflite-runtime" and numbers <= LAST_TFLITE_OF_OLD_EDGETPU:
        return []
    text = f"{package} {version} is for TensorFlow Lite up to 2.9 and crashes with {engine.title} {runtime}"
    fix = f"a build for a newer TensorFlow from {EDGETPU_BUILDS}: sudo dpkg -i {package}_*.deb"
    return [failure(text, fix)]


def _edgetpu_package(machine: Machine) -> tuple[str, str]:
    """Name and version of the installed Debian package with the Edge TPU library; "" if there is none."""
    there = debian.packages(machine)
    return next(((name, there[name]) for name in EDGETPU_PACKAGES if name in there), ("", ""))
