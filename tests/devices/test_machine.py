"""A Debian 12 under a real systemd, in a virtual machine: installed, watched over, updated, and its power cut.

As root, with debootstrap and qemu-system-x86. The broker and the web server of the releases are outside of it.
"""

import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.release.repository import SignedRepository
from edge_agent.update.store import Store
from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.devices.debian import build_wheel, wheelhouse
from tests.devices.machine import HOST, IMAGE, RECIPE, Machine
from tests.installation import SCRIPT
from tests.reconcile import Ledger
from tests.update.kit import WebServer, ask, assert_whole, bundle

pytestmark = [pytest.mark.devices, pytest.mark.timeout(3600)]

CUTS = int(os.environ.get("EDGE_AGENT_POWER_CUTS", "20"))
# The power is cut at this step of an update, or a moment later.
STEPS = ("downloading", "verified", "trying", "shadow", "activated", "probation", "committed")
EXTRAS = "tflite,update,metrics"
STATE = "/var/lib/edge-agent"
METRICS_PORT = 9464
# An accelerometer lies still, 1 g upwards: what the kernel's driver finds in the registers of an MMA7660.
SENSOR = """set -e
modprobe i2c-dev
modprobe i2c-stub chip_addr=0x4c
bus=$(basename "$(dirname "$(grep -l 'SMBus stub' /sys/bus/i2c/devices/i2c-*/name)")")
i2cset -y "${bus#i2c-}" 0x4c 0x02 21
echo mma7660 0x4c >"/sys/bus/i2c/devices/$bus/new_device"
"""
# Emulated, on two cores that others may be using too.
PATIENCE_S = 300.0

Wanted = Callable[[dict[str, Any]], bool]


