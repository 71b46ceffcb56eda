import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.models.model import Model
from edge_agent.settings.own_topics import OwnTopics
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.sources.contract import LosslessContract, Setup, SpoilableContract
from tests.sources.stage import DIGITS, Stage

IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
Open = Callable[..., Stage]


@pytest.fixture
def sender(broker: Mosquitto) -> Iterator[Subscriber]:
    with Subscriber(broker.port, client_id="sender") as client:
        yield client


@pytest.fixture
def open_mqtt(broker: Mosquitto, digits: Model, tmp_path: Path) -> Open:
    def open_it(
        topic: str = "in/#",
        protocol: str = "5",
        session_expiry: int = 0,
        own_topics: OwnTopics | None = None,
        **keys: Any,
    ) -> Stage:
        broker_settings = {"url": broker.url, "protocol": protocol, "session_expiry": session_expiry}
        return Stage({"type": "mqtt", "topic": topic, **keys}, digits, tmp_path, broker_settings, own_topics)

    return open_it


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
class TestMqtt(LosslessContract, SpoilableContract):
    @pytest.fixture
    def setup(self, protocol: str, open_mqtt: Open, sender: Subscriber) -> Setup:
        def feed(count: int) -> None:
            for number in range(count):
                sender.client.publish(f"in/{number}", IMAGE, 1)

        return Setup(
            open=lambda: open_mqtt(protocol=protocol),
            origin={"topic"},
            feed=feed,
            spoil=lambda: sender.publish("in/bad", b"no image"),
        )


def test_inputs_come_with_the_topic_they_were_sent_to(open_mqtt: Open, sender: Subscriber) -> None:
    with open_mqtt("site/+/image") as stage:
        for topic in ("site/a/image", "site/a/other", "elsewhere", "site/b/image"):
            sender.publish(topic, IMAGE)
        results = stage.wait_for_results(2)
    assert [sample.origin["topic"] for sample in results] == ["site/a/image", "site/b/image"]


def test_a_request_keeps_where_its_answer_goes(open_mqtt: Open, sender: Subscriber) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
    properties.ResponseTopic = "answers/here"
    properties.CorrelationData = b"\x00\xff"
    with open_mqtt() as stage:
        sender.publish("in/request", IMAGE, properties=properties)
        sender.publish("in/plain", IMAGE)
        request, plain = stage.wait_for_results(2)
    assert request.reply_to is not None
    assert (request.reply_to.topic, request.reply_to.correlation_data) == ("answers/here", b"\x00\xff")
    assert plain.reply_to is None


def test_no_more_inputs_than_the_receive_maximum_are_in_hand(open_mqtt: Open, sender: Subscriber) -> None:
    with open_mqtt() as stage:
        stage.gate.clear()
        for _ in range(40):
            sender.publish("in/x", IMAGE)
        stage.wait_for(lambda stage: stage.counts()["captured"] == 16, "sixteen are in hand")
        sender.publish("in/x", IMAGE)
        assert stage.counts()["captured"] == 16
        stage.gate.set()
        stage.wait_for_results(41)


def test_what_has_not_been_answered_comes_again(open_mqtt: Open, sender: Subscriber, broker: Mosquitto) -> None:
    with open_mqtt("again/#", session_expiry=60) as stage:
        stage.gate.clear()
        for number in range(5):
            sender.publish(f"again/{number}", IMAGE)
        stage.wait_for(lambda stage: stage.counts()["captured"] == 5, "all have come")
        stage.pipeline.close(0.0)  # the connection goes while nothing has been answered
    sender.publish("again/5", IMAGE)
    with open_mqtt("again/#", session_expiry=60) as stage:
        results = stage.wait_for_results(6)
    assert [sample.origin["topic"] for sample in results] == [f"again/{number}" for number in range(6)]
    assert [sample.origin.get("redelivered", False) for sample in results] == [True] * 5 + [False]


def test_after_a_change_of_topic_nothing_of_the_old_one_comes(open_mqtt: Open, sender: Subscriber) -> None:
    with open_mqtt("old/#", session_expiry=60) as stage:
        sender.publish("old/1", IMAGE)
        stage.wait_for_results(1)
    with open_mqtt("new/#", session_expiry=60) as stage:
        sender.publish("old/2", IMAGE)
        sender.publish("new/1", IMAGE)
        [sample] = stage.wait_for_results(1)
    assert sample.origin["topic"] == "new/1"


