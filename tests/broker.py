"""A real MQTT broker and a real MQTT client for tests.

`Mosquitto` runs the distribution's broker on a loopback port; `Subscriber` is a paho client that records what
it receives. Both wait for conditions with a deadline, never for a length of time.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

T = TypeVar("T")

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.01
# How many times as long everything may take, for emulated devices.
PATIENCE = float(os.environ.get("EDGE_AGENT_TEST_PATIENCE", "1"))


def wait_until(condition: Callable[[], T], timeout: float, what: str) -> T:
    """The first truthy value of `condition`, polled every 10 ms.

    Raises:
        AssertionError: `what` did not come true within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(POLL_S)


def free_port() -> int:
    """A loopback port that nobody listens on, below the range that the kernel gives to outgoing connections.

    A client that keeps connecting to a stopped broker's port inside that range may be given that very port as
    its own, connect to itself, and so keep the broker from coming back.
    """
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(10_000, max(lowest_outgoing, 20_000)), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free loopback port in 100 attempts")


def password_file(file: Path, user: str, password: str) -> Path:
    """A file for Mosquitto's `password_file`; skips the test where its command is missing."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("needs the MQTT broker Mosquitto: apt-get install mosquitto")
    subprocess.run([program, "-b", "-c", file, user, password], check=True, capture_output=True)
    return file


class Mosquitto:
    """The real `mosquitto` on 127.0.0.1, from `start` to `stop`; a context manager does both.

    Args:
        folder: where its configuration and its log go.
        config: further lines of mosquitto.conf; they follow the `listener` line and so may also give it TLS.
        persistence: the folder in which the broker keeps its state over a restart; without it, nothing is
            kept. State is written on `stop`, and lost on `kill` unless `config` has it saved earlier
            (`autosave_interval`).
    """

    host = "127.0.0.1"

    def __init__(self, folder: Path, config: Sequence[str] = (), persistence: Path | None = None) -> None:
        self.port = free_port()
        self.log_file = folder / f"mosquitto-{self.port}.log"
        self._config_file = folder / f"mosquitto-{self.port}.conf"
        self._process: subprocess.Popen[bytes] | None = None
        lines = [
            "user root",  # else a broker started by root becomes `mosquitto`, barred from `persistence`
            "log_dest stderr",
            "log_type all",
            "log_timestamp_format %H:%M:%S",
            f"persistence {'true' if persistence else 'false'}",
            *([f"persistence_location {persistence}/"] if persistence else []),
            f"listener {self.port} {self.host}",
            "allow_anonymous true",
            *config,
        ]
        folder.mkdir(parents=True, exist_ok=True)
        if persistence:
            persistence.mkdir(parents=True, exist_ok=True)
        self._config_file.write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"

    def start(self) -> None:
        """Start the broker and wait until it accepts connections; skip the test where there is none."""
        # Debian installs it in /usr/sbin, which is not on every user's path.
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("needs the MQTT broker Mosquitto: apt-get install mosquitto")
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(self._config_file)], stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_until(self._accepts, START_TIMEOUT_S, "mosquitto accepts connections")
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.log()}") from None

    def _accepts(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError("mosquitto ended before it accepted a connection")
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End the broker in order (SIGTERM); it writes its state first if it has `persistence`."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker as a crash would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"mosquitto ignored {number.name}\n{self.log()}") from None
        finally:
            self._process = None

    def restart(self) -> None:
        """Stop, and start again on the same port."""
        self.stop()
        self.start()

    def log(self) -> str:
        """What the broker has logged so far, over all its starts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            # pytest shows what was printed for the tests that fail, and only for those.
            print(self.log())


@dataclass(frozen=True)
class Message:
    """One message as it arrived."""

    topic: str
    payload: bytes
    retain: bool
    qos: int
    properties: Properties | None
    """Of MQTT 5; None over 3.1.1."""
    arrived_at: float
    """Seconds, monotonic clock."""


