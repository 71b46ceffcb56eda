import hashlib
import logging
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_agent.errors import EdgeAgentError
from edge_agent.mqtt.embedded import EmbeddedBroker
from tests.broker import PATIENCE, Message, Subscriber, wait_until

V311 = MQTTProtocolVersion.MQTTv311


def start(broker: EmbeddedBroker) -> int:
    url = broker.start()
    assert url.startswith("mqtt://127.0.0.1:")
    return int(url.rpartition(":")[2])


@pytest.fixture
def port() -> Iterator[int]:
    broker = EmbeddedBroker()
    yield start(broker)
    broker.stop()


def on(topic: str) -> Callable[[Message], bool]:
    return lambda message: message.topic == topic


def test_messages_of_qos_1_arrive_all_and_in_order(port: int) -> None:
    with Subscriber(port, "numbers", protocol=V311) as client:
        for number in range(500):
            client.client.publish("numbers", str(number), qos=1)
        got = client.wait_for(on("numbers"), count=500)
    assert [int(message.payload) for message in got] == list(range(500))
    assert {message.qos for message in got} == {1}


def test_an_image_of_two_megabytes_arrives_unchanged(port: int) -> None:
    image = random.Random(1).randbytes(2_000_000)
    with Subscriber(port, "images", protocol=V311) as client:
        for _ in range(3):
            client.publish("images", image)
        got = client.wait_for(on("images"), count=3)
    assert {hashlib.sha256(message.payload).digest() for message in got} == {hashlib.sha256(image).digest()}


@pytest.mark.parametrize(
    ("topic_filter", "matching"),
    [
        ("a/+/result", ["a/b/result", "a/c/result"]),
        ("a/#", ["a", "a/b/result", "a/c/result", "a/b/c/result"]),
        ("+/b/#", ["a/b/result", "a/b/c/result"]),
    ],
)
def test_wildcards_select_topics(port: int, topic_filter: str, matching: list[str]) -> None:
    with Subscriber(port, topic_filter, "end", protocol=V311) as client:
        for topic in ["a", "a/b/result", "a/c/result", "a/b/c/result", "x", "end"]:
            client.publish(topic, b"1")
        client.wait_for(on("end"))
        topics = [message.topic for message in client.messages]
    assert topics == [*matching, "end"]


def test_a_retained_message_waits_for_later_subscribers_until_it_is_cleared(port: int) -> None:
    with Subscriber(port, protocol=V311) as publisher:
        publisher.publish("status", b"online", retain=True)
        with Subscriber(port, "status", protocol=V311) as late:
            [message] = late.wait_for(on("status"))
            assert (message.payload, message.retain) == (b"online", True)
        publisher.publish("status", b"", retain=True)
        with Subscriber(port, "status", "end", protocol=V311) as later:
            publisher.publish("end", b"1")
            later.wait_for(on("end"))
            assert [message.topic for message in later.messages] == ["end"]


def test_the_last_will_is_published_when_a_client_vanishes(port: int) -> None:
    with Subscriber(port, "status", protocol=V311) as watching:
        doomed = paho.Client(CallbackAPIVersion.VERSION2, protocol=V311)
        doomed.will_set("status", b"offline", qos=1, retain=True)
        doomed.connect("127.0.0.1", port)
        wait_until(lambda: doomed.loop(0.01) == 0 and doomed.is_connected(), 10, "the client is connected")
        connection = doomed.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        doomed.loop()
        [message] = watching.wait_for(on("status"))
        assert message.payload == b"offline"
    with Subscriber(port, "status", protocol=V311) as later:
        assert later.wait_for(on("status"))[0].retain


def test_a_client_that_takes_its_leave_leaves_no_will(port: int) -> None:
    with Subscriber(port, "status", "end", protocol=V311) as watching:
        polite = paho.Client(CallbackAPIVersion.VERSION2, protocol=V311)
        polite.will_set("status", b"offline", qos=1)
        polite.connect("127.0.0.1", port)
        wait_until(lambda: polite.loop(0.01) == 0 and polite.is_connected(), 10, "the client is connected")
        polite.disconnect()
        wait_until(lambda: polite.loop(0.01) and not polite.is_connected(), 10, "the client is disconnected")
        watching.publish("end", b"1")
        watching.wait_for(on("end"))
        assert [message.topic for message in watching.messages] == ["end"]


