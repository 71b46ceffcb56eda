"""A model that keeps its state inside of its file, and two topics at once."""

import json
from pathlib import Path

import numpy as np

from tests.broker import Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration


def test_a_second_topic_does_not_touch_the_state_of_the_first(
    broker: Mosquitto, data_dir: Path, tmp_path: Path
) -> None:
    model = str(data_dir / "met_in_the_wild" / "mww_okay_nabu_v2.tflite")
    config = configuration(
        broker,
        "ears",
        models={"word": {"path": model, "labels": "none"}},
        pipelines={"word": {"source": {"type": "mqtt", "topic": "ear/+"}, "model": "word"}},
    )
    features = [window.ravel().tolist() for window in np.random.default_rng(5).uniform(0, 20, (6, 3, 40)).round(2)]
    with Subscriber(broker.port, "edge/ears/#") as client, Daemon(tmp_path, config):
        for number, window in enumerate(features):
            client.publish("ear/left", json.dumps(window))
            client.wait_for(lambda message: message.topic == "edge/ears/word/result", number + 1)
            client.publish("ear/right", json.dumps(window))
        errors = client.wait_for(lambda message: message.topic == "edge/ears/word/error", len(features))
        results = client.wait_for(lambda message: message.topic == "edge/ears/word/result", len(features))
    assert all("ear/left came first" in json.loads(one.payload)["error"] for one in errors)
    assert {json.loads(one.payload)["input"]["topic"] for one in results} == {"ear/left"}
