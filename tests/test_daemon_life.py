"""How the daemon starts, ends, and what it tells the service manager."""

import itertools
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge_agent.models.shipped import shipped
from tests.broker import Message, Mosquitto, Subscriber, free_port, wait_until
from tests.daemon import Daemon, configuration
from tests.sources.stream_server import StreamServer

DIGITS = shipped("digits")
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
CLIP = {"type": "video", "url": str(shipped("clips/meter.mp4"))}
END_S = 5.0


def config(broker: Mosquitto | str, device: str, *topics: str, **keys: Any) -> dict[str, Any]:
    """A pipeline for each topic, named like it."""
    pipelines = {topic: {"source": {"type": "mqtt", "topic": topic}, "model": "digits"} for topic in topics}
    return configuration(broker, device, models={"digits": {"path": str(DIGITS)}}, pipelines=pipelines | keys)


def on(topic: str) -> Callable[[Message], bool]:
    return lambda message: message.topic == topic


def statuses(client: Subscriber, device: str) -> list[str]:
    return [message.payload.decode() for message in client.messages if message.topic == f"edge/{device}/status"]


def end_well(daemon: Daemon) -> None:
    end = daemon.stop()
    assert end.code == 0, daemon.log()
    assert end.seconds < END_S
    assert "Traceback" not in daemon.log()
    assert "Fatal" not in daemon.log()


