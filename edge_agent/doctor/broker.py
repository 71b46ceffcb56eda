"""Check of the broker: connects as the agent would, measures how long it takes to answer, and asks the running agent.

Subscribes to what the sources of the configuration subscribe to, and reads what the agent itself has published of its
problems: only it can know of a camera that is gone, or of another client with its client id.
"""

import os
import re
import threading
import time
from pathlib import Path

from paho.mqtt.client import MQTTMessage

from edge_agent.doctor.machine import Finding, Machine, failure, ok, warning
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session, Subscription
from edge_agent.settings import MqttSource
from edge_agent.system.terminal import printable
from edge_agent.system.text import parse_json

TIMEOUT = 15.0
ANSWER_TIMEOUT = 5.0
# Retained messages come at once.
RETAINED_TIMEOUT = 1.0
MAX_PAYLOAD = 1_000_000
MAX_TEXT = 500
SLOW_MS = 500.0
# Mosquitto's count of its clients. Its service on Debian stops at MOST_CLIENTS, unless it may have more open files.
CLIENTS = "$SYS/broker/clients/connected"
MAX_DIGITS = 12
MANY_CLIENTS, MOST_CLIENTS = 800, 1015
MORE_CLIENTS = (
    "on {host}: printf '[Service]\\nLimitNOFILE=65536\\n' | "
    "sudo install -D -m 644 /dev/stdin /etc/systemd/system/mosquitto.service.d/edge.conf && "
    "sudo systemctl daemon-reload && sudo systemctl restart mosquitto"
)
# Pattern of a failure -> the command that fixes it, or helps to find the cause; the first match counts.
FIXES = (
    (r"^mqtt\.password_file", "give a file that {user} can read, with nothing but the password in its first line"),
    (r"^mqtt\.\w+_file", "give PEM files that {user} can read: openssl x509 -noout -text -in FILE"),
    (r"nothing listens", "on {host}: sudo systemctl enable --now mosquitto && sudo ss -tlnp | grep {port}"),
    (r"is not known to the network", "getent hosts {host}  # must print an address: fix mqtt.url or the name server"),
    (r"certificate is not accepted", "openssl s_client -connect {host}:{port} -showcerts </dev/null"),
    (r"TLS", "openssl s_client -connect {host}:{port} </dev/null"),
    (r"Not authorized|[Uu]ser ?name|refuses", "on {host}: sudo mosquitto_passwd /etc/mosquitto/passwd {username}"),
    (r"", "ping -c 3 {host}; nc -vz -w 5 {host} {port}"),
)


def broker(machine: Machine) -> list[Finding]:
    """Connects, subscribes to the device's own state and its inputs, and disconnects; publishes nothing."""
    mqtt = machine.mqtt
    if mqtt is None:
        return [ok("none given: with -c FILE or --url URL it is tried")]
    if mqtt.url == "embedded":
        return [ok("embedded: it is part of the agent")]
    endpoint = Endpoint.from_settings(mqtt, machine.file.parent if machine.file else Path.cwd())
    device = machine.config.settings.device_id if machine.config else "doctor"
    own = [f"{mqtt.topic_prefix}/{device}/{what}" for what in ("status", "info")]
    inputs = _inputs(machine)
    session = Session(
        # Not the agent's own id, whose session it would take over.
        client_id=f"edge-agent-{device}-doctor-{os.getpid()}",
        protocol=mqtt.protocol,
        keepalive=mqtt.keepalive,
        max_packet_size=MAX_PAYLOAD,
        max_kept=MAX_PAYLOAD,
        subscriptions=[Subscription(topic, 0) for topic in (*own, CLIENTS, *inputs)],
    )
    up: list[tuple[Link, float]] = []
    retained: dict[str, bytes] = {}
    heard = threading.Event()

    def receive(_link: Link, message: MQTTMessage) -> None:
        if message.topic in (*own, CLIENTS):
            retained[message.topic] = bytes(message.payload)
            if len(retained) == len(own) + 1:
                heard.set()

    connection = Connection(
        endpoint, session, on_up=lambda link: up.append((link, time.monotonic())), on_message=receive
    )
    began = time.monotonic()
    connection.start()
    try:
        if not connection.wait_until_tried(TIMEOUT):
            return [_not_reached(machine, endpoint, f"{endpoint.address}: no answer within {TIMEOUT:g} s")]
        if connection.link is None:
            return [_not_reached(machine, endpoint, connection.problem)]
        if not connection.wait_until_subscribed(ANSWER_TIMEOUT):
            problem = connection.problem or f"{endpoint.address}: takes the connection and then answers nothing"
            return [_not_reached(machine, endpoint, problem)]
        link, connected = up[-1]
        found = _reached(endpoint, link, connected - began, time.monotonic() - connected)
        found += [_refused(endpoint, topic, why) for topic, why in connection.refused.items() if topic in inputs]
        heard.wait(RETAINED_TIMEOUT)
        found += _clients(endpoint, retained.get(CLIENTS, b""))
        if machine.config is not None:
            found += _problems(*(retained.get(topic, b"") for topic in own))
        return found
    finally:
        connection.stop()