class Device:
    """The machine with the agent on it, and what it says."""

    def __init__(
        self,
        machine: Machine,
        broker: Mosquitto,
        settings: dict[str, Any],
        repository: SignedRepository,
        bundles: Path,
    ) -> None:
        self.machine, self.broker, self.settings = machine, broker, settings
        self._repository, self._bundles = repository, bundles
        self._client = Subscriber(broker.port, "edge/machine/#")
        self.version = 1
        self.dice = random.Random(7)

    def configure(self, **further: dict[str, Any]) -> None:
        """Writes its configuration, with further models and pipelines."""
        sections = self.settings | {name: self.settings[name] | section for name, section in further.items()}
        self.machine.put("/etc/edge-agent/agent.yaml", yaml.safe_dump(sections))

    def messages(self) -> list[Message]:
        """What it has said since it was switched on."""
        return [message for message in self._client.messages if message.arrived_at > self.machine.on_since]

    def hear(self, topic: str, wanted: Wanted, *, since: float | None = None, count: int = 1) -> list[dict[str, Any]]:
        """What it says on a topic, since it was switched on or another moment; waits for so much that is wanted."""
        moment = self.machine.on_since if since is None else since

        def is_wanted(message: Message) -> bool:
            there = message.arrived_at > moment and message.topic == f"edge/machine/{topic}"
            return there and wanted(json.loads(message.payload))

        return [json.loads(message.payload) for message in self._client.wait_for(is_wanted, count, PATIENCE_S)]

    def live_result(self) -> dict[str, Any]:
        """A result of a picture taken from now on."""
        return self.hear("camera/result", lambda result: not result["replayed"], since=time.monotonic())[0]

    def seqs(self, boot: str) -> list[int]:
        """The numbers of all results of a start of the agent, as they came."""
        results = Ledger(self._client.messages).results["camera"]
        return [result["seq"] for result in results if result["boot_id"] == boot]

    def switch_on(self) -> dict[str, Any]:
        """Switches it on, waits for its first result."""
        self.machine.switch_on()
        first = self.live_result()
        print(f"{time.monotonic() - self.machine.on_since:.0f} s from power-on to the first result")
        return first

    def bring_the_broker_back(self) -> None:
        """Starts it, and waits until what it publishes is heard."""
        self.broker.start()
        self._client.wait_ready(PATIENCE_S)

    def release(self) -> None:
        """Releases another version of its model."""
        self.version += 1
        archive = bundle(self._bundles, str(self.version))
        self._repository.add(archive, "digits", str(self.version), 10_000, [])

    def updated_to(self, step: str) -> None:
        """Waits until the update to the latest release has reached a step."""
        reached = (step, f"digits/{self.version}")

        def wanted(document: dict[str, Any]) -> bool:
            state = document["models"]["digits"]
            return (state["step"], state["version"]) == reached

        self.hear("update", wanted)

    def store(self, folder: Path) -> Store:
        """A copy of its store of versions, as it is at one moment."""
        there = f"{STATE}/updates/models/digits"
        packed = self.machine.run("flock", f"{there}/lock", "tar", "-C", there, "-c", ".").stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as content:
            content.extractall(folder, filter="data")
        return Store(folder)

    def on_disk(self) -> int:
        """How many results lie in its outbox, on the disk: they are safe."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.machine.reached_at}/metrics", timeout=60) as page:
            lines = page.read().decode().splitlines()
        return next(int(float(line.split()[1])) for line in lines if line.startswith("edge_agent_outbox_disk_results "))

    def main_pid(self) -> int:
        return int(self.machine.says("systemctl", "show", "--value", "-p", "MainPID", "edge-agent"))


def made_stick(folder: Path) -> Path:
    """A folder with all that install.sh needs."""
    stick = folder / "stick"
    wheelhouse(build_wheel(stick), stick / "wheelhouse", EXTRAS)
    shutil.copy(SCRIPT, stick)
    return stick


def settings(broker: Mosquitto, server: WebServer) -> dict[str, Any]:
    return {
        "device_id": "machine",
        "mqtt": {"url": f"mqtt://{HOST}:{broker.port}"},
        "metrics": {"listen": f"0.0.0.0:{METRICS_PORT}"},
        "stats_interval": "2s",
        "models": {"digits": {"path": "digits"}},
        "pipelines": {
            "camera": {
                "source": {"type": "camera", "device": 0, "fps": 4, "width": 320, "height": 180},
                "model": "digits",
            }
        },
        "update": {
            "url": f"http://{HOST}:{server.server_port}",
            "root": "root.json",
            "models": {"digits": "digits"},
            "interval": "2s",
            "max_rate": "100kB",
            "shadow": {"samples": 5, "max_slowdown": 1000},
            "probation": {"duration": "3s", "max_slowdown": 1000},
        },
    }


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, broker: Mosquitto) -> Iterator[Device]:
    """A machine on which install.sh has brought the service up."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("debootstrap", "qemu-system-x86_64", "qemu-img"))):
        pytest.skip("needs root, debootstrap, qemu: apt-get install debootstrap qemu-system-x86 qemu-utils")
    made_by = IMAGE / "made-by"
    if not made_by.exists() or made_by.read_bytes() != RECIPE.read_bytes():
        subprocess.run([RECIPE, IMAGE], check=True)
    folder = tmp_path_factory.mktemp("machine")
    repository = SignedRepository(folder / "repository", ask)
    repository.init()
    machine = Machine(folder, made_stick(folder), METRICS_PORT)
    with WebServer(folder / "repository") as server, machine:
        machine.wait_for_shell()
        install = f"sh /mnt/install.sh --extras {EXTRAS} --wheelhouse /mnt/wheelhouse /mnt/edge_agent_runtime-*.whl"
        said = machine.run(install).stdout.decode()
        assert "Write /etc/edge-agent/agent.yaml" in said, said
        machine.put("/etc/edge-agent/root.json", repository.first_root.read_text())
        device = Device(machine, broker, settings(broker, server), repository, folder)
        device.configure()
        said = machine.run(install).stdout.decode()
        assert "is running" in said, said
        yield device


def test_results_of_the_camera_reach_the_broker_outside(device: Device) -> None:
    result = device.live_result()
    assert (result["input"]["width"], result["input"]["height"]) == (320, 180)
    assert result["predictions"]


def test_systemctl_shows_the_line_of_the_agent(device: Device) -> None:
    status = device.machine.says("systemctl", "status", "edge-agent")
    assert "Active: active (running)" in status
    assert 'Status: "camera ' in status
    assert f' results; 0 waiting; mqtt://{HOST}:{device.broker.port}"' in status


