import random
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import _packet
from paho.mqtt.client import Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent import settings
from edge_agent.mqtt.buffered_client import BufferedClient, _without_properties
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Session, Subscription
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.mqtt.scripted_broker import ScriptedBroker

TOPIC = "buffered/in"
SIZES = (0, 1, 100, 127, 128, 16_000, 16_384, 40_000)


class Received:
    """A connection that records what comes and acknowledges it."""

    def __init__(self, url: str, protocol: Any) -> None:
        self.messages: list[MQTTMessage] = []
        self.acknowledged: list[int] = []
        session = Session("buffered", protocol=protocol, subscriptions=(Subscription(TOPIC, 1),))
        self.connection = Connection(
            Endpoint.from_settings(settings.Mqtt(url=url), Path()),
            session,
            on_message=self._take,
            on_acknowledged=lambda mid, _: self.acknowledged.append(mid),
        )
        self.connection.start()
        assert self.connection.wait_until_subscribed(10)

    def _take(self, link: Any, message: MQTTMessage) -> None:
        self.messages.append(message)
        link.ack(message.mid, message.qos)


@pytest.fixture(params=["5", "3.1.1"])
def received(request: pytest.FixtureRequest, broker: Mosquitto) -> Iterator[Received]:
    received = Received(broker.url, request.param)
    yield received
    received.connection.stop(5)


def test_packets_that_come_together_are_all_handled_in_their_order(received: Received, broker: Mosquitto) -> None:
    payloads = [number.to_bytes(2) + bytes(SIZES[number % len(SIZES)]) for number in range(200)]
    sender = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    sender.connect(broker.host, broker.port)
    sender.loop_start()
    for payload in payloads:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if len(payload) % 2:
            properties.UserProperty = ("name", "value")
        sender.publish(TOPIC, payload, 1, properties=properties)
    wait_until(lambda: len(received.messages) == len(payloads), 20, "all have come")
    assert [message.payload for message in received.messages] == payloads
    sender.disconnect()
    sender.loop_stop()


def test_what_several_threads_publish_arrives_whole_and_each_threads_in_order(
    received: Received, broker: Mosquitto
) -> None:
    link = received.connection.link
    assert link is not None
    each = 60
    with Subscriber(broker.port, "buffered/out/#") as subscriber:

        def publish(thread: int) -> None:
            for number in range(each):
                link.publish(f"buffered/out/{thread}", bytes([number]) * (1 + SIZES[number % len(SIZES)]), thread % 2)

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(subscriber.messages) == 4 * each, 20, "all have come")
    for name in (f"buffered/out/{number}" for number in range(4)):
        own = [message.payload for message in subscriber.messages if message.topic == name]
        assert own == [bytes([number]) * (1 + SIZES[number % len(SIZES)]) for number in range(each)]
    wait_until(lambda: len(received.acknowledged) == 4 * each, 10, "all are acknowledged")
    assert len(set(received.acknowledged)) == 4 * each


@pytest.mark.parametrize("protocol", [MQTTv5, MQTTv311])
def test_messages_are_decoded_as_paho_does(protocol: Any) -> None:
    chance = random.Random(1)
    with_properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    with_properties.ContentType = "text/plain"
    decoded = 0
    for _ in range(500):
        command = 0x30 | chance.randrange(16)
        qos = command >> 1 & 3
        topic, payload = b"t" * chance.randrange(1, 5), chance.randbytes(chance.choice((0, 1, 50)))
        packet = struct.pack("!H", len(topic)) + topic + (chance.randbytes(2) if qos else b"")
        plain = protocol != MQTTv5 or chance.random() < 0.7
        if protocol == MQTTv5:
            packet += b"\0" if plain else with_properties.pack()  # type: ignore[no-untyped-call]
        body = bytearray(packet + payload)
        found = _without_properties(command, body, protocol)
        if not plain or qos > 1:
            assert found is None
            skipped = _without_properties(command, body, protocol, skip=True)
            assert qos > 1 or (skipped is not None and skipped.payload == payload)
            continue
        decoded += 1
        wanted = _packet.decode_publish(command, body, protocol)
        assert found is not None
        assert (found.topic.encode(), found.mid, found.qos) == (wanted.topic, wanted.mid, wanted.qos)
        assert (found.dup, found.retain, found.payload) == (wanted.dup, wanted.retain, wanted.payload)
        assert _without_properties(command, body[: chance.randrange(len(packet))], protocol) is None
    assert decoded > 100


