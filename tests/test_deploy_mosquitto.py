"""The broker configuration that the project ships, run as it is but for the paths and the port."""

import configparser
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from edge_agent import settings
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session, Subscription
from edge_agent.mqtt.reasons import Refusal
from tests import scenarios
from tests.broker import Mosquitto, free_port, wait_until
from tests.certificates import Authority
from tests.daemon_process import Daemon

SHIPPED = Path(__file__).parents[1] / "deploy" / "mosquitto"
USERS = ("porch-pi", "shed-pi", "dashboard", "sender", "operator", "home-assistant")


class Broker:
    """The shipped configuration on a free port, with a password for every user.

    Args:
        certificates: whether it asks for certificates instead.
        home_assistant: whether the rules for that are turned on.
    """

    def __init__(self, folder: Path, *, certificates: bool = False, home_assistant: bool = False) -> None:
        self.folder = folder
        self.port = free_port()
        self.authority = Authority(folder / "certs")
        self.authority.issue("broker", host="localhost")
        for user in USERS:
            self.authority.issue(user)
        passwords = folder / "edge-passwords"
        passwords.write_text("".join(f"{user}:{password(user)}\n" for user in USERS))
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
        rules = folder / "edge-rules"
        text = (SHIPPED / "edge-rules").read_text()
        if home_assistant:
            text = re.sub(
                r"^#(?=\S.*home-?assistant)|^#(?=topic (?:read edge/#|write edge/[+]/cmd)$)",
                "",
                text,
                flags=re.MULTILINE,
            )
        rules.write_text(text)
        for file in (passwords, rules):
            file.chmod(0o600)
        config = (SHIPPED / "edge.conf").read_text().replace("listener 8883", f"listener {self.port}")
        if certificates:
            config = config.replace("password_file", "#password_file")
            for line in ("cafile", "require_certificate", "use_identity_as_username"):
                assert f"\n#{line}" in config
                config = config.replace(f"\n#{line}", f"\n{line}")
        self.mosquitto = Mosquitto(folder, config=config.replace("/etc/mosquitto", str(folder)).splitlines())

    def options(self, user: str, *, certificate: bool = False) -> dict[str, Any]:
        """What `mqtt` holds in the configuration of an agent that comes as this user."""
        options = {"url": f"mqtts://localhost:{self.port}", "ca_file": str(self.authority.cert), "keepalive": "2s"}
        if certificate:
            certs = self.folder / "certs"
            return options | {"cert_file": str(certs / f"{user}.pem"), "key_file": str(certs / f"{user}.key")}
        file = self.folder / f"{user}-password"
        file.write_text(f"{password(user)}\n")
        file.chmod(0o600)
        return options | {"username": user, "password_file": str(file)}


def password(user: str) -> str:
    return f"the secret of {user}"