def _inputs(machine: Machine) -> list[str]:
    """The topic filters of the sources; of a shared subscription without its group, whose inputs this would take."""
    pipelines = machine.config.settings.pipelines.values() if machine.config else ()
    topics = (one.source.topic for one in pipelines if isinstance(one.source, MqttSource))
    return list(dict.fromkeys(topics))


def _refused(endpoint: Endpoint, topic: str, why: str) -> Finding:
    user = endpoint.username or "this client"
    topic = printable(topic)
    fix = f"on {endpoint.host}: let {user} read {topic}, in mosquitto's acl_file: topic read {topic}"
    return failure(f"the broker refuses the subscription to {topic}: {why}", fix)


def _problems(status: bytes, info: bytes) -> list[Finding]:
    """What the running agent reports."""
    try:
        document = parse_json(info) if status == b"online" else {}
    except ValueError:
        return []
    facts = document if isinstance(document, dict) else {}
    pipelines = facts.get("pipelines")
    named = [("", facts), *(pipelines.items() if isinstance(pipelines, dict) else ())]
    found = [(name, one.get("problem")) for name, one in named if isinstance(one, dict)]
    fix = "journalctl -u edge-agent --since -1h"
    return [
        failure(printable(f"pipeline {name}: {text}" if name else text)[:MAX_TEXT], fix)
        for name, text in found
        if isinstance(text, str) and text
    ]


def _clients(endpoint: Endpoint, payload: bytes) -> list[Finding]:
    """Whether the broker will soon take no further client; nothing where it does not say how many it has."""
    try:
        count = int(payload[:MAX_DIGITS])
    except ValueError:
        return []
    if not MANY_CLIENTS <= count <= MOST_CLIENTS:
        return []
    text = f"{count} clients are connected: Mosquitto's service on Debian stops at {MOST_CLIENTS}"
    return [warning(text, MORE_CLIENTS.format(host=endpoint.host))]


def _reached(endpoint: Endpoint, link: Link, connect_s: float, answer_s: float) -> list[Finding]:
    text = f"{endpoint.address}: MQTT {link.version}, connected in {connect_s * 1000:.0f} ms"
    text += f", answers in {answer_s * 1000:.1f} ms"
    look = f"ping -c 10 {endpoint.host}"
    found = [warning(f"{text}: slow", look) if answer_s * 1000 > SLOW_MS else ok(text)]
    limits = f"on {endpoint.host}, in mosquitto.conf: "
    if link.max_qos == 0:
        found.append(warning("takes messages of QoS 0 only: results may get lost on the way", f"{limits}max_qos 2"))
    if not link.retains:
        text = "keeps no retained messages: who comes later learns no status and no info"
        found.append(warning(text, f"{limits}retain_available true"))
    return found


def _not_reached(machine: Machine, endpoint: Endpoint, problem: str) -> Finding:
    fix = next(fix for pattern, fix in FIXES if re.search(pattern, problem))
    username = endpoint.username or "USER"
    return failure(problem, fix.format(host=endpoint.host, port=endpoint.port, username=username, user=machine.user))