def test_a_connection_that_reads_ahead_takes_all_that_comes_before_it_handles_the_first() -> None:
    """So that a broker drops nothing of a burst; 24 MB are more than the buffers of a socket hold."""
    message, count = b"\x30\x8c\x27" + struct.pack("!H", 2) + b"in" + bytes(5_000), 4_800
    taken = threading.Event()
    handled = []

    def handle(_link: Any, message: MQTTMessage) -> None:
        handled.append(len(message.payload) if taken.wait(20) else "the broker could not send it all")

    with ScriptedBroker() as broker:
        session = Session("ahead", protocol="3.1.1", subscriptions=(Subscription("in", 0),), read_ahead=64 << 20)
        endpoint = Endpoint.from_settings(settings.Mqtt(url=f"mqtt://127.0.0.1:{broker.port}"), Path())
        connection = Connection(endpoint, session, on_message=handle)
        connection.start()
        assert connection.wait_until_subscribed(10)
        broker.send(message * count)
        taken.set()
        wait_until(lambda: len(handled) == count, 20, "all are handled")
        connection.stop(5)
    assert set(handled) == {5_000}


@pytest.mark.parametrize("protocol", [MQTTv5, MQTTv311])
@pytest.mark.parametrize("retain", [False, True])
def test_messages_are_sent_as_paho_does(protocol: Any, retain: bool) -> None:
    client, properties = BufferedClient(CallbackAPIVersion.VERSION2, protocol=protocol), None
    client._sock = socket.socket()  # not connected: what is queued stays in the queue
    if protocol == MQTTv5:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "text/plain"
    for size in (*range(200), 16_370, 16_384, 40_000, 2_097_152):
        message_id = client.publish_qos1("a/ü", bytes(size), retain=retain, properties=properties)
        ours = client._out_packet.pop()
        assert message_id is not None
        client._send_publish(message_id, "a/ü".encode(), bytes(size), 1, retain, properties=properties)
        theirs = client._out_packet.pop()
        assert (ours["packet"], ours["command"] & 0xF0) == (theirs["packet"], theirs["command"] & 0xF0)
    client._sock.close()


@pytest.mark.parametrize("seed", range(3))
def test_packets_that_come_in_pieces_are_all_handled_in_their_order(seed: int) -> None:
    chance = random.Random(seed)
    payloads = [bytes([number]) * size for number, size in enumerate((0, 1, 90, 118, 119, 120, 980, 990, 1000, 20_000))]
    chance.shuffle(payloads)
    packets = bytearray()
    for number, payload in enumerate(payloads, 1):
        body = struct.pack("!H", len(TOPIC)) + TOPIC.encode() + number.to_bytes(2) + b"\0" + payload
        packets += b"\x32" + _packed_length(len(body)) + body
    with ScriptedBroker() as broker:
        received = Received(f"mqtt://127.0.0.1:{broker.port}", "5")
        while packets:
            count = chance.choice((1, 2, 3, 7, 130, 5000))
            broker.send(bytes(packets[:count]))
            del packets[:count]
        wait_until(lambda: len(received.messages) == len(payloads), 10, "all have come")
        assert [message.payload for message in received.messages] == payloads
        received.connection.stop(5)


def test_the_end_of_a_connection_is_noticed_at_once() -> None:
    with ScriptedBroker() as broker:
        received = Received(f"mqtt://127.0.0.1:{broker.port}", "5")
    wait_until(
        lambda: received.connection.link is None, 5, "it is noticed, long before the keep-alive interval is over"
    )
    received.connection.stop(5)


def _packed_length(size: int) -> bytes:
    packed = bytearray()
    while size >= 128:
        packed.append(size % 128 | 128)
        size //= 128
    return bytes([*packed, size])