class Subscriber:
    """An MQTT client, subscribed once its constructor returns, that records what it receives in `messages`.

    It reconnects and subscribes again when the broker was away. Use it as a context manager, or `close` it.

    Args:
        port: the broker's, on 127.0.0.1.
        topics: topic filters, subscribed at QoS 1.
        protocol: MQTT 5 or 3.1.1.
        client_id: made up by the broker when empty.
        as_published: keep the publisher's retain flag, which brokers clear otherwise (MQTT 5).

    Raises:
        AssertionError: the broker refused the connection or a subscription, or was silent for 10 s.
    """

    def __init__(
        self,
        port: int,
        *topics: str,
        protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5,
        client_id: str = "",
        as_published: bool = False,
    ) -> None:
        self.messages: list[Message] = []
        self._as_published = as_published
        self._topics = topics
        self._protocol = protocol
        self._changed = threading.Condition()
        self._ready = False
        self._refusal: ReasonCode | None = None
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol)
        self.client.on_connect = self._connected
        self.client.on_disconnect = self._disconnected
        self.client.on_subscribe = self._subscribed
        self.client.on_message = self._received
        self.client.on_socket_open = _send_at_once
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        try:
            self.wait_ready()
        except AssertionError:
            self.close()
            raise

    def wait_ready(self, timeout: float = 10.0) -> None:
        """Wait until the connection and the subscriptions stand, at first or after the broker was away."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._refusal, timeout * PATIENCE)
            if self._refusal:
                raise AssertionError(f"the broker refuses: {self._refusal}")
            if not self._ready:
                raise AssertionError(f"not connected and subscribed to {self._topics} within {timeout:g} s")

    def wait_for(self, predicate: Callable[[Message], bool], count: int = 1, timeout: float = 10.0) -> list[Message]:
        """All messages that satisfy `predicate`, in order of arrival, once there are at least `count`.

        Raises:
            AssertionError: there were fewer after `timeout` seconds; it says what came instead.
        """
        with self._changed:
            if self._changed.wait_for(lambda: sum(map(predicate, self.messages)) >= count, timeout * PATIENCE):
                return [message for message in self.messages if predicate(message)]
            found = sum(map(predicate, self.messages))
            last = [(message.topic, message.payload[:200]) for message in self.messages[-10:]]
            raise AssertionError(
                f"{found} of {count} messages within {timeout:g} s; "
                f"{len(self.messages)} arrived in all, the last ones: {last}"
            )

    def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Properties | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Publish and wait until the broker has acknowledged (QoS 1, 2) or it has been sent (QoS 0)."""
        handed_over = self.client.publish(topic, payload, qos, retain, properties)
        handed_over.wait_for_publish(timeout * PATIENCE)
        if not handed_over.is_published():
            raise AssertionError(f"publish to {topic} not acknowledged within {timeout:g} s")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure or not self._topics:
            self._stands([reason])
        elif self._protocol == MQTTProtocolVersion.MQTTv5:
            options = SubscribeOptions(qos=1, retainAsPublished=self._as_published)
            client.subscribe([(topic, options) for topic in self._topics])
        else:
            client.subscribe([(topic, 1) for topic in self._topics])

    def _subscribed(
        self, _client: paho.Client, _data: Any, _id: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        self._stands(reasons)

    def _stands(self, reasons: list[ReasonCode]) -> None:
        with self._changed:
            self._refusal = next((reason for reason in reasons if reason.is_failure), None)
            self._ready = self._refusal is None
            self._changed.notify_all()

    def _disconnected(self, *_: Any) -> None:
        with self._changed:
            self._ready = False

    def _received(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        arrived = Message(
            message.topic,
            bytes(message.payload),
            message.retain,
            message.qos,
            message.properties,
            time.monotonic(),
        )
        with self._changed:
            self.messages.append(arrived)
            self._changed.notify_all()


def _send_at_once(_client: paho.Client, _data: Any, connection: Any) -> None:
    # Nagle's algorithm against delayed acknowledgements costs 40 ms a message otherwise.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
