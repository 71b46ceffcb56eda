"""The bases of Raspberry Pi OS on ARM, 64 and 32 bit, emulated by qemu: installed from the package index, tested."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent import __version__
from edge_agent.models.shipped import shipped
from tests.broker import Mosquitto, Subscriber
from tests.devices.debian import Device, build_wheel, debian, emulated, run, with_version
from tests.installation import PYTHON
from tests.pages import ROOT

pytestmark = [pytest.mark.devices, pytest.mark.timeout(7200)]

PROGRAM = "/opt/edge-agent/current/bin/edge-agent"
DATA = "/srv/shared/data"
PARROT = (
    *(f"{DATA}/classify_tflite/mobilenet_v2_1.0_224_quant.tflite", f"{DATA}/images/parrot.jpg"),
    *("--labels", f"{DATA}/labels/coral_imagenet_labels.txt"),
)
CAT = (
    *(f"{DATA}/classify_onnx/mobilenet_v2_quant.onnx", f"{DATA}/images/cat.bmp"),
    *("--labels", f"{DATA}/labels/nnstreamer_squeezenet1000_labels.txt", "--normalize", "imagenet"),
)
ANSWER_TIMEOUT_S = 60.0
# Its last one measures the memory of the daemon's process, most of which is the emulator's own here.
MAIN_TESTS = ("tests/daemon/test_daemon.py", "-k", "not memory_comes_back")


# Of which 32-bit ARM has no wheels.
PYTHON_PACKAGES = ("python3-numpy", "python3-opencv", "python3-yaml")


@dataclass(frozen=True)
class System:
    """A Debian, the processor to emulate, what install.sh is told, and the runtime that it brings."""

    suite: str
    architecture: str
    processor: str
    extras: str
    runtime: str
    packages: tuple[str, ...] = ()


SYSTEMS = {
    "12-arm64": System("bookworm", "arm64", "aarch64", "tflite,onnx", "LiteRT"),
    # There is no ONNX Runtime for it.
    "12-armhf": System("bookworm", "armhf", "arm", "tflite", "tflite-runtime", PYTHON_PACKAGES),
    "13-arm64": System("trixie", "arm64", "aarch64", "tflite,onnx", "LiteRT"),
}


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> System:
    return SYSTEMS[request.param]


@pytest.fixture(scope="module")
def device(system: System, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """With the program installed; its first configuration waits to be written."""
    folder = tmp_path_factory.mktemp("arm")
    with contextlib.ExitStack() as stack:
        stack.enter_context(emulated(system.processor))
        base = debian(system.suite, system.architecture, *system.packages)
        emulation = stack.enter_context(Device(base.name, base))
        done = emulation.install(build_wheel(folder), "--extras", system.extras)
        assert done.returncode == 0, done.stdout + done.stderr
        emulation.show(data_dir, DATA)
        yield emulation


def test_the_installation_serves(device: Device, system: System, mosquitto: Mosquitto) -> None:
    (device.root / "etc" / "edge-agent" / "agent.yaml").write_text(
        f"device_id: arm\nmqtt: {{url: {mosquitto.url}}}\nmodels: {{digits: {{path: digits}}}}\n"
        "pipelines: {lab: {source: {type: mqtt, topic: lab/images}, model: digits}}\n"
    )
    (wheel,) = (device.root / "srv").glob("*.whl")
    done = device.run("sh", "/srv/install.sh", "--extras", system.extras, f"/srv/{wheel.name}")
    assert done.returncode == 0, done.stdout + done.stderr
    with Subscriber(mosquitto.port, "edge/arm/#") as client:
        client.publish("lab/images", (shipped("digits") / "golden" / "5_printed.png").read_bytes())
        [result] = client.wait_for(lambda message: message.topic.endswith("/result"), timeout=ANSWER_TIMEOUT_S)
        [info] = client.wait_for(lambda message: message.topic.endswith("/info"))
    assert json.loads(result.payload)["predictions"][0]["label"] == "5"
    assert json.loads(info.payload)["models"]["digits"]["engine"].startswith(f"{system.runtime} ")


def test_the_commands_work(device: Device, system: System) -> None:
    def said(*arguments: str) -> str:
        done = device.run(PROGRAM, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert said("--version") == f"edge-agent {__version__}\n"
    assert "/etc/edge-agent/agent.yaml is valid: " in said("check", "-c", "/etc/edge-agent/agent.yaml")
    # What the models say on other machines, as in tests/decoders/test_classification.py.
    [document] = json.loads(said("predict", *PARROT, "--json"))
    assert document["predictions"][0]["label"] == "macaw"
    assert document["predictions"][0]["confidence"] == pytest.approx(0.996, abs=0.01)
    if "onnx" in system.extras:
        [document] = json.loads(said("predict", *CAT, "--json"))
        assert document["predictions"][0]["label"] == "n02124075 Egyptian cat"
        assert document["predictions"][0]["confidence"] == pytest.approx(0.55, abs=0.1)


@pytest.mark.parametrize("system", ["12-armhf"], indirect=True, scope="module")
def test_a_32_bit_device_is_installed_from_the_wheels_of_another(device: Device) -> None:
    pip = "/opt/edge-agent/current/bin/pip"
    done = device.run("sh", "-ec", f"{pip} freeze --local --exclude edge-agent-runtime > /srv/needed.txt")
    assert done.returncode == 0, done.stderr
    done = device.run(pip, "download", "--no-deps", "-d", "/srv/wheelhouse", "-r", "/srv/needed.txt")
    assert done.returncode == 0, done.stdout + done.stderr
    wheel = with_version(next((device.root / "srv").glob("*.whl")), "99.0")
    done = device.run("sh", "/srv/install.sh", "--wheelhouse", "/srv/wheelhouse", f"/srv/{wheel.name}", network=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert device.run(PROGRAM, "--version").stdout == "edge-agent 99.0\n"


def test_the_main_tests_pass(device: Device, tmp_path: Path) -> None:
    # Pure Python: this machine's pip fetches it.
    pip = (PYTHON, "-m", "pip", "install", "--quiet", "--root-user-action=ignore", "-c", ROOT / "constraints.txt")
    run(*pip, "--target", tmp_path, "pytest", "pytest-timeout")
    device.show(tmp_path, "/srv/pytest")
    device.show(ROOT / "tests", "/srv/edge-agent/tests")
    device.put(ROOT / "pyproject.toml", "/srv/edge-agent/pyproject.toml")
    done = device.run(
        *("sh", "-c", 'cd /srv/edge-agent && exec /opt/edge-agent/current/bin/python -m pytest "$@"', "sh"),
        *("-p", "no:cacheprovider", "--timeout=1800", *MAIN_TESTS),
        environment={"PYTHONPATH": "/srv/pytest", "PYTHONDONTWRITEBYTECODE": "1", "EDGE_AGENT_TEST_PATIENCE": "10"},
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
