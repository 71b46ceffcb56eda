"""`python -m benchmarks.fleet`: a fleet of 10,000 devices at a real Mosquitto, and what the commands for fleets take.

The messages are those of a real agent, with other device ids. Each simulated device has a connection of its own with a
last will, as an agent has, and publishes its `stats` every `--stats` seconds.
"""

import argparse
import io
import json
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.processes import Broker, cpu_seconds, pss_mib
from edge_agent.mqtt.publish_properties import PublishProperties
from tests.broker import Mosquitto, wait_until
from tests.update.kit import DEVICE, Scene, scene

KEEPALIVE = 60
CHANNEL, RELEASE = "digits", "digits/1"
Messages = Mapping[str, bytes]
"""What follows the device id in the topic -> payload."""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="benchmarks.fleet", description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--stats", type=float, default=300, help="seconds between two `stats` of a device (300)")
    parser.add_argument("--seconds", type=float, default=30, help="how long the broker is watched (30)")
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # Mosquitto takes its limit from here
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        messages, repository = one_device(folder)
        for topic, payload in messages.items():
            print(f"{topic:12} {len(payload):6} bytes")
        with Broker(folder) as broker, Fleet(broker.port, args.devices, messages) as fleet:
            print(f"{args.devices} devices: Mosquitto takes {pss_mib(broker.pid):.0f} MB")
            with fleet.publishing_stats(args.stats):
                cores = busy(broker.pid, args.seconds)
                print(f"stats of each every {args.stats:g} s: Mosquitto takes {100 * cores:.1f} % of a core")
                measure(broker.port, folder, repository)


def one_device(folder: Path) -> tuple[Messages, Path]:
    """What a real agent with a pipeline and a channel of updates has published last; and the repository it follows."""
    with (
        redirect_stdout(io.StringIO()),  # they print their logs
        Mosquitto(folder / "broker") as broker,
        scene(broker, folder / "one", folder / "cache") as stage,
    ):
        stage.install("1")
        with stage.daemon:
            stage.serving()
            wait_until(lambda: _complete(stage), 30, "the device has published everything")
            last = {message.topic: message.payload for message in list(stage.client.messages) if message.payload}
        prefix = f"edge/{DEVICE}/"
        kept = {topic.removeprefix(prefix): payload for topic, payload in last.items() if topic.startswith(prefix)}
        kept.pop("lab/result", None)
        kept.pop("answer", None)
        return kept | {"status": b"online"}, stage.folder / "repository"


def _complete(stage: Scene) -> bool:
    stats = [message.payload for message in list(stage.client.messages) if message.topic.endswith("/stats")]
    return bool(stats and stage.states()) and json.loads(stats[-1])["pipelines"]["lab"]["acknowledged"] > 0


class Fleet:
    """Connected devices that have published what agents publish.

    Args:
        port: of the broker, on loopback.
        devices: how many.
        messages: what each has published.
    """

    def __init__(self, port: int, devices: int, messages: Messages) -> None:
        self._port = port
        self._names = [f"device-{number:06}" for number in range(devices)]
        self._stats = messages["stats"]
        self._sockets: dict[str, socket.socket] = {}
        self._stopped = threading.Event()
        self._publish(messages)
        self._connect()

    def _publish(self, messages: Messages) -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.connect("127.0.0.1", self._port)
        client.loop_start()
        last = None
        for name in self._names:
            for topic, payload in messages.items():
                renamed = payload.replace(DEVICE.encode(), name.encode())
                stated = PublishProperties(is_json=renamed.startswith(b"{")).of(name)
                last = client.publish(f"edge/{name}/{topic}", renamed, qos=0, retain=True, properties=stated)
        if last is not None:
            last.wait_for_publish(300)
        client.disconnect()
        client.loop_stop()

    def _connect(self) -> None:
        for name in self._names:
            connection = socket.create_connection(("127.0.0.1", self._port), 10)
            connection.sendall(_connect_packet(name))
            self._sockets[name] = connection
        for connection in self._sockets.values():
            if connection.recv(2)[:1] != b"\x20":
                raise SystemExit("the broker refuses a device")
            connection.setblocking(False)

    @contextmanager
    def publishing_stats(self, every: float) -> Iterator[None]:
        """Each device publishes its counters in turn, retained, and pings the broker in time."""
        thread = threading.Thread(target=self._keep_publishing, args=(every,))
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()

    def _keep_publishing(self, every: float) -> None:
        answers = selectors.DefaultSelector()
        for connection in self._sockets.values():
            answers.register(connection, selectors.EVENT_READ)
        began, sent, pinged = time.monotonic(), 0, 0
        while not self._stopped.wait(0.02):
            spent, devices = time.monotonic() - began, len(self._names)
            while sent < spent * devices / every:
                name = self._names[sent % devices]
                payload = self._stats.replace(DEVICE.encode(), name.encode())
                self._sockets[name].send(_publish_packet(f"edge/{name}/stats", payload))
                sent += 1
            while pinged < spent * devices / (KEEPALIVE / 2):
                self._sockets[self._names[pinged % devices]].send(b"\xc0\0")
                pinged += 1
            for key, _ in answers.select(0):
                key.fileobj.recv(65536)  # type: ignore[union-attr]  # these are sockets

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._sockets.values():
            connection.close()


