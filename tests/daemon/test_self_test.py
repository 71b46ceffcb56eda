"""A running daemon is given models that do harm: it refuses them, and goes on with what it has."""

import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edge_agent.models.shipped import shipped
from tests.broker import PATIENCE, Message, Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration
from tests.models.hostile_models import crashing_tflite, hanging_onnx, memory_eating_onnx

DIGITS = shipped("digits")
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
DEVICE = "tried"
REFUSED = "the new configuration is invalid: keeping the old one"


class Scene:
    """A daemon that reads digits, and somebody who gives it models and sends it pictures."""

    def __init__(self, broker: Mosquitto, daemon: Daemon, client: Subscriber) -> None:
        self.broker = broker
        self.daemon = daemon
        self.client = client
        self._answers = 0

    def configure_with(self, path: Path) -> None:
        """Adds a pipeline with this model to the configuration file."""
        self.daemon.configure(_config(self.broker, new={"path": str(path)}))

    def answers(self) -> bool:
        """Whether a picture is answered, as before."""
        self._answers += 1
        self.client.publish("lab", IMAGE)
        return len(self.client.wait_for(_is_result, self._answers)) == self._answers


def _is_result(message: Message) -> bool:
    return message.topic == f"edge/{DEVICE}/lab/result"


def _config(broker: Mosquitto, **more: dict[str, str]) -> dict[str, Any]:
    stated = {"labels": "none", "preprocess": {"normalize": "unit"}}
    models = {"digits": {"path": str(DIGITS)}, **{name: stated | options for name, options in more.items()}}
    pipelines = {"lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"}}
    pipelines |= {name: {"source": {"type": "mqtt", "topic": name}, "model": name} for name in more}
    return configuration(broker, DEVICE, models=models, pipelines=pipelines)


@pytest.fixture
def scene(broker: Mosquitto, tmp_path: Path) -> Iterator[Scene]:
    with (
        Subscriber(broker.port, f"edge/{DEVICE}/#") as client,
        Daemon(tmp_path, _config(broker), environment={"WATCHDOG_USEC": "4000000"}) as daemon,
    ):
        yield Scene(broker, daemon, client)
        assert daemon.stop().code == 0
        assert "Traceback" not in daemon.log()


def _hungry(folder: Path) -> Path:
    path = folder / "hungry.onnx"
    path.write_bytes(memory_eating_onnx(10**12))
    return path


def _hanging(folder: Path) -> Path:
    path = folder / "hanging.onnx"
    path.write_bytes(hanging_onnx())
    return path


@pytest.mark.parametrize(
    ("model", "sentence"), [(crashing_tflite, "crashes the runtime (SIG"), (_hungry, "needs more than the ")]
)
def test_a_model_that_does_harm_is_refused_and_the_daemon_goes_on(
    model: Callable[[Path], Path], sentence: str, scene: Scene, tmp_path: Path
) -> None:
    assert scene.answers()
    memory = scene.daemon.memory()
    scene.configure_with(model(tmp_path))
    scene.daemon.reload()
    assert sentence in scene.daemon.log()
    assert REFUSED in scene.daemon.log()
    assert scene.answers()
    assert scene.daemon.memory() < memory + 30


@pytest.mark.faults  # a hanging model is waited for
def test_while_a_model_hangs_pictures_are_answered_and_the_watchdog_is_kept_quiet(scene: Scene, tmp_path: Path) -> None:
    scene.configure_with(_hanging(tmp_path))
    asked, pings = len(scene.daemon.notifications), scene.daemon.count("WATCHDOG=1")
    scene.daemon.signal(signal.SIGHUP)
    scene.daemon.wait_for("WATCHDOG=1", pings + 10)
    assert scene.answers()
    scene.daemon.wait_for("READY=1", 2, timeout=60)
    assert "the model hangs, or is too large for this machine" in scene.daemon.log()
    assert REFUSED in scene.daemon.log()
    told = [at for at, text in scene.daemon.notifications[asked:] if text.startswith("WATCHDOG=1")]
    assert max(later - sooner for sooner, later in pairwise(told)) < 4
    assert scene.answers()


def test_a_daemon_that_is_told_to_stop_does_not_wait_for_a_hanging_model(scene: Scene, tmp_path: Path) -> None:
    scene.configure_with(_hanging(tmp_path))
    scene.daemon.signal(signal.SIGHUP)
    scene.daemon.wait_for("RELOADING=1")
    scene.daemon.wait_for("WATCHDOG=1", scene.daemon.count("WATCHDOG=1") + 2)
    end = scene.daemon.stop()
    assert end.code == 0
    assert end.seconds < 5 * PATIENCE
    scene.daemon.configure(_config(scene.broker))
    scene.daemon.start()  # the fixture ends it once more


def test_a_daemon_that_is_told_to_stop_while_it_starts_does_not_wait_either(broker: Mosquitto, tmp_path: Path) -> None:
    config = _config(broker, new={"path": str(_hanging(tmp_path))})
    daemon = Daemon(tmp_path, config, environment={"WATCHDOG_USEC": "1"})
    daemon.start(ready=False)
    daemon.wait_for("WATCHDOG=1")
    end = daemon.stop()
    assert end.code == 0
    assert end.seconds < 5 * PATIENCE
