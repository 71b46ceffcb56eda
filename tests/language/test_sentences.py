"""The bundled language model makes sentences of what is measured and found, as docs/language.md shows."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.models.shipped import shipped
from tests.broker import Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration
from tests.pages import blocks

pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
DEVICE = "shed-pi"
# Gets warmer for as long as anybody reads.
THERMOMETER = """
import itertools, json, time
for tenths in itertools.count(195):
    print(json.dumps({"temperature": tenths / 10, "humidity": 40}), flush=True)
    time.sleep(0.05)
"""


def shown() -> dict[str, Any]:
    """The example of the page, with a program in place of the serial port, and in less time."""
    [block] = [block for block in blocks("yaml", "# agent.yaml", "language.md") if "{readings}" in block.text]
    document: dict[str, Any] = yaml.safe_load(block.text)
    greenhouse = document["pipelines"]["greenhouse"]
    greenhouse["source"] = {"type": "command", "argv": [sys.executable, "-c", THERMOMETER], "format": "jsonl"}
    greenhouse["text"]["min_interval"] = "500ms"
    return document


def test_readings_and_anomalies_become_true_sentences(mosquitto: Mosquitto, tmp_path: Path) -> None:
    example = shown()
    prompt = example["pipelines"]["greenhouse"]["text"]["prompt"].replace("readings", "predictions")
    config = configuration(
        mosquitto,
        DEVICE,
        models=example["models"] | {"vibration": {"path": "vibration"}},
        pipelines=example["pipelines"]
        | {
            "pump": {"source": {"type": "mqtt", "topic": "pump"}, "model": "vibration"},
            "alarm": {
                "source": {"type": "pipeline", "name": "pump", "labels": ["anomaly"]},
                "model": "intents",
                "text": {"prompt": prompt},
            },
        },
    )
    damaged = (shipped("vibration") / "golden" / "anomaly_0.json").read_bytes()
    with Subscriber(mosquitto.port, f"edge/{DEVICE}/+/result") as listener, Daemon(tmp_path, config):
        listener.publish("pump", damaged)
        [warmer] = results(listener, "greenhouse")
        [alarm] = results(listener, "alarm")
    temperature, humidity = warmer["input"]["readings"]
    assert warmer["text"] == (
        f"At {time_of(warmer)} in the greenhouse, temperature has risen from {temperature['first']:g} to "
        f"{temperature['last']:g} and humidity is steady at {humidity['last']:g}."
    )
    score = alarm["input"]["parent"]["predictions"][0]["value"]
    assert alarm["text"] == (
        f"Alarm: at {time_of(alarm)} at the pump, something is not normal, the score is {score:.4g}."
    )


def results(listener: Subscriber, pipeline: str) -> list[dict[str, Any]]:
    topic = f"edge/{DEVICE}/{pipeline}/result"
    messages = listener.wait_for(lambda message: message.topic == topic, 1, 60.0)
    return [json.loads(message.payload) for message in messages][:1]


def time_of(result: dict[str, Any]) -> str:
    found = re.search(r"\d\d:\d\d", result["text"])
    assert found is not None
    return found[0]
