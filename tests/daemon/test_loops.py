"""What a device has published comes back to it on another topic, and is never its input."""

from pathlib import Path

from tests.broker import Mosquitto, Subscriber
from tests.daemon_process import Daemon
from tests.reconcile import on
from tests.scenarios import image, lab


def bridge(name: str, port: int, topic: str) -> list[str]:
    return [
        f"connection {name}",
        f"address 127.0.0.1:{port}",
        "bridge_protocol_version mqttv50",
        "notifications false",
        "restart_timeout 1",
        f"topic # {topic}",
    ]


def test_results_that_a_bridge_sends_back_are_no_inputs(broker: Mosquitto, tmp_path: Path) -> None:
    ways = [*bridge("there", broker.port, "in 1 far/ edge/"), *bridge("back", broker.port, "out 1 far/ in/")]
    with (
        Mosquitto(tmp_path, config=ways),
        Subscriber(broker.port, "#") as client,
        Daemon(tmp_path, lab(broker, "looped", stats_interval="1s")) as daemon,
    ):
        client.publish("in/5", image("5"))
        client.wait_for(on("looped", "lab", "result"))
        # The result and the status have come back, and an input that came after them has been answered.
        client.wait_for(lambda message: message.topic == "in/looped/lab/result")
        client.publish("in/7", image("7"))
        client.wait_for(on("looped", "lab", "result"), 2)
        client.wait_for(lambda message: message.topic == "in/looped/lab/result", 2)
        assert daemon.stop().code == 0
        topics = [message.topic for message in client.messages]
    assert topics.count("edge/looped/lab/result") == 2
    assert "edge/looped/lab/error" not in topics
    assert "in/looped/lab/result" in daemon.log()
