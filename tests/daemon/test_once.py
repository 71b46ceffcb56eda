"""`run --once`: ends by itself, and says with its exit code how it went."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.models.shipped import shipped
from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon, configuration

DIGITS = shipped("digits")
CLIP = {"type": "video", "url": str(shipped("clips/meter.mp4"))}


def config(broker: Mosquitto, device: str, **pipelines: Any) -> dict[str, Any]:
    return configuration(broker, device, models={"digits": {"path": str(DIGITS)}}, pipelines=pipelines)


def on(topic: str) -> Callable[[Message], bool]:
    return lambda message: message.topic == topic


def run(folder: Path, settings: dict[str, Any]) -> tuple[Daemon, int]:
    daemon = Daemon(folder, settings, arguments=("--once",)).start(ready=False)
    return daemon, daemon.wait(60).code


def test_it_ends_with_0_when_every_source_has_ended_and_every_result_is_delivered(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = config(
        broker,
        "once",
        video={"source": CLIP | {"fps": "max"}, "model": "digits"},
        images={"source": {"type": "images", "path": str(DIGITS / "golden" / "*.png")}, "model": "digits"},
    )
    with Subscriber(broker.port, "edge/once/#") as client:
        daemon, code = run(tmp_path, settings)
        results = client.wait_for(on("edge/once/video/result"), 200)
        assert len(client.wait_for(on("edge/once/images/result"), 14)) == 14
        client.wait_for(on("edge/once/status"), 2)
    assert code == 0, daemon.log()
    assert [json.loads(message.payload)["seq"] for message in results] == list(range(1, 201))
    stats = json.loads([m for m in client.messages if m.topic == "edge/once/stats"][-1].payload)
    assert stats["pipelines"]["video"]["acknowledged"] == 200
    statuses = [message.payload for message in client.messages if message.topic == "edge/once/status"]
    assert statuses == [b"online", b"offline"]


def test_it_ends_with_1_when_a_source_cannot_be_read_and_the_others_are_still_seen_through(
    broker: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    settings = config(
        broker,
        "failed",
        bad={"source": {"type": "video", "url": "text.mp4"}, "model": "digits"},
        video={"source": CLIP | {"fps": "max"}, "model": "digits"},
    )
    with Subscriber(broker.port, "edge/failed/#") as client:
        daemon, code = run(tmp_path, settings)
        client.wait_for(on("edge/failed/video/result"), 200)
        [message] = client.wait_for(on("edge/failed/bad/error"))
    assert code == 1
    sentence = f"{tmp_path / 'text.mp4'}: is a text file, not a video"
    error = json.loads(message.payload)
    assert (error["error"], error["input"]) == (sentence, None)
    assert sentence in daemon.log()
    assert "Traceback" not in daemon.log()


def test_it_waits_for_a_broker_that_comes_late(mosquitto: Mosquitto, tmp_path: Path) -> None:
    mosquitto.stop()
    settings = config(mosquitto, "late", video={"source": CLIP | {"fps": "max"}, "model": "digits"})
    daemon = Daemon(tmp_path, settings, arguments=("--once",)).start()
    wait_until((tmp_path / "outbox.db").exists, 20, "results wait")
    mosquitto.start()
    assert daemon.wait(60).code == 0
    assert "video: captured 200: 200 inferred, 0 left, dropped: none; produced 200: 200 acknowledged" in daemon.log()
