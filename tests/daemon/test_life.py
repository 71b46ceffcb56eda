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

import numpy as np
import pytest

from edge_agent.models.shipped import shipped
from edge_agent.preprocess.opencv import cv2
from tests.broker import PATIENCE, Message, Mosquitto, Subscriber, free_port, wait_until
from tests.daemon_process import Daemon, configuration
from tests.sources.stream_server import StreamServer

DIGITS = shipped("digits")
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
CLIP = {"type": "video", "url": str(shipped("clips/meter.mp4"))}
END_S = 5.0 * PATIENCE


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
    """A daemon that was watched, with a limit of two seconds, and has ended."""
    folder = tmp_path_factory.mktemp("watched")
    limit = {"WATCHDOG_USEC": "2000000"}
    with (
        Daemon(folder, config(broker, "watched", "in"), environment=limit) as daemon,
        Subscriber(broker.port) as sender,
    ):
        sender.publish("in", IMAGE)
        daemon.wait_for("WATCHDOG=1", 4)
        daemon.wait_for("STATUS=in 1 result;")
        daemon.stop()
    return daemon


def test_it_is_ready_once_and_then_has_a_status(watched: Daemon) -> None:
    assert watched.count("READY=1") == 1
    states = [text for _, text in watched.notifications if text != "WATCHDOG=1"]
    assert states[0] == "READY=1"
    assert states[1].startswith("STATUS=")


def test_the_status_is_a_line_that_a_person_can_read(watched: Daemon) -> None:
    last = [text for _, text in watched.notifications if text.startswith("STATUS=")][-1]
    assert re.fullmatch(r"STATUS=in 1 result; 0 waiting; mqtt://127\.0\.0\.1:\d+", last)


def test_it_pings_the_watchdog_twice_within_its_limit(watched: Daemon) -> None:
    pings = [at for at, text in watched.notifications if text == "WATCHDOG=1"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(pings)]
    assert max(gaps) < 2.0 * PATIENCE  # the limit
    assert 0.6 < sum(gaps) / len(gaps) < 1.6


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


@pytest.mark.parametrize("name", ["model_invoking_error", "person_detect_vela", "sentencepiece_tokenizer_flex_op"])
def test_a_model_that_cannot_serve_ends_it_with_one_sentence(name: str, data_dir: Path, tmp_path: Path) -> None:
    settings = config("mqtt://127.0.0.1:1", "broken", "in")
    settings["models"]["digits"] = {"path": str(data_dir / "bad_models" / f"{name}.tflite"), "labels": "none"}
    daemon = Daemon(tmp_path, settings).start(ready=False)
    assert daemon.wait().code == 2
    [line] = daemon.log().splitlines()
    assert line.startswith(f"{daemon.config_file}:")
    assert f"models.digits: {data_dir / 'bad_models' / name}.tflite: " in line


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
    with (
        Daemon(tmp_path, config(broker, device, "in")) as daemon,
        Subscriber(broker.port, f"edge/{device}/#") as client,
    ):
        client.wait_for(on(f"edge/{device}/status"))
        daemon.signal(number)
        end = daemon.wait()
        assert (end.code, end.seconds < END_S) == (0, True)
        client.wait_for(on(f"edge/{device}/status"), 2)
    assert statuses(client, device) == ["online", "offline"]


@pytest.mark.parametrize("size", ["small", "large"])
def test_nothing_that_was_taken_is_lost_when_it_ends_in_the_middle_of_work(
    size: str, broker: Mosquitto, tmp_path: Path
) -> None:
    # Many regions of a large picture take so long that the work in hand can't be finished in time.
    picture = IMAGE if size == "small" else cv2.imencode(".jpg", np.zeros((1500, 2000, 3), np.uint8))[1].tobytes()
    count, regions = (60, 200) if size == "small" else (2, 250)
    settings = config(broker, size, "work")
    settings["pipelines"]["work"] |= {
        "source": {"type": "mqtt", "topic": "work/+"},
        "regions": {f"r{number}": [0, 0, 1, 1] for number in range(regions)},
        "top_k": 1,
    }
    daemon = Daemon(tmp_path, settings)
    with Subscriber(broker.port, f"edge/{size}/#") as client:
        daemon.start()
        for number in range(count):
            client.client.publish(f"work/{number}", picture, 1)
        if size == "small":
            client.wait_for(on(f"edge/{size}/work/result"))
        end_well(daemon)
        client.wait_for(lambda message: message.payload == b"offline")
        daemon.start()

        def answers() -> set[str]:
            results = [message for message in client.messages if message.topic == f"edge/{size}/work/result"]
            return {json.loads(message.payload)["input"]["topic"] for message in results}

        wait_until(lambda: len(answers()) == count, 60, "every input is answered")
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

        def rested() -> bool:
            before = used()
            time.sleep(0.3)  # what is measured is time
            return used() == before

        wait_until(rested, 10, "what belongs to the start is over")
        before, began = used(), time.monotonic()
        subprocess.run(["sleep", "2"], check=True)
        assert (used() - before) / (time.monotonic() - began) < 0.03
