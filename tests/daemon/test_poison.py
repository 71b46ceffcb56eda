"""An input at which the agent ends again and again is given up, and the others are answered."""

import json
from pathlib import Path

from edge_agent.counters import imbalance
from edge_agent.models.shipped import shipped
from edge_agent.pipeline.poison import MAX_DEATHS
from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon, configuration

DIGITS = shipped("digits")
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
ENVIRONMENT = {"DEADLY": "1", "WATCHDOG_USEC": "400000"}


def on_result(message: Message) -> bool:
    return message.topic == "edge/poisoned/lab/result"


def on_error(message: Message) -> bool:
    return message.topic == "edge/poisoned/lab/error"


def test_an_input_at_which_the_model_hangs_is_given_up_after_some_deaths(broker: Mosquitto, tmp_path: Path) -> None:
    pipelines = {"lab": {"source": {"type": "mqtt", "topic": "poisoned/in"}, "model": "digits"}}
    config = configuration(broker, "poisoned", models={"digits": {"path": str(DIGITS)}}, pipelines=pipelines)
    daemon = Daemon(tmp_path, config, environment=ENVIRONMENT, module="tests.daemon.failing")
    with Subscriber(broker.port, "edge/poisoned/#") as client:
        daemon.start()
        client.publish("poisoned/in", IMAGE + b"deadly")
        for _ in range(5):
            client.publish("poisoned/in", IMAGE)
        for death in range(1, MAX_DEATHS + 1):
            wait_until(lambda: daemon.log().count("withholding the watchdog ping") > 0, 20, "it hangs")
            [[deaths, _]] = json.loads((tmp_path / "poison.json").read_text()).values()
            assert deaths == death
            daemon.kill()  # as the service manager does
            daemon.log_file.unlink()
            daemon.start()
        client.wait_for(on_result, 5, timeout=20)
        [error] = client.wait_for(on_error)
        assert f"ended {MAX_DEATHS} times" in json.loads(error.payload)["error"]
        last = [message for message in client.messages if message.topic == "edge/poisoned/stats"][-1]
        counts = json.loads(last.payload)["pipelines"]["lab"]
        assert imbalance(counts) == ""
        wait_until(lambda: not (tmp_path / "poison.json").exists(), 5, "what is over is forgotten")
        assert daemon.stop().code == 0
    assert "dropped: 1 failed" in daemon.log()
