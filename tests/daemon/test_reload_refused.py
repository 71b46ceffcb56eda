"""SIGHUP to what can't be had here: one sentence, and what ran goes on."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from edge_agent.models.shipped import shipped
from tests.broker import PATIENCE, Mosquitto, Subscriber, free_port, wait_until
from tests.daemon_process import Daemon, configuration

DIGITS = shipped("digits")
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
ONNX = {
    "path": str(DIGITS / "digits.onnx"),
    "labels": str(DIGITS / "labels.txt"),
    "preprocess": {"color": "gray", "normalize": {"mean": 0, "std": 255}},
}
RESULT = "edge/bare/a/result"
# A daemon, and all that it starts, has none of the optional packages but the runtime for .tflite models.
WITHOUT = """\
import sys

ABSENT = {"onnxruntime", "onnxruntime_genai", "llguidance", "xllamacpp", "serial", "av", "tuf"}
ABSENT |= {"prometheus_client", "waitress", "amqtt"}

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


class Scene:
    def __init__(self, daemon: Daemon, client: Subscriber, config: dict[str, Any]) -> None:
        self.daemon, self.client, self.config = daemon, client, config

    def reload(self) -> str:
        """Reloads; what is logged meanwhile."""
        before = len(self.daemon.log())
        self.daemon.reload()
        return self.daemon.log()[before:]

    def refused(self, edit: Callable[[dict[str, Any]], object]) -> str:
        """Reloads a changed configuration, which has to be refused; the sentence."""
        config = deepcopy(self.config)
        edit(config)
        self.daemon.configure(config)
        return self.refusal()

    def refusal(self) -> str:
        sentence, verdict = (line.split(maxsplit=2)[2] for line in self.reload().splitlines())
        assert verdict == "the new configuration is invalid: keeping the old one"
        self.answers()
        return sentence

    def answers(self) -> None:
        """What ran before goes on."""
        before = sum(message.topic == RESULT for message in self.client.messages)
        self.client.publish("to/a", IMAGE)
        self.client.wait_for(lambda message: message.topic == RESULT, before + 1)


@pytest.fixture(scope="module")
def scene(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(WITHOUT)
    config = configuration(
        broker,
        "bare",
        models={"digits": {"path": str(DIGITS)}},
        pipelines={"a": {"source": {"type": "mqtt", "topic": "to/a"}, "model": "digits"}},
    )
    environment = {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    with Subscriber(broker.port, "edge/#") as client, Daemon(folder, config, environment=environment) as daemon:
        yield Scene(daemon, client, config)
        assert daemon.stop().code == 0
        assert "Traceback" not in daemon.log()


def sensor(config: dict[str, Any]) -> None:
    config["models"]["pump"] = {"path": str(shipped("vibration"))}
    source = {"type": "serial", "port": "/dev/null", "format": "csv"}
    config["pipelines"]["pump"] = {"source": source, "model": "pump"}


def yard(config: dict[str, Any]) -> None:
    source = {"type": "video", "url": "rtsp://127.0.0.1:1/main", "watch": "packets"}
    config["pipelines"]["yard"] = {"source": source, "model": "digits"}


def intents(config: dict[str, Any]) -> None:
    config["models"]["intents"] = {"path": str(shipped("intents"))}
    config["pipelines"]["b"] = {"source": {"type": "mqtt", "topic": "to/b"}, "model": "intents"}


def updates(config: dict[str, Any]) -> None:
    config["update"] = {
        "url": "http://127.0.0.1:1/",
        "root": str(DIGITS / "labels.txt"),
        "models": {"digits": "stable"},
    }


@pytest.mark.parametrize(
    ("edit", "needed"),
    [
        (lambda c: c["models"].update(digits=ONNX), "running .onnx models needs"),
        (lambda c: c["models"].update(digits=ONNX | {"accelerators": ["openvino"]}), "running .onnx models needs"),
        (intents, "running language models needs"),
        (sensor, "reading a serial port needs"),
        (yard, "`watch` with another value than its default needs"),
        (updates, "updating models needs"),
        (lambda c: c.update(metrics={}), "serving metrics needs"),
        (lambda c: c.update(http={}), "serving http needs"),
        (lambda c: c["mqtt"].update(url="embedded"), "`embedded` needs"),
    ],
    ids=["onnx", "openvino", "language", "serial", "video", "update", "metrics", "http", "embedded"],
)
def test_a_package_that_is_not_installed(edit: Callable[[dict[str, Any]], None], needed: str, scene: Scene) -> None:
    sentence = scene.refused(edit)
    assert f"{needed} a package that is not installed: " in sentence
    assert " install " in sentence


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda c: c.update(pipelines={}), "pipelines: none are configured, so there is nothing to run"),
        (lambda c: c.clear(), "pipelines: none are configured, so there is nothing to run"),
        (lambda c: c["pipelines"]["a"].update(source={"type": "command", "argv": ["gone"], "format": "mjpeg"}),
         "pipelines.a.source.argv: there is no program gone: install it, or give its path"),
        (lambda c: c["mqtt"].update(url="mqtts://127.0.0.1", ca_file="agent.yaml"), "mqtt.ca_file: "),
    ],
    ids=["no-pipelines", "empty", "program", "certificate"],
)  # fmt: skip
def test_what_run_refuses_as_well(edit: Callable[[dict[str, Any]], None], sentence: str, scene: Scene) -> None:
    assert sentence in scene.refused(edit)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "gone", "text", "deep", "self", "bomb", "huge"])
