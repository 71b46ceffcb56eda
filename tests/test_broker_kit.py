import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.broker import Message, Mosquitto, Subscriber, wait_until

V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311


def on(topic: str) -> Callable[[Message], bool]:
    return lambda message: message.topic == topic


@pytest.mark.parametrize("protocol", [V5, V311])
def test_a_message_is_recorded_as_it_arrived(mosquitto: Mosquitto, protocol: MQTTProtocolVersion) -> None:
    with Subscriber(mosquitto.port, "a/#", protocol=protocol) as client:
        client.publish("a/b", b"\x00\xff", qos=1)
        [message] = client.wait_for(on("a/b"))
    assert (message.payload, message.qos, message.retain) == (b"\x00\xff", 1, False)


def test_properties_of_mqtt_5_are_recorded(mosquitto: Mosquitto) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
    properties.ContentType = "image/jpeg"
    with Subscriber(mosquitto.port, "a") as client:
        client.publish("a", b"x", properties=properties)
        [message] = client.wait_for(on("a"))
    assert "ContentType : image/jpeg" in str(message.properties)


def test_a_wait_that_is_in_vain_says_what_came_instead(mosquitto: Mosquitto) -> None:
    with Subscriber(mosquitto.port, "#") as client:
        client.publish("other", b"thing")
        client.wait_for(on("other"))
        with pytest.raises(AssertionError, match=r"0 of 2 messages .*; 1 arrived .*'other', b'thing'"):
            client.wait_for(on("mine"), count=2, timeout=0.1)


def test_a_broker_restarts_on_its_port_and_the_subscriber_comes_back(mosquitto: Mosquitto) -> None:
    port = mosquitto.port
    with Subscriber(port, "a") as client:
        mosquitto.stop()
        wait_until(lambda: not client.client.is_connected(), 10, "the subscriber notices")
        mosquitto.start()
        client.wait_ready()
        client.publish("a", b"after")
        client.wait_for(on("a"))
    assert mosquitto.port == port


def test_retained_messages_outlive_a_restart_only_with_persistence(tmp_path: Path) -> None:
    def kept(broker: Mosquitto) -> list[bytes]:
        with broker:
            with Subscriber(broker.port) as client:
                client.publish("kept", b"1", retain=True)
            broker.restart()
            with Subscriber(broker.port, "#") as client:
                client.publish("end", b"2")
                client.wait_for(on("end"))
                return [message.payload for message in client.messages if message.retain]

    assert kept(Mosquitto(tmp_path, persistence=tmp_path / "state")) == [b"1"]
    assert kept(Mosquitto(tmp_path)) == []


def test_a_killed_broker_writes_no_state(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, persistence=tmp_path / "state") as broker:
        with Subscriber(broker.port) as client:
            client.publish("kept", b"1", retain=True)
        broker.kill()
        assert not list((tmp_path / "state").iterdir())


def test_further_configuration_lines_reach_the_broker(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, config=["allow_anonymous false"]) as broker:
        with pytest.raises(AssertionError, match="the broker refuses: Not authorized"):
            Subscriber(broker.port, "a")
        wait_until(lambda: "not authorised" in broker.log(), 10, "the refusal is logged")


def test_a_broker_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Unknown configuration variable"):
        Mosquitto(tmp_path, config=["no_such_setting 1"]).start()


def test_nothing_is_left_running(tmp_path: Path) -> None:
    before = threading.active_count()
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port, "#") as client:
        client.publish("a", b"1")
        client.wait_for(on("a"))
    assert threading.active_count() == before
