import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from paho.mqtt.client import MQTTMessage
from pydantic import ValidationError

from edge_agent import settings
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.embedded import EmbeddedBroker
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session, Subscription, Will
from edge_agent.mqtt.publish_properties import PublishProperties
from edge_agent.mqtt.reasons import Refusal
from tests.broker import PATIENCE, Mosquitto, Subscriber, free_port, wait_until
from tests.mqtt.scripted_broker import ScriptedBroker, connack, connack_3

HERE = Path()
SESSION = Session("test", keepalive=2)


def endpoint(url: str, **options: Any) -> Endpoint:
    return Endpoint.from_settings(settings.Mqtt(url=url, **options), HERE)


class Probe:
    """A connection that records its callbacks."""

    def __init__(self, url: str, session: Session = SESSION, **options: Any) -> None:
        self.links: list[Link] = []
        self.ups = self.downs = 0
        self.messages: list[tuple[Link, MQTTMessage]] = []
        self.answers: dict[int, Refusal | None] = {}
        self.connection = Connection(
            endpoint(url, **options),
            session,
            on_up=self._up,
            on_down=self._down,
            on_message=lambda link, message: self.messages.append((link, message)),
            on_acknowledged=self.answers.__setitem__,
        )

    def _up(self, link: Link) -> None:
        self.links.append(link)
        self.ups += 1

    def _down(self) -> None:
        self.downs += 1

    def up(self, count: int = 1, timeout: float = 10) -> Link:
        wait_until(lambda: self.ups >= count, timeout, f"connected {count} times ({self.connection.problem})")
        return self.links[-1]

    def __enter__(self) -> Self:
        self.connection.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.stop(5)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    wait_until(lambda: set(threading.enumerate()) <= before, 15, f"{set(threading.enumerate()) - before} have ended")


def refused(url: str, **options: Any) -> str:
    """What is said of a broker that can't be connected to."""
    with Probe(url, **options) as probe:
        assert probe.connection.wait_until_tried(15)
        assert not probe.links
        return probe.connection.problem


@pytest.mark.parametrize(("protocol", "version"), [("5", "5"), ("3.1.1", "3.1.1"), ("auto", "5")])
def test_it_speaks_the_version_that_it_is_told(broker: Mosquitto, protocol: Any, version: str) -> None:
    with Probe(broker.url, replace(SESSION, protocol=protocol)) as probe:
        assert probe.up().version == version


def test_what_is_published_is_acknowledged(broker: Mosquitto) -> None:
    with Probe(broker.url) as probe, Subscriber(broker.port, "there") as client:
        link = probe.up()
        message_id = link.publish("there", b"1", 1)
        [message] = client.wait_for(lambda message: message.topic == "there")
        wait_until(lambda: probe.answers, 10, "an answer")
        assert probe.answers == {message_id: None}
        assert message.qos == 1


@pytest.mark.parametrize(
    "properties",
    [
        PublishProperties(),
        PublishProperties(is_json=True),
        PublishProperties(correlation_data=b"7", expiry=9),
        PublishProperties(senders=("porch-pi", "")),
    ],
)
def test_what_is_published_names_the_device_over_mqtt_5(broker: Mosquitto, properties: PublishProperties) -> None:
    session = replace(SESSION, device_id="porch-pi", will=Will("own/will", b"gone", retain=False))
    with Subscriber(broker.port, "own/#") as client:
        with Probe(broker.url, session) as probe:
            for _ in range(2):
                probe.up().publish("own/message", b"1", 1, properties=properties)
            client.wait_for(lambda message: message.topic == "own/message", 2)
            probe.connection.stop(5, with_will=True)
        client.wait_for(lambda message: message.topic == "own/will")
    assert [vars(message.properties)["UserProperty"] for message in client.messages] == [
        [("edge-agent", "porch-pi")]
    ] * 3