def test_what_is_no_configuration(kind: str, scene: Scene) -> None:
    file = scene.daemon.config_file
    file.unlink()
    match kind:
        case "fifo":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
        case "folder":
            file.mkdir()
        case "text":
            file.write_bytes(bytes(range(256)))
        case "deep":
            file.write_text("[" * 10_000)
        case "self":
            file.write_text("a: &a {<<: [*a, *a], b: *a}\n")
        case "bomb":
            lines = (f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]\n" for n in range(1, 9))
            file.write_text("b0: &b0 [x]\n" + "".join(lines))
        case "huge":
            file.write_text("#" * 2_000_000)
    try:
        assert scene.refusal().startswith(str(file))
    finally:
        file.rmdir() if kind == "folder" else file.unlink(missing_ok=True)
    scene.daemon.configure(scene.config)
    assert "configuration reloaded" in scene.reload()


def test_many_signals_are_few_reloads_and_do_not_delay_the_end(broker: Mosquitto, tmp_path: Path) -> None:
    config = configuration(
        broker,
        "hasty",
        models={"digits": {"path": str(DIGITS)}},
        pipelines={"a": {"source": {"type": "mqtt", "topic": "to/hasty"}, "model": "digits"}},
    )
    with Daemon(tmp_path, config) as daemon:
        for number in range(200):
            config["pipelines"]["a"]["top_k"] = number + 1
            daemon.configure(config)
            daemon.signal(signal.SIGHUP)
        end = daemon.stop()
    assert (end.code, end.seconds < 5 * PATIENCE) == (0, True)
    assert daemon.log().count("configuration reloaded") < 50
    assert "Traceback" not in daemon.log()


def test_addresses_are_bound_before_anything_stops(broker: Mosquitto, tmp_path: Path) -> None:
    metrics, page = free_port(), free_port()
    config = configuration(
        broker,
        "served",
        models={"digits": {"path": str(DIGITS)}},
        pipelines={"a": {"source": {"type": "mqtt", "topic": "to/served"}, "model": "digits"}},
        metrics={"listen": f"127.0.0.1:{metrics}"},
        http={"listen": f"127.0.0.1:{page}"},
    )
    with (
        Daemon(tmp_path, config) as daemon,
        Subscriber(broker.port, "edge/served/#") as client,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        scene = Scene(daemon, client, config)
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        daemon.configure(config | {"metrics": {"listen": taken}, "http": {"listen": f"127.0.0.1:{free_port()}"}})
        assert f"metrics.listen: {taken} can't be listened at: Address already in use" in scene.reload()
        # What was begun for a change that is then refused is ended: an embedded broker, a server.
        threads = daemon.threads()
        daemon.configure(config | {"mqtt": {"url": "embedded"}, "metrics": {"listen": taken}})
        assert "keeping the old one" in scene.reload()
        wait_until(lambda: daemon.threads() == threads, 10, "nothing is left")
        status = get(page, "/status.json")
        assert (json.loads(status)["device_id"], b"edge_agent_info" in get(metrics, "/metrics")) == ("served", True)
        # The same address with other options, and the addresses of both exchanged.
        hosts = {"listen": f"127.0.0.1:{metrics}", "hosts": ["porch.example"]}
        daemon.configure(config | {"metrics": {"listen": f"127.0.0.1:{page}"}, "http": hosts})
        assert "configuration reloaded" in scene.reload()
        assert b"edge_agent_info" in get(page, "/metrics")
        assert json.loads(get(metrics, "/status.json", "porch.example"))["device_id"] == "served"


def get(port: int, path: str, host: str = "127.0.0.1") -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            return answer.read().partition(b"\r\n\r\n")[2]
