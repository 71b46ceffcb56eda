from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import MQTTMessage

from edge_agent import settings
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.inbox import Inbox
from edge_agent.mqtt.link import Link, Session, Subscription
from edge_agent.system.backoff import Backoff
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.proxy import Proxy


class Desk:
    """An inbox at a broker, and what it has passed on."""

    def __init__(self, port: int, protocol: str) -> None:
        self.ups = 0
        self.taken: list[tuple[MQTTMessage, Callable[[], None]]] = []
        self.inbox = Inbox(lambda message, answered: self.taken.append((message, answered)))
        endpoint = Endpoint.from_settings(settings.Mqtt(url=f"mqtt://127.0.0.1:{port}"), Path())
        session = Session("desk", "5" if protocol == "5" else "3.1.1", 2, 60, subscriptions=[Subscription("in/#", 1)])
        self.connection = Connection(
            endpoint, session, on_up=self._up, on_down=self.inbox.down, on_message=self.inbox.received
        )
        self.connection.start()
        assert self.connection.wait_until_subscribed(10)

    def _up(self, link: Link) -> None:
        self.inbox.up(link)
        self.ups += 1

    def wait_for(self, *payloads: bytes) -> None:
        wait_until(lambda: len(self.taken) >= len(payloads), 10, f"{payloads}")
        assert [bytes(message.payload) for message, _ in self.taken] == list(payloads)


@pytest.fixture
def way(mosquitto: Mosquitto) -> Iterator[Proxy]:
    with Proxy(mosquitto.port) as proxy:
        yield proxy


@pytest.fixture(params=["5", "3.1.1"])
def desk(way: Proxy, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr("edge_agent.mqtt.connection.Backoff", lambda: Backoff(0.05, 0.5))
    desk = Desk(way.port, request.param)
    yield desk
    desk.connection.stop(5)


def test_what_is_being_worked_on_when_the_connection_breaks_is_not_begun_anew(
    desk: Desk, way: Proxy, mosquitto: Mosquitto
) -> None:
    with Subscriber(mosquitto.port) as sender:
        sender.publish("in/1", b"one")
        desk.wait_for(b"one")
        way.cut()
        wait_until(lambda: desk.ups == 2, 10, "connected again")
        sender.publish("in/2", b"two")
        desk.wait_for(b"one", b"two")
        for _, answered in desk.taken:
            answered()
        wait_until(lambda: mosquitto.log().count("Received PUBACK from desk") == 2, 10, "both are acknowledged")
        way.cut()
        wait_until(lambda: desk.ups == 3, 10, "connected again")
        sender.publish("in/3", b"three")
        desk.wait_for(b"one", b"two", b"three")


def test_what_was_answered_while_there_was_no_connection_is_only_acknowledged(
    desk: Desk, way: Proxy, mosquitto: Mosquitto
) -> None:
    with Subscriber(mosquitto.port) as sender:
        sender.publish("in/1", b"one")
        desk.wait_for(b"one")
        way.mode = "refuse"
        way.cut()
        wait_until(lambda: not desk.connection.link, 10, "the connection is gone")
        desk.taken[0][1]()
        way.mode = "forward"
        wait_until(lambda: mosquitto.log().count("Received PUBACK from desk") == 1, 10, "it is acknowledged")
        sender.publish("in/2", b"two")
        desk.wait_for(b"one", b"two")


def test_an_input_of_a_forgotten_session_does_not_stand_in_the_way_of_a_new_one(
    desk: Desk, mosquitto: Mosquitto
) -> None:
    with Subscriber(mosquitto.port) as sender:
        sender.publish("in/1", b"old")
        desk.wait_for(b"old")
    mosquitto.restart()
    wait_until(lambda: desk.ups == 2, 10, "connected again")
    with Subscriber(mosquitto.port) as sender:
        wait_until(lambda: mosquitto.log().count("Sending SUBACK to desk") == 2, 10, "subscribed again")
        sender.publish("in/1", b"new")
        desk.wait_for(b"old", b"new")
        before = mosquitto.log().count("Received PUBACK from desk")
        desk.taken[0][1]()
        desk.taken[1][1]()
        wait_until(lambda: mosquitto.log().count("Received PUBACK from desk") > before, 10, "an acknowledgement")
        sender.publish("in/2", b"next")
        desk.wait_for(b"old", b"new", b"next")
        assert mosquitto.log().count("Received PUBACK from desk") == before + 1, "one for the new input alone"