def test_members_of_a_group_share_the_inputs(open_mqtt: Open, sender: Subscriber) -> None:
    with (
        open_mqtt("shared/#", share="crew") as first,
        Subscriber(sender_port(sender), "$share/crew/shared/#") as second,
    ):
        for number in range(10):
            sender.publish(f"shared/{number}", IMAGE)
        wait_until(lambda: len(first.results) + len(second.messages) >= 10, 10, "all have gone to one or the other")
        topics = [sample.origin["topic"] for sample in first.results] + [message.topic for message in second.messages]
    assert sorted(topics) == [f"shared/{number}" for number in range(10)]
    assert first.results
    assert second.messages


def sender_port(client: Subscriber) -> int:
    port: int = client.client.port
    return port


def test_a_payload_above_the_bound_is_refused_before_it_is_decoded(open_mqtt: Open, sender: Subscriber) -> None:
    with open_mqtt(max_payload="1kB") as stage:
        sender.publish("in/large", b"\x89PNG\r\n\x1a\n" + bytes(1000))
        stage.wait_for(lambda stage: stage.given_up, "the large one is refused")
        sender.publish("in/small", (DIGITS / "golden" / "7_printed.png").read_bytes())
        stage.wait_for_results(1)
    [(sample, error)] = stage.given_up
    assert str(error) == "in/large: larger than 1000 bytes (max_payload)"
    assert not isinstance(sample.data, bytes)


def test_qos_0_inputs_that_are_too_many_give_way_and_are_counted(open_mqtt: Open, sender: Subscriber) -> None:
    with open_mqtt("in/#", qos=0) as stage:
        stage.gate.clear()
        for _ in range(300):
            sender.client.publish("in/x", IMAGE, 0)
        stage.wait_for(lambda stage: stage.counts()["captured"] == 300, "all have come")
        stage.gate.set()
        stage.wait_for(lambda stage: stage.counts()["in_progress"] == 0, "all are done with")
    counts = stage.counts()
    assert counts["dropped"]["superseded"] == 300 - 128 - 2
    assert counts["inferred"] == 128 + 2
    assert stage.imbalances == []


def test_qos_1_inputs_are_answered_whatever_comes_with_qos_0(open_mqtt: Open, sender: Subscriber) -> None:
    with open_mqtt("in/#", qos=1) as stage:
        stage.gate.clear()  # a model that is too slow
        for number in range(60):
            for _ in range(5):
                sender.client.publish("in/flood", IMAGE, 0)
            sender.client.publish(f"in/{number}", IMAGE, 1)
        stage.wait_for(lambda stage: stage.counts()["captured"] >= 200, "more have come than can wait")
        stage.gate.set()
        stage.wait_for(lambda stage: stage.counts()["captured"] == 360, "all have come")
        stage.wait_for(lambda stage: stage.counts()["in_progress"] == 0, "all are done")
    wanted = [f"in/{number}" for number in range(60)]
    assert [sample.origin["topic"] for sample in stage.results if sample.origin["topic"] != "in/flood"] == wanted
    assert stage.counts()["dropped"]["superseded"] > 0
    assert stage.imbalances == []


def test_from_a_broker_that_keeps_no_bound_nothing_is_lost_either(tmp_path: Path, digits: Model) -> None:
    with (
        Mosquitto(tmp_path, config=["max_inflight_messages 0"]) as broker,
        Stage({"type": "mqtt", "topic": "in/#"}, digits, tmp_path, {"url": broker.url, "protocol": "3.1.1"}) as stage,
        Subscriber(broker.port, protocol=MQTTProtocolVersion.MQTTv311) as sender,
    ):
        stage.gate.clear()
        for number in range(200):
            sender.publish(f"in/{number}", IMAGE)
        stage.wait_for(lambda stage: stage.counts()["captured"] >= 128 + 2, "the queue is full")
        stage.gate.set()
        results = stage.wait_for_results(200)
    assert [sample.origin["topic"] for sample in results] == [f"in/{number}" for number in range(200)]
    assert stage.counts()["dropped"]["superseded"] == 0