def test_a_sensor_is_read_that_has_a_driver_in_the_kernel(device: Device) -> None:
    device.machine.run(SENSOR)
    source = {"type": "iio", "device": "mma7660", "channels": ["accel_x", "accel_y", "accel_z"], "rate": 26}
    activity = {"path": "activity", "input": {"kind": "series", "normalize": {"std": 9.81}}}  # the model takes g
    device.configure(models={"activity": activity}, pipelines={"wrist": {"source": source, "model": "activity"}})
    device.machine.run("systemctl", "reload", "edge-agent")
    result = device.hear("wrist/result", bool)[0]
    assert {fact["unit"] for fact in result["input"]["channels"].values()} == {"m/s²"}
    assert result["predictions"][0]["label"] == "stationary"
    device.configure()
    device.machine.run("systemctl", "reload", "edge-agent")


def test_a_daemon_that_hangs_is_ended_by_the_watchdog_and_started_again(device: Device) -> None:
    before = device.main_pid()
    device.machine.run("kill", "-STOP", str(before))
    wait_until(lambda: device.main_pid() not in (0, before), PATIENCE_S, "systemd starts it again")
    device.live_result()
    assert "Watchdog timeout" in device.machine.says("journalctl", "-u", "edge-agent", "--no-pager")


def test_a_daemon_that_is_killed_is_started_again(device: Device) -> None:
    before = device.main_pid()
    device.machine.run("kill", "-KILL", str(before))
    wait_until(lambda: device.main_pid() not in (0, before), PATIENCE_S, "systemd starts it again")
    device.live_result()


def test_a_power_cut_takes_what_was_not_written_to_the_disk(device: Device) -> None:
    """Else the tests of power cuts would show nothing."""
    device.machine.run("echo safe >/root/safe; sync; echo unsafe >/root/unsafe")
    device.machine.cut_power()
    device.switch_on()
    assert device.machine.says("cat", "/root/safe", "/root/unsafe") == "safe"


def test_a_release_comes_over_the_network(device: Device) -> None:
    device.release()
    device.updated_to("committed")
    assert device.live_result()["model"]["version"] == "2"


@pytest.mark.parametrize("cut", range((CUTS + 1) // 2))
def test_after_a_power_cut_during_an_update_a_whole_version_serves(device: Device, cut: int, tmp_path: Path) -> None:
    device.release()
    step, later = STEPS[cut % len(STEPS)], device.dice.choice([0.0, device.dice.uniform(0, 3)])
    device.updated_to(step)
    time.sleep(later)
    device.machine.cut_power()
    print(f"cut {later:.1f} s after {step}")
    served = device.switch_on()["model"]["version"]
    assert served in (str(device.version - 1), str(device.version))
    assert_whole(device.store(tmp_path / "after"))
    device.updated_to("committed")
    store = device.store(tmp_path / "committed")
    assert_whole(store)
    assert not store.state().refused
    assert device.live_result()["model"]["version"] == str(device.version)


@pytest.mark.parametrize("cut", range(CUTS // 2))
def test_results_that_were_on_the_disk_before_a_power_cut_are_published_after_it(device: Device, cut: int) -> None:
    boot = device.live_result()["boot_id"]
    assert device.on_disk() == 0
    device.broker.stop()
    enough = device.dice.randrange(1, 40)
    safe = wait_until(lambda: (count := device.on_disk()) >= enough and count, PATIENCE_S, f"{enough} on the disk")
    time.sleep(device.dice.uniform(0, 0.7))  # anywhere between two commits
    device.machine.cut_power()
    before = device.seqs(boot)
    device.bring_the_broker_back()
    device.switch_on()
    device.hear("stats", lambda stats: stats["pipelines"]["camera"]["queued"] == 0)
    replayed = device.seqs(boot)[len(before) :]
    print(f"{safe} results were on the disk before the cut, {len(replayed)} were published after it")
    assert len(replayed) >= safe
    assert replayed == list(range(before[-1] + 1, before[-1] + 1 + len(replayed))), "in order, each once, none left out"
    Ledger(device.messages()).balanced()
    assert "outbox" not in device.machine.says("ls", STATE), "nothing is left of it, nothing was set aside as damaged"