def test_messages_come_with_the_link_over_which_they_can_be_acknowledged(broker: Mosquitto) -> None:
    session = replace(
        SESSION, client_id="receiver", expiry=60, receive_maximum=2, subscriptions=[Subscription("in", 1)]
    )
    with Probe(broker.url, session) as probe, Subscriber(broker.port) as client:
        assert probe.connection.wait_until_subscribed(10)
        for number in range(4):
            client.publish("in", str(number))
        wait_until(lambda: len(probe.messages) == 2, 10, "as many as may be unacknowledged")
        for link, message in list(probe.messages):
            link.ack(message.mid)
        wait_until(lambda: len(probe.messages) == 4, 10, "the rest")
    assert [int(message.payload) for _, message in probe.messages] == [0, 1, 2, 3]


def test_the_broker_keeps_what_is_not_acknowledged_and_says_that_it_comes_again(broker: Mosquitto) -> None:
    session = replace(SESSION, client_id="keeper", expiry=60, subscriptions=[Subscription("kept", 1)])
    with Subscriber(broker.port) as client:
        with Probe(broker.url, session) as probe:
            assert probe.connection.wait_until_subscribed(10)
            client.publish("kept", b"seen")
            wait_until(lambda: probe.messages, 10, "the message")
        client.publish("kept", b"not yet seen")
        with Probe(broker.url, session) as probe:
            wait_until(lambda: len(probe.messages) == 2, 10, "both messages")
            assert [(m.payload, m.dup) for _, m in probe.messages] == [(b"seen", True), (b"not yet seen", False)]


def test_subscriptions_stand_again_after_the_broker_has_forgotten_the_session(mosquitto: Mosquitto) -> None:
    session = replace(SESSION, expiry=60, subscriptions=[Subscription("in", 1)])
    with Probe(mosquitto.url, session) as probe:
        assert probe.connection.wait_until_subscribed(10)
        mosquitto.restart()
        probe.up(2)
        with Subscriber(mosquitto.port) as client:

            def heard() -> bool:
                client.publish("in", b"1")
                return bool(probe.messages)

            wait_until(heard, 10, "messages come again")


def test_a_polite_goodbye_sends_what_is_handed_over_and_not_the_will(broker: Mosquitto) -> None:
    session = replace(SESSION, will=Will("goodbye", b"will"))
    with Subscriber(broker.port, "goodbye", "last") as client:
        with Probe(broker.url, session) as probe:
            probe.up().publish("last", b"word", 1)
        client.wait_for(lambda message: message.payload == b"word")
        with Probe(broker.url, session) as probe:
            socket_of(probe.up()).shutdown(socket.SHUT_RDWR)
            client.wait_for(lambda message: message.payload == b"will")
        assert [message.payload for message in client.messages] == [b"word", b"will"]


def socket_of(link: Link) -> Any:
    return link.client.socket()


