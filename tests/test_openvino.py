"""A second execution provider that is no toy: OpenVINO, on the CPU."""

import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.counters import imbalance
from edge_agent.models import model as models
from edge_agent.models.shipped import shipped
from tests.broker import Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration

pytestmark = pytest.mark.openvino

DIGITS = shipped("digits")
NPU = {"provider": "OpenVINOExecutionProvider", "options": {"device_type": "NPU"}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def accelerator(path: Path, *accelerators: Any, **options: Any) -> dict[str, Any]:
    """What a loaded model says of its accelerator."""
    model = settings.Model.model_validate({"path": path, "accelerators": accelerators, **options})
    loaded = models.load("it", model, Path.cwd())
    facts = loaded.accelerator_facts()
    loaded.close()
    return facts


def test_it_takes_the_whole_of_a_bundle_that_proves_itself_there() -> None:
    facts = accelerator(DIGITS, "openvino", "cpu")
    assert (facts["in_use"], facts["fallback"]) == ("openvino", "")
    assert facts["share"]["on"] == facts["share"]["of"] > 0
    assert facts["speed_up"] > 0


def test_the_share_of_a_model_that_it_takes_only_in_part_is_told(data_dir: Path) -> None:
    path = data_dir / "classify_onnx" / "mobilenet_v2_quant.onnx"
    facts = accelerator(path, "openvino", "cpu", labels="none", preprocess={"normalize": "imagenet"})
    if facts["in_use"] == "openvino":
        assert 0 < facts["share"]["on"] < facts["share"]["of"]
    else:
        assert "gives other answers than on the CPU" in facts["fallback"]


def test_a_device_that_it_lacks_is_no_silent_fallback() -> None:
    facts = accelerator(DIGITS / "digits.onnx", NPU, "cpu")
    assert facts["in_use"] == "cpu"
    assert facts["fallback"].endswith(
        "ONNX Runtime can't set up OpenVINOExecutionProvider: look at its device, driver and options"
    )


def test_a_provider_that_this_build_lacks_is_told_with_what_to_install() -> None:
    facts = accelerator(DIGITS, "cuda", "openvino")
    assert facts["in_use"] == "openvino"
    assert (
        "has no CUDAExecutionProvider, only OpenVINOExecutionProvider, CPUExecutionProvider: install "
        in facts["fallback"]
    )


def test_a_daemon_serves_on_it_and_says_so(mosquitto: Mosquitto, tmp_path: Path) -> None:
    model = {"path": str(DIGITS), "accelerators": ["openvino", "cpu"]}
    pipelines = {"lab": {"source": {"type": "mqtt", "topic": "in"}, "model": "digits"}}
    document = configuration(mosquitto, "ov", models={"digits": model}, pipelines=pipelines)
    with Subscriber(mosquitto.port, "edge/ov/#") as subscriber, Daemon(tmp_path, document):

        def latest(topic: str) -> Any:
            return json.loads(subscriber.wait_for(lambda one: one.topic == f"edge/ov/{topic}")[-1].payload)

        assert latest("accelerator")["models"]["digits"]["in_use"] == "openvino"
        subscriber.publish("in", (DIGITS / "golden" / "5_printed.png").read_bytes())
        assert latest("lab/result")["predictions"][0]["label"] == "5"
        assert imbalance(latest("stats")["pipelines"]["lab"]) == ""