class Client:
    """A program that comes in as some user."""

    def __init__(self, options: dict[str, Any], *topics: str) -> None:
        self.links: list[Link] = []
        self.heard: list[tuple[str, bytes]] = []
        self.answers: dict[int, Refusal | None] = {}
        self.connection = Connection(
            Endpoint.from_settings(settings.Mqtt.model_validate(options), Path()),
            Session(f"program-{id(self)}", keepalive=5, subscriptions=[Subscription(topic, 1) for topic in topics]),
            on_up=self.links.append,
            on_message=self._hear,
            on_acknowledged=self.answers.__setitem__,
        )

    def _hear(self, link: Link, message: Any) -> None:
        link.ack(message.mid)
        self.heard.append((message.topic, bytes(message.payload)))

    def may_write(self, topic: str) -> bool:
        message_id = self.links[0].publish(topic, b"?", 1)
        assert message_id is not None
        wait_until(lambda: message_id in self.answers, 10, "an answer")
        return self.answers[message_id] is None

    def __enter__(self) -> Self:
        self.connection.start()
        wait_until(lambda: self.links, 10, f"connected ({self.connection.problem})")
        if self.connection.session.subscriptions:
            assert self.connection.wait_until_subscribed(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.stop(5)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    shipped = Broker(tmp_path_factory.mktemp("broker"))
    with shipped.mosquitto:
        yield shipped


def lab(mqtt: dict[str, Any], device: str) -> dict[str, Any]:
    config = scenarios.lab("mqtt://replaced", device, source={"topic": f"in/{device}/#"})
    return config | {"mqtt": mqtt}


def say_and_hear(broker: Broker, *, certificate: bool) -> None:
    dashboard = Client(broker.options("dashboard", certificate=certificate), "edge/#")
    sender = Client(broker.options("sender", certificate=certificate))
    with dashboard, sender:
        wait_until(lambda: ("edge/porch-pi/status", b"online") in dashboard.heard, 20, "the device is online")
        sender.links[0].publish("in/porch-pi/1", scenarios.image("5"), 1)
        wait_until(lambda: any("result" in topic for topic, _ in dashboard.heard), 20, "a result")
        result = next(json.loads(payload) for topic, payload in dashboard.heard if topic == "edge/porch-pi/lab/result")
        assert result["predictions"][0]["label"] == "5"


def test_a_device_with_a_password_does_its_work_and_tells_its_secret_to_nobody(broker: Broker, tmp_path: Path) -> None:
    options = broker.options("porch-pi") | {"password_file": "${env:CREDENTIALS_DIRECTORY}/porch-pi-password"}
    # As systemd passes credentials on (LoadCredential=).
    environment = {"CREDENTIALS_DIRECTORY": str(broker.folder)}
    daemon = Daemon(tmp_path, lab(options, "porch-pi"), environment=environment, arguments=("--debug",))
    with daemon, Client(broker.options("dashboard"), "edge/#") as listener:
        say_and_hear(broker, certificate=False)
        process = Path(f"/proc/{daemon.pid}")
        told = [process.joinpath("cmdline").read_bytes(), process.joinpath("environ").read_bytes()]
        told += [payload for _, payload in listener.heard]
        assert any(topic.endswith("/info") for topic, _ in listener.heard)
    told.append(daemon.log_file.read_bytes())
    assert password("porch-pi").encode() not in b"".join(told)


def test_a_device_with_a_certificate_does_its_work(tmp_path: Path) -> None:
    shipped = Broker(tmp_path / "broker", certificates=True)
    config = lab(shipped.options("porch-pi", certificate=True), "porch-pi")
    with shipped.mosquitto, Daemon(tmp_path / "agent", config):
        say_and_hear(shipped, certificate=True)


def test_a_device_writes_below_its_own_prefix_only(broker: Broker) -> None:
    with Client(broker.options("porch-pi")) as device:
        for topic in ("edge/porch-pi/status", "edge/porch-pi/lab/result", "edge/porch-pi/answers/1"):
            assert device.may_write(topic)
        for topic in (
            "edge/shed-pi/status",
            "edge/shed-pi/cmd",
            "edge/porch-pi2/status",
            "edge/all/cmd",
            "in/porch-pi/1",
            "homeassistant/device/porch-pi/config",
            "elsewhere",
        ):
            assert not device.may_write(topic)


def test_a_device_hears_what_is_meant_for_it_only(broker: Broker) -> None:
    topics = ("edge/#", "in/#")
    with (
        Client(broker.options("porch-pi"), *topics) as device,
        Client(broker.options("operator")) as operator,
        Client(broker.options("sender")) as sender,
        Client(broker.options("shed-pi")) as other,
    ):
        said = {
            operator: ("edge/shed-pi/cmd", "edge/porch-pi/cmd", "edge/all/cmd"),
            sender: ("in/shed-pi/1", "in/porch-pi/1", "in/all/1"),
            other: ("edge/shed-pi/lab/result", "edge/shed-pi/lab/share", "edge/shed-pi/status"),
        }
        for client, allowed in said.items():
            assert all(client.may_write(topic) for topic in allowed)
        wanted = {"edge/porch-pi/cmd", "edge/all/cmd", "in/porch-pi/1", "in/all/1", "edge/shed-pi/lab/share"}
        wait_until(lambda: {topic for topic, _ in device.heard} >= wanted, 10, "everything that is meant for it")
        own = {f"edge/porch-pi/{what}" for what in ("status", "info", "stats", "accelerator", "lab/status")}
        assert {topic for topic, _ in device.heard} - wanted <= own


def test_a_device_under_a_foreign_name_is_told_that_its_results_are_refused(broker: Broker, tmp_path: Path) -> None:
    with Daemon(tmp_path, lab(broker.options("porch-pi"), "attic-pi") | {"stats_interval": "1s"}) as daemon:
        wait_until(lambda: "the broker refuses" in daemon.log(), 10, "it is said")
    assert "Not authorized: check mqtt.username, mqtt.password_file and the broker's access rules" in daemon.log()


def test_where_it_is_wanted_a_device_shows_up_in_home_assistant(tmp_path: Path) -> None:
    shipped = Broker(tmp_path / "broker", home_assistant=True)
    topic = "homeassistant/device/porch-pi/config"
    config = lab(shipped.options("porch-pi"), "porch-pi") | {"home_assistant": {"enabled": True}}
    topics = ("homeassistant/#", "edge/#")
    with shipped.mosquitto, Client(shipped.options("home-assistant"), *topics) as house:
        with Daemon(tmp_path / "agent", config):
            heard = house.heard
            wait_until(lambda: topic in dict(heard), 20, "the device shows up")
            wait_until(lambda: "edge/porch-pi/info" in dict(heard), 20, "and says what it is")
            house.links[0].publish("homeassistant/status", b"online", 1)
            wait_until(lambda: [name for name, _ in heard].count(topic) == 2, 20, "it hears that we have started")
        with Client(shipped.options("shed-pi")) as other:
            assert other.may_write("homeassistant/device/shed-pi/config")
            assert not other.may_write(topic)
            assert not other.may_write("homeassistant/status")


def test_the_service_may_have_more_connections_than_debian_s_allows() -> None:
    unit = configparser.ConfigParser()
    unit.read_string((SHIPPED / "limits.conf").read_text())
    assert unit.getint("Service", "LimitNOFILE") >= 10_000