def test_a_lost_connection_is_said_and_made_again(broker: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    with Probe(broker.url) as probe:
        socket_of(probe.up()).shutdown(socket.SHUT_RDWR)
        probe.up(2)
        assert probe.downs == 1
    assert f"{broker.url}: connection lost: the network or the broker is gone" in caplog.text


def test_a_goodbye_of_the_broker_is_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    with ScriptedBroker() as broker, Probe(f"mqtt://127.0.0.1:{broker.port}") as probe:
        probe.up()
        broker.send(b"\xe0\x02\x8e\x00")
        wait_until(lambda: probe.downs, 10, "the connection is gone")
    sentence = "Session taken over: another client uses the same client id: is device_id unique?"
    assert f"connection lost: ended by the broker: {sentence}" in caplog.text


@pytest.mark.parametrize("refusal", [connack(0x84), connack_3(1), None], ids=["MQTT 5", "MQTT 3.1.1", "hangs up"])
def test_a_broker_that_refuses_version_5_is_spoken_to_in_3_1_1_and_that_is_said_once(
    refusal: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with ScriptedBroker(lambda level: refusal if level == 5 else connack_3()) as old:
        with Probe(f"mqtt://127.0.0.1:{old.port}") as probe:
            assert probe.up().version == "3.1.1"
            socket_of(probe.links[0]).shutdown(socket.SHUT_RDWR)
            assert probe.up(2).version == "3.1.1"
        assert old.levels == [5, 4, 5, 4]
    assert caplog.text.count("does not speak MQTT 5: going on with MQTT 3.1.1") == 1


def test_the_embedded_broker_is_spoken_to_in_3_1_1() -> None:
    embedded = EmbeddedBroker()
    try:
        with Probe(embedded.start()) as probe:
            assert probe.up().version == "3.1.1"
    finally:
        embedded.stop()


def test_a_broker_that_once_hung_up_is_spoken_to_in_version_5_later() -> None:
    moods: Iterator[bytes | None] = iter([None, connack_3(), connack(), connack()])
    with ScriptedBroker(lambda _: next(moods)) as moody, Probe(f"mqtt://127.0.0.1:{moody.port}") as probe:
        assert probe.up().version == "3.1.1"
        socket_of(probe.links[0]).shutdown(socket.SHUT_RDWR)
        assert probe.up(2).version == "5"


def test_version_5_alone_is_not_given_up() -> None:
    with ScriptedBroker(lambda _: connack(0x84)) as old:
        with Probe(f"mqtt://127.0.0.1:{old.port}", replace(SESSION, protocol="5")) as probe:
            wait_until(lambda: len(old.levels) >= 2, 10, "a second attempt")
            assert probe.connection.problem.endswith("does not speak MQTT 5: set mqtt.protocol: auto")
        assert set(old.levels) == {5}


def test_limits_of_the_broker_are_taken_note_of(caplog: pytest.LogCaptureFixture) -> None:
    limits = b"\x21" + struct.pack("!H", 7) + b"\x27" + struct.pack("!I", 5000) + b"\x24\0" + b"\x25\0"
    with ScriptedBroker(lambda _: connack(properties=limits)) as strict:
        with Probe(f"mqtt://127.0.0.1:{strict.port}") as probe:
            link = probe.up()
            assert (link.receive_maximum, link.max_packet_size) == (7, 5000)
            link.publish("t", b"1", 1, retain=True)
            wait_until(lambda: strict.published, 10, "the message")
        assert (strict.published[0].qos, strict.published[0].retain) == (0, False)
    assert "takes messages of QoS 0 only" in caplog.text
    assert "keeps no retained messages" in caplog.text


def test_nothing_listens() -> None:
    assert "nothing listens there: is the broker running, and is the port right?" in refused(
        f"mqtt://127.0.0.1:{free_port()}"
    )


def test_a_name_that_nobody_knows() -> None:
    assert "the name no-such-host.invalid is not known to the network" in refused("mqtt://no-such-host.invalid")


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "", ":1883", "broker:99999", "broker:0", "[::1"])
def test_an_address_that_can_be_no_broker_is_refused_by_the_configuration(host: str) -> None:
    with pytest.raises(ValidationError):
        settings.Mqtt(url=f"mqtt://{host}")


def test_a_broker_that_accepts_and_then_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.mqtt.connection.CONNECT_TIMEOUT", 1.0)
    with ScriptedBroker(lambda _: b"") as silent:
        said = refused(f"mqtt://127.0.0.1:{silent.port}")
        assert set(silent.levels) == {5}
    assert said.endswith("accepts the connection and then says nothing: is it an MQTT broker?")


def test_a_broker_that_hangs_up_on_every_version() -> None:
    with ScriptedBroker(lambda _: None) as rude:
        said = refused(f"mqtt://127.0.0.1:{rude.port}")
    assert said.endswith("closed the connection without a CONNACK: is it an MQTT broker, and not its TLS port?")


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (0x86, "Bad user name or password: check mqtt.username and mqtt.password_file"),
        (0x87, "Not authorized: check mqtt.username, mqtt.password_file and the broker's access rules"),
        (0x85, "Client identifier not valid: the broker does not accept this device_id as part of a client id"),
        (0x89, "Server busy"),
        (0x9A, "Retain not supported: `status` and `info` are retained messages: allow them at the broker"),
    ],
)
def test_a_refusal_is_a_sentence(reason: int, sentence: str) -> None:
    with ScriptedBroker(lambda _: connack(reason)) as strict:
        said = refused(f"mqtt://127.0.0.1:{strict.port}")
        assert set(strict.levels) == {5}
    assert said == f"mqtt://127.0.0.1:{strict.port}: the broker refuses the connection: {sentence}"


def test_a_refusal_of_an_old_broker_is_a_sentence_too() -> None:
    with ScriptedBroker(lambda level: None if level == 5 else connack_3(4)) as strict:
        assert "Bad user name or password: check mqtt.username" in refused(f"mqtt://127.0.0.1:{strict.port}")


