"""What keeps a pipeline from working is where its owner looks, and so is that it works again."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon, configuration
from tests.mqtt.scripted_broker import ScriptedBroker
from tests.scenarios import DIGITS, MODELS, lab

FRAMES = "test -e camera && cat camera && while test -e camera; do sleep 0.05; done; exit 1"


def cameras(broker: Mosquitto) -> dict[str, Any]:
    camera = {"type": "command", "argv": ["sh", "-c", FRAMES], "format": "raw", "width": 28, "height": 28}
    source = camera | {"pixel_format": "gray8"}
    finite = {"type": "images", "path": str(DIGITS / "golden" / "5_printed.png")}
    pipelines = {"cam": {"source": source, "model": "digits"}, "album": {"source": finite, "model": "digits"}}
    return configuration(broker, "seen", models=MODELS, pipelines=pipelines, stats_interval="1s")


def test_a_camera_that_is_away_makes_its_pipeline_offline_until_it_is_back(broker: Mosquitto, tmp_path: Path) -> None:
    camera = tmp_path / "camera"

    def says(topic: str, payload: bytes) -> Any:
        return lambda message: (message.topic, message.payload) == (f"edge/seen/{topic}", payload)

    def problem_of(message: Message) -> str:
        return str(json.loads(message.payload)["pipelines"]["cam"]["problem"])

    def infos() -> list[str]:
        return [problem_of(message) for message in list(client.messages) if message.topic == "edge/seen/info"]

    with Subscriber(broker.port, "edge/seen/#") as client, Daemon(tmp_path, cameras(broker)) as daemon:
        client.wait_for(says("cam/status", b"offline"))
        wait_until(lambda: infos()[-1] != "", 10, "the reason")
        camera.write_bytes(bytes(28 * 28))
        client.wait_for(lambda message: message.topic == "edge/seen/cam/result", timeout=30)
        wait_until(lambda: infos()[-1] == "", 10, "no reason")
        camera.unlink()
        wait_until(lambda: infos()[-1] != "", 30, "the reason")
        states = [message.payload for message in client.messages if message.topic == "edge/seen/cam/status"]
        assert (states[-1], states[-2]) == (b"offline", b"online")
        assert not any(says("album/status", b"offline")(message) for message in client.messages)
        # A pipeline that a reload removes leaves nothing with the broker.
        config = cameras(broker)
        del config["pipelines"]["cam"]
        daemon.config_file.write_text(yaml.safe_dump(config))
        daemon.reload()
        client.wait_for(says("cam/status", b""))
        with Subscriber(broker.port, "edge/seen/+/status", "end") as late:
            late.publish("end", "")
            late.wait_for(lambda message: message.topic == "end")
            assert {message.topic for message in late.messages} == {"edge/seen/album/status", "end"}


def test_a_refused_subscription_is_published_and_so_is_that_it_is_granted(tmp_path: Path) -> None:
    with ScriptedBroker(suback=0x87) as refusing, Daemon(tmp_path, lab(f"mqtt://127.0.0.1:{refusing.port}", "deaf")):

        def latest(topic: str) -> bytes:
            return next((one.payload for one in reversed(refusing.published) if one.topic == f"edge/deaf/{topic}"), b"")

        wait_until(lambda: latest("lab/status") == b"offline", 20, "the pipeline is offline")
        wait_until(lambda: bool(latest("info")), 20, "and its facts are published")
        why = json.loads(latest("info"))["pipelines"]["lab"]["problem"]
        assert "the broker refuses the subscription to in/#: Not authorized" in why
        wait_until(lambda: latest("lab/error"), 10, "it is an error too")
        assert json.loads(latest("lab/error")) | {"error": why, "input": None} == json.loads(latest("lab/error"))
        refusing.suback = 1
        wait_until(lambda: latest("lab/status") == b"online", 20, "it hears again")
        wait_until(lambda: json.loads(latest("info"))["pipelines"]["lab"]["problem"] == "", 20, "and says so")
