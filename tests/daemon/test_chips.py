"""What a subscriber gets when a chip's library fails: stand-ins, in the processes of the real ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.counters import imbalance
from edge_agent.system import chips
from tests.broker import Mosquitto, wait_until
from tests.daemon.test_accelerators import IMAGE, TIMEOUT_S, Scene
from tests.modelfile.hef_bytes import hef
from tests.models import compiled_models
from tests.stand_ins import interpreter
from tests.stand_ins.control import Control


class ChipScene(Scene):
    """A daemon that reads digits on a Hailo-8L, for which the bundle has a file beside that for the CPU."""

    def __init__(self, broker: Mosquitto, folder: Path, device: str, *others: str) -> None:
        made = compiled_models.bundle(folder / "digits")
        (made / "digits.hef").write_bytes(hef(2, "HAILO8L", "digits", classes=11))
        manifest = yaml.safe_load((made / "model.yaml").read_text())
        del manifest["files"]
        manifest["variants"] = [{"for": "hailo8l", "file": "digits.hef"}, {"for": "cpu", "file": "digits.onnx"}]
        (made / "model.yaml").write_text(yaml.safe_dump(manifest))
        python = interpreter.make(folder / "system", with_runtimes=True)
        entry = {"chip": "hailo", "options": {"python": str(python)}}
        super().__init__(broker, folder / "daemon", device, path=str(made), accelerators=[entry, *others])
        self.control = Control(folder)
        self.daemon.environment |= {**self.control.environment, chips.VARIABLE: "hailo8l"}

    def errors(self) -> list[dict[str, Any]]:
        """What has been published about inputs that failed."""
        return [json.loads(one.payload) for one in self.client.messages if self.about("lab/error")(one)]


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        pytest.param({"hang": True}, "gives no answer for 1 s", id="hang"),
        pytest.param({"status": 96}, "HAILO_DEVICE_NOT_CONNECTED", id="lost"),
        pytest.param({"status": 4}, "HailoRTTimeout: Received a timeout", id="timeout", marks=pytest.mark.faults),
        pytest.param({"crash": True}, "its process has crashed (SIGSEGV)", id="crash", marks=pytest.mark.faults),
    ],
)
def test_an_input_is_answered_by_the_cpu_when_the_chip_fails_which_serves_again_once_it_can(
    harm: dict[str, Any], says: str, broker: Mosquitto, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with ChipScene(broker, tmp_path, f"chip-{request.node.callspec.id}", "cpu") as scene:
        facts = scene.told(moves=0)
        assert facts["in_use"].startswith("hailo")
        assert facts["fallback"] == ""
        scene.ask()
        assert scene.stats()["models"]["digits"]["temperature_c"] == 51.2
        scene.control.set(at="run", **harm)
        assert scene.ask() < TIMEOUT_S + 5
        facts = scene.told(moves=1)
        assert facts["in_use"] == "cpu"
        assert says in facts["fallback"]
        scene.control.set()
        assert scene.told(moves=2)["in_use"].startswith("hailo")
        scene.ask()
        counts = scene.counts()
        assert imbalance(counts) == ""
        assert (counts["captured"], counts["inferred"]) == (3, 3)
        assert scene.errors() == []


def test_without_another_accelerator_a_failure_is_an_error_and_the_process_is_started_again(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with ChipScene(broker, tmp_path, "alone") as scene:
        scene.ask()
        scene.control.set(at="run", status=87)
        scene.client.publish("alone/in", IMAGE)
        [error] = wait_until(scene.errors, 20, "the failure is published")
        assert "HAILO_DRIVER_TIMEOUT" in error["error"]
        assert "restart the machine" in error["error"]
        scene.control.set()

        def answered() -> bool:
            before = scene.stats()["pipelines"]["lab"]["inferred"]
            scene.client.publish("alone/in", IMAGE)
            return bool(scene.stats()["pipelines"]["lab"]["inferred"] > before)

        wait_until(answered, 20, "it serves again")
        counts = scene.counts()
        assert imbalance(counts) == ""
        assert counts["captured"] == counts["inferred"] + counts["dropped"]["failed"]
        results = [json.loads(one.payload) for one in scene.client.messages if scene.about("lab/result")(one)]
        assert {result["predictions"][0]["label"] for result in results} == {"5"}


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        pytest.param({"at": "VDevice", "status": 74}, "another process holds the device", id="held"),
        pytest.param({"at": "VDevice", "status": 76}, "run `edge-agent doctor`", id="skew", marks=pytest.mark.faults),
        pytest.param(
            {"import_error": "libhailort.so.4.20.0: cannot open shared object file"},
            "libhailort.so.4.20.0",
            id="binding",
            marks=pytest.mark.faults,
        ),
    ],
)
def test_a_chip_that_can_not_be_had_at_the_start_is_named_and_the_cpu_serves(
    harm: dict[str, Any], says: str, broker: Mosquitto, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    scene = ChipScene(broker, tmp_path, f"start-{request.node.callspec.id}", "cpu")
    scene.control.set(**harm)
    with scene:
        facts = scene.told(moves=0)
        assert facts["in_use"] == "cpu"
        assert says in facts["fallback"]
        scene.ask()
