"""What a device has published comes back to it on another topic, and is never its input."""

from pathlib import Path

from tests.broker import Mosquitto, Subscriber
from tests.daemon_process import Daemon
from tests.reconcile import on
from tests.scenarios import image, lab


def bridge(name: str, port: int, *topics: str) -> list[str]:
    return [
        f"connection {name}",
        f"address 127.0.0.1:{port}",
        "bridge_protocol_version mqttv50",
        "notifications false",
        "cleansession true",
        "restart_timeout 1",
        *(f"topic {topic}" for topic in topics),
    ]


def test_results_that_a_bridge_sends_back_are_no_inputs(mosquitto: Mosquitto, tmp_path: Path) -> None:
    ways = [*bridge("there", mosquitto.port, "# in 1 far/ edge/"), *bridge("back", mosquitto.port, "# out 1 far/ in/")]
    with (
        Mosquitto(tmp_path, config=ways),
        Subscriber(mosquitto.port, "#") as client,
        Daemon(tmp_path, lab(mosquitto, "looped", stats_interval="1s")) as daemon,
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


def test_two_devices_that_hear_each_other_come_to_an_end(mosquitto: Mosquitto, tmp_path: Path) -> None:
    heard = bridge("there", mosquitto.port, "+/lab/error in 1 far/ edge/", "+/lab/result in 1 far/ edge/")
    with (
        Mosquitto(tmp_path, config=[*heard, *bridge("back", mosquitto.port, "# out 1 far/ in/")]),
        Subscriber(mosquitto.port, "edge/+/lab/+") as client,
        Daemon(tmp_path / "a", lab(mosquitto, "a")) as first,
        Daemon(tmp_path / "b", lab(mosquitto, "b")) as second,
    ):
        # Each finds an error, and one in the error of the other, which both know then.
        client.publish("in/bad", "no image")
        client.wait_for(on("lab", "error"), 4, timeout=20)
        client.publish("in/5", image("5"))
        client.wait_for(on("lab", "result"), 2)
        client.wait_for(on("lab", "error"), 6)
        client.publish("in/7", image("7"))
        client.wait_for(on("lab", "result"), 4)
        client.wait_for(on("lab", "error"), 8)
        assert (first.stop().code, second.stop().code) == (0, 0)
        assert sum(on("lab", "error")(message) for message in client.messages) == 8
