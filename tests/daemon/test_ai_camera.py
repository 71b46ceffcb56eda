"""What a subscriber gets of an AI Camera that stalls: a stand-in for the program, everything else real."""

import json
import sys
from pathlib import Path

from edge_agent.counters import imbalance
from tests.broker import Message, Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration
from tests.stand_ins import rpicam_vid
from tests.stand_ins.control import VARIABLE, Control

NETWORK = "imx500_network_ssd_mobilenetv2_fpnlite_320x320_pp.rpk"
# See tests/sources/test_ai_camera.py.
ONLINE = ("edge/yard-pi/yard/status", b"online")
SEEN = {"numbers": 601, "values": [(0, 0.25), (100, 0.5), (200, 0.75), (300, 1.0), (400, 0.9), (500, 2.0), (600, 1.0)]}


def test_a_sensor_that_stalls_while_frames_go_on_is_published_counted_and_back_by_itself(
    broker: Mosquitto, data_dir: Path, tmp_path: Path
) -> None:
    control = Control(tmp_path)
    program = tmp_path / "rpicam-vid"
    program.write_text(f'#!/bin/sh\n{VARIABLE}={control.path} exec {sys.executable} -I -S {rpicam_vid.__file__} "$@"\n')
    program.chmod(0o755)
    source = {"type": "ai_camera", "model": "objects", "program": "./rpicam-vid", "stall_timeout": "1s"}
    config = configuration(
        broker,
        "yard-pi",
        models={"objects": {"path": str(data_dir / "compiled" / NETWORK)}},
        pipelines={"yard": {"source": source, "min_confidence": 0.5}},
    )

    def about(topic: str) -> list[Message]:
        return [message for message in client.messages if message.topic == f"edge/yard-pi/{topic}"]

    control.set(**SEEN, no_tensors_after=20)
    with Subscriber(broker.port, "edge/yard-pi/#") as client, Daemon(tmp_path, config) as daemon:
        client.wait_for(lambda message: message.topic == "edge/yard-pi/yard/error", timeout=20)
        control.set(**SEEN)
        before = len(about("yard/result"))
        client.wait_for(lambda message: message.topic == "edge/yard-pi/yard/result", before + 20, timeout=20)
        client.wait_for(lambda message: (message.topic, message.payload) == ONLINE, 2, timeout=20)
        assert daemon.stop().code == 0
        stats = json.loads(about("stats")[-1].payload)
    error = json.loads(about("yard/error")[0].payload)
    assert "frames come, but no results of the network" in error["error"]
    counts = stats["pipelines"]["yard"]
    assert imbalance(counts) == ""
    assert counts["restarts"] >= 1
    result = json.loads(about("yard/result")[-1].payload)
    [found] = result["predictions"]
    assert (result["task"], result["input"]["camera"], found["class_id"]) == ("detection", "imx500", 2)
    assert [round(edge) for edge in found["box"]] == [640, 240, 1280, 720]
    info = json.loads(about("info")[-1].payload)
    assert info["models"]["objects"]["accelerator"]["in_use"] == "imx500"
    assert [message.payload for message in about("yard/status")][:3] == [b"online", b"offline", b"online"]