def test_the_same_problem_is_said_once_however_often_it_is_met(caplog: pytest.LogCaptureFixture) -> None:
    with ScriptedBroker(lambda _: connack(0x86)) as strict, Probe(f"mqtt://127.0.0.1:{strict.port}"):
        wait_until(lambda: len(strict.levels) >= 3, 15, "three attempts")
    assert caplog.text.count("Bad user name or password") == 1


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x00\x00",
        b"\x20\xff\xff\xff\xff\xff",
        b"\x30\x05\x00\x09abc",
        b"\x40\x01\x00",
        b"\x90\x01\x00",
    ],
)
def test_rubbish_from_the_broker_ends_the_connection_and_not_the_thread(rubbish: bytes) -> None:
    with ScriptedBroker() as mad, Probe(f"mqtt://127.0.0.1:{mad.port}") as probe:
        probe.up()
        mad.send(rubbish)
        probe.up(2)


def test_a_defect_in_a_callback_is_logged_and_the_connection_made_again(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    links: list[Link] = []

    def fail_once(link: Link) -> None:
        links.append(link)
        if len(links) == 1:
            raise ZeroDivisionError

    connection = Connection(endpoint(broker.url), SESSION, on_up=fail_once)
    connection.start()
    wait_until(lambda: len(links) == 2, 10, "connected again")
    connection.stop(5)
    assert "a defect in edge-agent" in caplog.text


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # paho leaves it to the garbage collector
def test_stopping_does_not_wait_for_an_attempt_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        connection = Connection(endpoint(f"mqtts://127.0.0.1:{deaf.getsockname()[1]}"), SESSION)
        connection.start()
        accepted, _ = deaf.accept()
        began = time.monotonic()
        connection.stop(0.2)
        assert time.monotonic() - began < PATIENCE
        accepted.close()


def test_an_attempt_that_succeeds_after_the_stop_announces_nothing() -> None:
    answer = threading.Event()

    def hesitate(_: int) -> bytes:
        answer.wait(10)
        return connack()

    with ScriptedBroker(hesitate) as slow:
        probe = Probe(f"mqtt://127.0.0.1:{slow.port}")
        probe.connection.start()
        wait_until(lambda: slow.levels, 10, "CONNECT has come")
        probe.connection.stop(0)
        answer.set()
        wait_until(lambda: not probe.connection._thread.is_alive(), 10, "the thread has ended")
        assert not probe.links


def test_a_half_open_connection_is_noticed_within_twice_the_keepalive() -> None:
    """A peer whose kernel takes everything, and who never answers."""
    with ScriptedBroker() as broker, Probe(f"mqtt://127.0.0.1:{broker.port}") as probe:
        probe.up()
        broker.frozen = True
        began = time.monotonic()
        wait_until(lambda: probe.downs, 10, "it is noticed")
        assert time.monotonic() - began < (2 * SESSION.keepalive + 1) * PATIENCE


def test_sockets_are_closed(broker: Mosquitto) -> None:
    descriptors = Path("/proc/self/fd")
    with Probe(broker.url) as probe:
        probe.up()
        before = len(list(descriptors.iterdir()))
        for count in range(2, 5):
            socket_of(probe.links[-1]).shutdown(socket.SHUT_RDWR)
            probe.up(count)
            del probe.links[:-1]
        wait_until(lambda: len(list(descriptors.iterdir())) <= before, 5, "no more descriptors than before")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # paho leaves it to the garbage collector
def test_websockets(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, config=[f"listener {(port := free_port())} 127.0.0.1", "protocol websockets"]) as broker:
        with Probe(f"ws://127.0.0.1:{port}") as probe, Subscriber(broker.port, "there") as client:
            probe.up().publish("there", b"x" * 100_000, 1)
            [message] = client.wait_for(lambda message: message.topic == "there")
            assert len(message.payload) == 100_000
            wait_until(lambda: probe.answers, 10, "an answer")
        assert "does not speak MQTT over WebSocket at /mqtt: check mqtt.url" in refused(f"ws://127.0.0.1:{broker.port}")