def test_it_stops_at_once_while_the_queue_is_full(open_mqtt: Open, sender: Subscriber, digits: Model) -> None:
    with open_mqtt(qos=0) as stage:
        stage.gate.clear()
        for _ in range(200):
            sender.client.publish("in/x", IMAGE, 0)
        stage.wait_for(lambda stage: stage.counts()["captured"] == 200, "all have come")
        assert stage.stop() < 0.1
    assert not [thread for thread in threading.enumerate() if "edge-agent-test-stage" in thread.name]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("session_expiry", [0, 60])
def test_a_retained_input_is_taken_once_however_often_the_connection_is_made(
    open_mqtt: Open, sender: Subscriber, protocol: str, session_expiry: int
) -> None:
    topic = f"kept/{protocol}/{session_expiry}"
    sender.publish(topic, IMAGE, retain=True)
    with open_mqtt(topic, protocol=protocol, session_expiry=session_expiry) as stage:
        stage.wait_for(lambda stage: unmarked(stage) == 1, "the first")
        connection = vars(stage.source)["_connection"]
        for number in range(2):
            before = connection.link
            before.client.socket().shutdown(socket.SHUT_RDWR)
            wait_until(lambda before=before: connection.link not in (None, before), 10, "connected again")  # type: ignore[misc]
            sender.publish(topic, IMAGE + bytes([number]), retain=True)
            stage.wait_for(lambda stage, number=number: unmarked(stage) == 2 + number, "the next")  # type: ignore[misc]
        assert unmarked(stage) == 3
    sender.publish(topic, b"", retain=True)


def sent_by(*devices: str) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
    for device in devices:
        properties.UserProperty = ("edge-agent", device)
    return properties


@pytest.mark.parametrize("qos", [0, 1])
def test_what_the_device_has_published_itself_is_no_input_and_is_acknowledged(
    open_mqtt: Open, sender: Subscriber, qos: int, caplog: pytest.LogCaptureFixture
) -> None:
    with open_mqtt(qos=qos) as stage:
        for _ in range(40):  # more than may be unacknowledged
            sender.publish("in/back", IMAGE, qos=qos, properties=sent_by("test"))
        sender.publish("in/peer", IMAGE, qos=qos, properties=sent_by("other"))
        sender.publish("in/peer", IMAGE, qos=qos, properties=sent_by())
        results = stage.wait_for_results(2)
    assert [sample.origin["topic"] for sample in results] == ["in/peer"] * 2
    assert stage.counts()["captured"] == 2
    assert caplog.text.count("in/back") == 1


def test_an_input_knows_the_devices_whose_messages_have_led_to_it(open_mqtt: Open, sender: Subscriber) -> None:
    with open_mqtt() as stage:
        sender.publish("in/round", IMAGE, properties=sent_by("other", "test"))
        sender.publish("in/far", IMAGE, properties=sent_by(*"abcde"))
        sender.publish("in/chain", IMAGE, properties=sent_by(*"abcd"))
        sender.publish("in/plain", IMAGE)
        results = stage.wait_for_results(2)
    assert [(sample.origin["topic"], sample.senders) for sample in results] == [
        ("in/chain", ("a", "b", "c", "d")),
        ("in/plain", ()),
    ]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_comes_on_a_topic_of_the_device_is_no_input(open_mqtt: Open, sender: Subscriber, protocol: str) -> None:
    own = OwnTopics(["in/test/stage/result", "in/house/{label}"])
    with open_mqtt(protocol=protocol, own_topics=own) as stage:
        for topic in ("test/stage/result", "house/cat", "house/cat/x", "test/stage/results"):
            sender.publish(f"in/{topic}", IMAGE)
        results = stage.wait_for_results(2)
    assert [sample.origin["topic"] for sample in results] == ["in/house/cat/x", "in/test/stage/results"]


def unmarked(stage: Stage) -> int:
    """Results of inputs that are not marked as redelivered."""
    return sum("redelivered" not in sample.origin for sample in stage.results)
