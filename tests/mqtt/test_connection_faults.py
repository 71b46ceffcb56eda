"""What a session does about refused subscriptions, and about another client of the same client id."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.mqtt import connection_health
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session, Subscription, Will
from edge_agent.system.backoff import Backoff
from tests.broker import Mosquitto, wait_until
from tests.mqtt.scripted_broker import ScriptedBroker, connack, connack_3

IN = Subscription("in/#", 1)
SESSION = Session("faults", keepalive=2, subscriptions=(IN,))


def connection(port: int, session: Session = SESSION, **callbacks: Any) -> Connection:
    endpoint = Endpoint.from_settings(settings.Mqtt(url=f"mqtt://127.0.0.1:{port}"), Path())
    return Connection(endpoint, session, **callbacks)


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.mqtt.connection.Backoff", lambda: Backoff(0.05, 0.2))
    monkeypatch.setattr("edge_agent.mqtt.connection.FIRST_RESUBSCRIBE", 0.05)


@pytest.fixture
def connections() -> Iterator[list[Connection]]:
    started: list[Connection] = []
    yield started
    for one in started:
        one.stop(5)


@pytest.mark.parametrize(("level", "code"), [(4, 0x80), (5, 0x80), (5, 0x87), (5, 0x97)])
def test_a_refused_subscription_is_named_and_requested_again_until_it_is_granted(
    level: int, code: int, connections: list[Connection], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with ScriptedBroker(suback=code) as broker:
        one = connection(broker.port, replace(SESSION, protocol="5" if level == 5 else "3.1.1"))
        connections.append(one)
        one.start()
        wait_until(lambda: one.refused, 10, "the refusal is known")
        assert one.link is not None
        assert one.problem == ""
        assert f"the broker refuses the subscription to {IN.topic}: " in one.diagnosis
        wait_until(lambda: broker.subscribed >= 4, 10, "it is requested again")
        assert caplog.text.count("refuses the subscription") == 1
        broker.suback = 1
        wait_until(lambda: not one.refused, 10, "it is granted")
        assert one.diagnosis == ""
        count = broker.subscribed
        wait_until(lambda: "the broker grants the subscription to in/# now" in caplog.text, 10, "that is logged")
        one.stop(5)
        assert broker.subscribed == count


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_two_clients_of_one_client_id_are_named(
    broker: Mosquitto, protocol: Any, connections: list[Connection]
) -> None:
    session = replace(SESSION, protocol=protocol)
    two = [connection(broker.port, session) for _ in range(2)]
    connections += two
    for one in two:
        one.start()
    for one in two:
        wait_until(lambda one=one: "another client uses th" in one.diagnosis, 20, "the cause")  # type: ignore[misc]
    assert "is device_id unique?" in two[0].diagnosis
    two[1].stop(5)
    wait_until(lambda: two[0].link is not None, 10, "it is connected again")


def test_a_broker_that_is_restarted_is_not_another_client(mosquitto: Mosquitto, connections: list[Connection]) -> None:
    ups: list[Link] = []
    one = connection(mosquitto.port, on_up=ups.append)
    connections.append(one)
    one.start()
    for count in range(1, 6):
        wait_until(lambda count=count: len(ups) == count, 10, "connected")  # type: ignore[misc]
        mosquitto.stop()
        wait_until(lambda: "nothing listens there" in one.diagnosis, 10, "the broker is away")
        mosquitto.start()
    wait_until(lambda: len(ups) == 6, 10, "connected")
    assert one.diagnosis == ""


def test_a_qos_0_message_is_never_acknowledged() -> None:
    acknowledged: list[tuple[int, int]] = []

    class Client:
        def ack(self, message_id: int, qos: int) -> None:
            acknowledged.append((message_id, qos))

    link = Link(Client(), "5")  # type: ignore[arg-type]
    for message_id, qos in [(0, 0), (0, 1), (7, 0), (7, 1), (8, 2)]:
        link.ack(message_id, qos)
    assert acknowledged == [(7, 1), (8, 2)]


def test_a_connection_that_ends_without_a_connack_does_not_count(connections: list[Connection]) -> None:
    with ScriptedBroker(lambda level: None if level == 5 else connack_3(2)) as broker:
        one = connection(broker.port)
        connections.append(one)
        one.start()
        wait_until(lambda: len(broker.levels) > 8, 10, "many attempts")
        assert "client uses this client id" not in one.diagnosis


@pytest.mark.parametrize("refusal", [0x9A, 0x9B])
def test_a_broker_without_retain_or_qos_1_is_reached_with_another_will(
    refusal: int, connections: list[Connection]
) -> None:
    answers = iter([connack(refusal), *[connack()] * 10])
    with ScriptedBroker(lambda _: next(answers)) as broker:
        one = connection(broker.port, replace(SESSION, protocol="5", will=Will("will", b"x")))
        connections.append(one)
        one.start()
        wait_until(lambda: one.link, 10, "connected")
        will = one.session.will
        assert will is not None
        assert (will.qos, will.retain) == ((1, False) if refusal == 0x9A else (0, True))


def publish_packet(qos: int, mid: int, payload: bytes) -> bytes:
    body = b"\0\x01t" + (mid.to_bytes(2, "big") if qos else b"") + b"\0" + payload
    length, size = b"", len(body)
    while True:
        length += bytes([size % 128 | (128 if size > 127 else 0)])
        size //= 128
        if not size:
            return bytes([0x30 | qos << 1]) + length + body


def test_a_packet_that_is_too_large_is_not_kept(connections: list[Connection]) -> None:
    sizes: list[int] = []
    with ScriptedBroker() as broker:
        session = replace(SESSION, protocol="5", max_kept=1000)
        one = connection(broker.port, session, on_message=lambda _, message: sizes.append(len(message.payload)))
        connections.append(one)
        one.start()
        assert one.wait_until_subscribed(10)
        broker.send(publish_packet(0, 0, bytes(5_000_000)))
        broker.send(publish_packet(0, 0, b"small"))
        wait_until(lambda: len(sizes) == 2, 10, "both messages")
        assert 900 < sizes[0] <= 1000
        assert sizes[1] == 5


@pytest.mark.parametrize("large", [False, True], ids=["QoS 2", "larger than announced"])
def test_a_broker_that_exceeds_a_bound_loses_the_connection_and_that_is_the_reason_given(
    large: bool, connections: list[Connection], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_health, "MAX_SHORT_CONNECTIONS", 1)  # already one makes it suspect another client
    ups: list[Link] = []
    with ScriptedBroker() as broker:
        one = connection(broker.port, replace(SESSION, protocol="5", max_packet_size=2000), on_up=ups.append)
        connections.append(one)
        one.start()
        assert one.wait_until_subscribed(10)
        for mid in range(1, 2 if large else 20):
            broker.send(publish_packet(2, mid, bytes(3000 if large else 100)))
        wait_until(lambda: len(ups) > 1, 10, "connected again")
        assert ("packet of" if large else "without releasing one") in one.diagnosis
        assert "another client" not in caplog.text


def test_the_keep_alive_of_the_broker_goes_before_the_own_one(connections: list[Connection]) -> None:
    with ScriptedBroker(lambda _: connack(properties=b"\x13\0\1")) as broker:  # server keep alive: 1 s
        one = connection(broker.port, replace(SESSION, protocol="5", keepalive=600))
        connections.append(one)
        one.start()
        wait_until(lambda: len(broker.pings) >= 3, 10, "PINGREQs")
        pauses = [after - before for before, after in zip(broker.pings, broker.pings[1:], strict=False)]
        assert max(pauses) < 1.5