@pytest.fixture(scope="module")
def watched(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    """A daemon that was watched, with a limit of one second, and has ended."""
    folder = tmp_path_factory.mktemp("watched")
    limit = {"WATCHDOG_USEC": "1000000"}
    with Daemon(folder, config(broker, "watched", "in"), environment=limit) as daemon, Subscriber(broker.port) as sender:
        sender.publish("in", IMAGE)
        daemon.wait_for("WATCHDOG=1", 4)
        daemon.wait_for("STATUS=in 1 results")
        daemon.stop()
    return daemon


def test_it_is_ready_once_and_then_has_a_status(watched: Daemon) -> None:
    assert watched.count("READY=1") == 1
    states = [text for _, text in watched.notifications]
    assert states[0] == "READY=1"
    assert states[1].startswith("STATUS=")


def test_the_status_is_a_line_that_a_person_can_read(watched: Daemon) -> None:
    last = [text for _, text in watched.notifications if text.startswith("STATUS=")][-1]
    assert re.fullmatch(r"STATUS=in 1 results; 0 waiting; mqtt://127\.0\.0\.1:\d+", last)


def test_it_pings_the_watchdog_twice_within_its_limit(watched: Daemon) -> None:
    pings = [at for at, text in watched.notifications if text == "WATCHDOG=1"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(pings)]
    assert max(gaps) < 0.8
    assert min(gaps) > 0.3


def test_it_says_that_it_goes_down(watched: Daemon) -> None:
    assert watched.notifications[-1][1] == "STOPPING=1"


def test_it_is_ready_only_when_every_model_has_loaded(tmp_path: Path) -> None:
    (tmp_path / "broken.tflite").write_bytes((DIGITS / "digits.tflite").read_bytes()[:1000])
    broken = config("mqtt://127.0.0.1:1", "broken", "in")
    broken["models"]["digits"] = {"path": "broken.tflite", "labels": str(DIGITS / "labels.txt")}
    daemon = Daemon(tmp_path, broken).start(ready=False)
    assert daemon.wait().code == 2
    assert daemon.count("READY=1") == 0
    lines = [line for line in daemon.log().splitlines() if "agent.yaml:" in line]
    assert len(lines) == 1
    assert "models.digits" in lines[0]
    assert "Traceback" not in daemon.log()


def test_without_a_broker_it_is_ready_and_tries_on(tmp_path: Path) -> None:
    port = free_port()
    with Daemon(tmp_path, config(f"mqtt://127.0.0.1:{port}", "alone", "in")) as daemon:
        daemon.wait_for("STATUS=in 0 results; 0 waiting; no broker (mqtt://127.0.0.1:")
        end_well(daemon)


def test_after_sigkill_the_broker_says_offline_for_it(broker: Mosquitto, tmp_path: Path) -> None:
    with Daemon(tmp_path, config(broker, "killed", "in")) as daemon, Subscriber(broker.port, "#") as client:
        client.wait_for(on("edge/killed/status"))
        assert daemon.kill().code == -signal.SIGKILL
        client.wait_for(on("edge/killed/status"), 2)
        assert statuses(client, "killed") == ["online", "offline"]
    with Subscriber(broker.port, "edge/killed/status") as late:
        [status] = late.wait_for(on("edge/killed/status"))
    assert (status.payload, status.retain) == (b"offline", True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order(number: signal.Signals, broker: Mosquitto, tmp_path: Path) -> None:
    device = number.name.lower()
    with Daemon(tmp_path, config(broker, device, "in")) as daemon, Subscriber(broker.port, f"edge/{device}/#") as client:
        client.wait_for(on(f"edge/{device}/status"))
        daemon.signal(number)
        end = daemon.wait()
        assert (end.code, end.seconds < END_S) == (0, True)
        client.wait_for(on(f"edge/{device}/status"), 2)
    assert statuses(client, device) == ["online", "offline"]


def test_nothing_that_was_taken_is_lost_when_it_ends_in_the_middle_of_work(broker: Mosquitto, tmp_path: Path) -> None:
    count = 120
    slow = config(broker, "middle", "work/#")
    # Many regions make each input a long one.
    slow["pipelines"]["work"] = slow["pipelines"].pop("work/#") | {
        "regions": {f"r{number}": [0, 0, 1, 1] for number in range(200)},
        "top_k": 1,
    }
    daemon = Daemon(tmp_path, slow)
    with Subscriber(broker.port, "edge/middle/#") as client:
        daemon.start()
        for number in range(count):
            client.client.publish(f"work/{number}", IMAGE, 1)
        client.wait_for(on("edge/middle/work/result"), 5)
        end_well(daemon)
        client.wait_for(lambda message: message.payload == b"offline")
        answered = sum(map(on("edge/middle/work/result"), client.messages))
        assert answered < count
        daemon.start()
        client.wait_for(on("edge/middle/work/result"), count, timeout=60)

        def answers() -> set[str]:
            results = [m for m in client.messages if m.topic == "edge/middle/work/result"]
            return {json.loads(message.payload)["input"]["topic"] for message in results}

        wait_until(lambda: len(answers()) == count, 30, "every input is answered")
        end_well(daemon)


@pytest.mark.parametrize("pipelines", [1, 8])
def test_it_ends_in_time_when_the_broker_is_gone(pipelines: int, mosquitto: Mosquitto, tmp_path: Path) -> None:
    topics = [f"in{number}" for number in range(pipelines)]
    video = {"video": {"source": CLIP | {"fps": "max", "loop": True}, "model": "digits"}}
    with Daemon(tmp_path, config(mosquitto, "left", *topics, **video)) as daemon:
        daemon.wait_for("STATUS=")
        mosquitto.stop()
        wait_until(lambda: "connection lost" in daemon.log(), 10, "the loss is noticed")
        end_well(daemon)


@pytest.mark.parametrize("pipelines", [1, 8])
def test_it_ends_in_time_when_the_broker_hangs(pipelines: int, mosquitto: Mosquitto, tmp_path: Path) -> None:
    topics = [f"in{number}" for number in range(pipelines)]
    video = {"video": {"source": CLIP | {"fps": "max", "loop": True}, "model": "digits"}}
    settings = config(mosquitto, "stuck", *topics, **video)
    with Daemon(tmp_path, settings) as daemon, Subscriber(mosquitto.port, "#") as client:
        for topic in topics:
            client.publish(topic, IMAGE)
        client.wait_for(on("edge/stuck/video/result"), 10)
        assert mosquitto._process is not None
        mosquitto._process.send_signal(signal.SIGSTOP)
        try:
            before = len(daemon.notifications)
            wait_until(lambda: len(daemon.notifications) > before + 3, 10, "it goes on without the broker")
            end_well(daemon)
        finally:
            mosquitto._process.send_signal(signal.SIGCONT)


def test_it_ends_in_time_when_the_broker_hangs_from_the_beginning(mosquitto: Mosquitto, tmp_path: Path) -> None:
    assert mosquitto._process is not None
    mosquitto._process.send_signal(signal.SIGSTOP)
    daemon = Daemon(tmp_path, config(mosquitto, "early", "in"))
    try:
        daemon.start(ready=False)
        wait_until(lambda: "LiteRT" in daemon.log() or "Runtime" in daemon.log(), 20, "the model is loaded")
        end_well(daemon)
    finally:
        mosquitto._process.send_signal(signal.SIGCONT)


def test_it_ends_in_time_when_streams_hang(broker: Mosquitto, tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(StreamServer()) for _ in range(6)]
        streams = {
            f"stream{number}": {"source": {"type": "video", "url": server.url}, "model": "digits"}
            for number, server in enumerate(servers)
        }
        daemon = stack.enter_context(Daemon(tmp_path, config(broker, "streams", **streams)))
        client = stack.enter_context(Subscriber(broker.port, "edge/streams/#"))
        for number in range(len(servers)):
            client.wait_for(on(f"edge/streams/stream{number}/result"))
        for server in servers:
            server.stall()
        end_well(daemon)


class TestOnce:
    def run(self, folder: Path, settings: dict[str, Any], client: Subscriber | None = None) -> tuple[Daemon, int]:
        daemon = Daemon(folder, settings, arguments=("--once",)).start(ready=False)
        return daemon, daemon.wait(60).code

    def test_it_ends_with_0_when_every_source_has_ended_and_every_result_is_delivered(
        self, broker: Mosquitto, tmp_path: Path
    ) -> None:
        settings = config(
            broker,
            "once",
            video={"source": CLIP | {"fps": "max"}, "model": "digits"},
            images={"source": {"type": "images", "path": str(DIGITS / "golden" / "*.png")}, "model": "digits"},
        )
        with Subscriber(broker.port, "edge/once/#") as client:
            daemon, code = self.run(tmp_path, settings)
            results = client.wait_for(on("edge/once/video/result"), 200)
            assert len(client.wait_for(on("edge/once/images/result"), 14)) == 14
            client.wait_for(on("edge/once/status"), 2)
        assert code == 0, daemon.log()
        assert [json.loads(message.payload)["seq"] for message in results] == list(range(1, 201))
        stats = json.loads([m for m in client.messages if m.topic == "edge/once/stats"][-1].payload)
        assert stats["pipelines"]["video"]["acknowledged"] == 200
        assert statuses(client, "once") == ["online", "offline"]

    def test_it_ends_with_1_when_a_source_cannot_be_read_and_the_others_are_still_seen_through(
        self, broker: Mosquitto, tmp_path: Path
    ) -> None:
        (tmp_path / "text.mp4").write_text("no video\n" * 100)
        settings = config(
            broker,
            "failed",
            bad={"source": {"type": "video", "url": "text.mp4"}, "model": "digits"},
            video={"source": CLIP | {"fps": "max"}, "model": "digits"},
        )
        with Subscriber(broker.port, "edge/failed/#") as client:
            daemon, code = self.run(tmp_path, settings)
            client.wait_for(on("edge/failed/video/result"), 200)
            [message] = client.wait_for(on("edge/failed/bad/error"))
        assert code == 1
        sentence = f"{tmp_path / 'text.mp4'}: is a text file, not a video"
        error = json.loads(message.payload)
        assert (error["error"], error["input"]) == (sentence, None)
        assert sentence in daemon.log()
        assert "Traceback" not in daemon.log()

    def test_it_waits_for_a_broker_that_comes_late(self, mosquitto: Mosquitto, tmp_path: Path) -> None:
        mosquitto.stop()
        settings = config(mosquitto, "late", video={"source": CLIP | {"fps": "max"}, "model": "digits"})
        daemon = Daemon(tmp_path, settings, arguments=("--once",)).start()
        wait_until((tmp_path / "outbox.db").exists, 20, "results wait")
        mosquitto.start()
        with Subscriber(mosquitto.port, "edge/late/#") as client:
            results = client.wait_for(on("edge/late/video/result"), 200, timeout=30)
        assert daemon.wait().code == 0
        assert sorted(json.loads(message.payload)["seq"] for message in results) == list(range(1, 201))


def test_a_camera_that_is_not_there_is_said_and_the_daemon_goes_on(broker: Mosquitto, tmp_path: Path) -> None:
    settings = config(broker, "blind", "in", camera={"source": {"type": "camera", "device": 99}, "model": "digits"})
    with Subscriber(broker.port, "edge/blind/#") as client, Daemon(tmp_path, settings) as daemon:
        [message] = client.wait_for(on("edge/blind/camera/error"))
        error = json.loads(message.payload)["error"]
        assert error == "camera 99: /dev/video99 can't be opened: there is no such device: is the camera plugged in?"
        client.publish("in", IMAGE)
        client.wait_for(on("edge/blind/in/result"))
        assert daemon.log().count(error) == 1
        end_well(daemon)


def test_an_idle_daemon_costs_next_to_nothing(broker: Mosquitto, tmp_path: Path) -> None:
    settings = config(broker, "idle", *(f"in{number}" for number in range(4))) | {"stats_interval": "10s"}
    with Daemon(tmp_path, settings) as daemon:
        ticks = os.sysconf("SC_CLK_TCK")

        def used() -> float:
            fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / ticks

        before, began = used(), time.monotonic()
        subprocess.run(["sleep", "2"], check=True)
        assert (used() - before) / (time.monotonic() - began) < 0.03