def _connect_packet(name: str) -> bytes:
    """CONNECT of MQTT 3.1.1 with a last will, as an agent has it."""
    will = _text(f"edge/{name}/status") + _text("offline")
    body = _text("MQTT") + bytes([4, 0b0010_1110]) + KEEPALIVE.to_bytes(2) + _text(f"edge-agent-{name}") + will
    return b"\x10" + _length(len(body)) + body


def _publish_packet(topic: str, payload: bytes) -> bytes:
    body = _text(topic) + payload
    return b"\x31" + _length(len(body)) + body


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2) + text.encode()


def _length(size: int) -> bytes:
    found = b""
    while True:
        size, digit = divmod(size, 128)
        found += bytes([digit | 0x80 if size else digit])
        if not size:
            return found


def busy(pid: int, seconds: float) -> float:
    """How much of a core a process takes, on average."""
    before = cpu_seconds(pid)
    threading.Event().wait(seconds)
    return (cpu_seconds(pid) - before) / seconds


# The largest memory of a process includes that of the one that it was forked from: here, all simulated devices.
_MEASURED = """
import json, os, subprocess, sys, time
began = time.perf_counter()
_, status, usage = os.wait4(subprocess.Popen([sys.executable, "-m", "edge_agent", *sys.argv[1:]]).pid, 0)
took, cpu = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
print(json.dumps([took, cpu, usage.ru_maxrss / 1000, os.waitstatus_to_exitcode(status)]), file=sys.stderr)
"""


def measure(port: int, folder: Path, repository: Path) -> None:
    """Runs each command for fleets, and prints its time and its memory."""
    config = folder / "operator.yaml"
    config.write_text(f"device_id: operator\nmqtt: {{url: 'mqtt://127.0.0.1:{port}'}}\nmodels: {{}}\npipelines: {{}}\n")
    broker = ("--url", f"mqtt://127.0.0.1:{port}")
    steering = ("--repository", str(repository), "-c", str(config))
    commands = {
        "watch --once": ["watch", "--once", *broker],
        "watch --json": ["watch", "--json", *broker],
        "fleet": ["fleet", *broker],
        "fleet --json": ["fleet", "--json", *broker],
        "fleet --csv": ["fleet", "--csv", *broker],
        "release watch": ["release", "watch", RELEASE, *steering, "--timeout", "60"],
    }
    for name, arguments in commands.items():
        with (folder / "output").open("wb") as output:
            command = [sys.executable, "-c", _MEASURED, *arguments]
            said = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=True).stderr
        took, cpu, memory, code = json.loads(said.splitlines()[-1])
        print(f"{name:14} {took:5.1f} s, {memory:4.0f} MB, {cpu:5.1f} s of CPU, exit code {code}")


if __name__ == "__main__":
    main()