def test_mqtt_5_is_refused_in_a_way_that_a_client_understands(port: int) -> None:
    with pytest.raises(AssertionError, match="the broker refuses: Unsupported protocol version"):
        Subscriber(port)


@pytest.mark.parametrize(
    "junk",
    [b"GET / HTTP/1.1\r\n\r\n", b"", b"\x10\xff\xff\xff\xff", b"\x10\x0c\x00\x04MQTT\xff\x02", b"\x82"],
)
def test_a_connection_that_speaks_something_else_is_closed_and_the_rest_goes_on(port: int, junk: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(junk)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    with Subscriber(port, "a", protocol=V311) as client:
        client.publish("a", b"1")
        client.wait_for(on("a"))


def test_it_listens_on_the_loopback_interface_only(port: int) -> None:
    # sl local_address rem_address st …; 0A is a listening socket, and addresses are little-endian.
    rows = [line.split() for name in ("tcp", "tcp6") for line in open_sockets(name)]
    assert [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


def open_sockets(name: str) -> list[str]:
    table = Path("/proc/net", name)
    return table.read_text().splitlines()[1:] if table.exists() else []


def test_stop_ends_everything_even_with_messages_under_way_to_a_client_that_does_not_read() -> None:
    before = threading.active_count()
    broker = EmbeddedBroker()
    port = start(broker)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as deaf:
        deaf.sendall(bytes.fromhex("101000044d5154540402003c000464656166"))  # CONNECT as `deaf`
        assert deaf.recv(4) == bytes.fromhex("20020000")
        deaf.sendall(bytes.fromhex("820900010004") + b"deaf\x01")  # SUBSCRIBE to `deaf` at QoS 1
        assert deaf.recv(5) == bytes.fromhex("9003000101")
        with Subscriber(port, protocol=V311) as client:
            for _ in range(20):
                client.publish("deaf", bytes(2_000_000))
        began = time.monotonic()
        broker.stop()
        assert time.monotonic() - began < 5 * PATIENCE
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)


def test_it_can_be_started_again_and_stopping_twice_is_fine() -> None:
    broker = EmbeddedBroker()
    broker.stop()
    for _ in range(2):
        with Subscriber(start(broker), "a", protocol=V311) as client:
            client.publish("a", b"1")
            client.wait_for(on("a"))
        broker.stop()
        broker.stop()


def test_traffic_leaves_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    broker = EmbeddedBroker()
    with Subscriber(start(broker), "a", protocol=V311) as client:
        client.publish("a", b"1", retain=True)
        client.wait_for(on("a"))
    broker.stop()
    assert [record for record in caplog.records if record.name.startswith(("amqtt", "transitions"))] == []


def test_what_is_logged_of_a_bad_client_is_warnings_of_one_line(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    records = [record for record in caplog.records if record.name.startswith("amqtt")]
    assert {record.levelname for record in records} == {"WARNING"}
    assert not any("\n" in record.getMessage() or record.exc_info for record in records)


def test_without_amqtt_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amqtt.errors", None)
    with pytest.raises(EdgeAgentError, match="install amqtt") as caught:
        EmbeddedBroker().start()
    assert "\n" not in str(caught.value)


def test_when_it_cannot_listen_it_says_why_in_one_line() -> None:
    script = """
import os, resource, amqtt.broker, amqtt.plugins.authentication
from edge_agent.errors import EdgeAgentError
from edge_agent.mqtt.embedded import EmbeddedBroker
next_file = os.dup(0)
os.close(next_file)
event_loop_files = 3
resource.setrlimit(resource.RLIMIT_NOFILE, (next_file + event_loop_files,) * 2)
try:
    EmbeddedBroker().start()
except EdgeAgentError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert result.stderr == ""
    [line] = result.stdout.splitlines()
    assert "mqtt.url: the embedded broker did not start (OSError: [Errno 24] Too many open files)" in line
