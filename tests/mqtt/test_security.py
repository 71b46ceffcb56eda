"""What stands between the agent and a broker that wants to know who is there: TLS, passwords, access rules."""

import logging
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.errors import ConfigError
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session, Subscription
from edge_agent.mqtt.reasons import Refusal
from tests.broker import Mosquitto, wait_until
from tests.certificates import Authority, Certificate, openssl
from tests.mqtt.scripted_broker import ScriptedBroker

# A handshake that fails leaves paho's socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

SESSION = Session("device", keepalive=5)
SECRET = "correct horse battery staple"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def device(authority: Authority) -> Certificate:
    return authority.issue("device")


def tls(server: Certificate, *lines: str) -> list[str]:
    return [f"certfile {server.cert}", f"keyfile {server.key}", *lines]


@pytest.fixture(scope="module")
def broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker behind TLS."""
    server = authority.issue("broker", host="localhost")
    with Mosquitto(tmp_path_factory.mktemp("tls"), config=tls(server)) as shared:
        yield shared


def outcome(url: str, folder: Path = Path(), **options: Any) -> str:
    """What comes of trying to connect: a sentence, or nothing if it succeeds."""
    mqtt = settings.Mqtt.model_validate({"url": url, **options})
    connection = Connection(Endpoint.from_settings(mqtt, folder), SESSION)
    connection.start()
    assert connection.wait_until_tried(15)
    problem = connection.problem
    connection.stop(5)
    assert "\n" not in problem
    return problem


def test_a_certificate_of_a_known_authority_is_accepted(broker: Mosquitto, authority: Authority) -> None:
    assert outcome(f"mqtts://localhost:{broker.port}", ca_file=authority.cert) == ""


def test_an_authority_that_the_system_does_not_know_must_be_given(broker: Mosquitto) -> None:
    said = outcome(f"mqtts://localhost:{broker.port}")
    assert "the broker's certificate is not accepted" in said
    assert said.endswith("give its authority as mqtt.ca_file")


def test_another_authority_is_not_enough(broker: Mosquitto, tmp_path: Path) -> None:
    said = outcome(f"mqtts://localhost:{broker.port}", ca_file=Authority(tmp_path / "other").cert)
    assert said.endswith("give its authority as mqtt.ca_file")


def test_a_certificate_for_another_host_is_not_accepted(broker: Mosquitto, authority: Authority) -> None:
    said = outcome(f"mqtts://127.0.0.1:{broker.port}", ca_file=authority.cert)
    assert re.search("not valid for '127.0.0.1': write the name that stands in the certificate in mqtt.url", said)


@pytest.mark.parametrize(("host", "name"), [("localhost", "elsewhere.example"), ("127.0.0.1", "127.0.0.2")])
def test_host_names_and_addresses_are_compared(authority: Authority, tmp_path: Path, host: str, name: str) -> None:
    with Mosquitto(tmp_path, config=tls(authority.issue("elsewhere", host=name))) as other:
        said = outcome(f"mqtts://{host}:{other.port}", ca_file=authority.cert)
    assert said.endswith("write the name that stands in the certificate in mqtt.url")


def test_an_expired_certificate_is_not_accepted(authority: Authority, tmp_path: Path) -> None:
    with Mosquitto(tmp_path, config=tls(authority.issue("old", host="localhost", days=-1))) as old:
        said = outcome(f"mqtts://localhost:{old.port}", ca_file=authority.cert)
    assert said.endswith("certificate has expired: renew it, or set this device's clock")


def test_tls_to_a_port_without(mosquitto: Mosquitto) -> None:
    said = outcome(f"mqtts://localhost:{mosquitto.port}")
    assert said.endswith("is this a TLS port of the broker?")


def test_a_port_with_tls_spoken_to_without(broker: Mosquitto) -> None:
    said = outcome(f"mqtt://localhost:{broker.port}")
    assert said.endswith("is it an MQTT broker, and not its TLS port?")


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
def test_both_sides_can_show_certificates(
    authority: Authority, device: Certificate, tmp_path: Path, version: str
) -> None:
    demands = [f"cafile {authority.cert}", "require_certificate true", f"tls_version {version}"]
    own = {"ca_file": authority.cert, "cert_file": device.cert, "key_file": device.key}
    with Mosquitto(tmp_path, config=tls(authority.issue("mutual", host="localhost"), *demands)) as strict:
        url = f"mqtts://localhost:{strict.port}"
        assert outcome(url, **own) == ""
        said = outcome(url, ca_file=authority.cert)
        assert "TLS fails: " in said
        assert "mqtt.cert_file" in said
        stranger = Authority(tmp_path / "other").issue("stranger")
        said = outcome(url, ca_file=authority.cert, cert_file=stranger.cert, key_file=stranger.key)
        assert said.endswith("unknown ca: the broker does not know the authority of mqtt.cert_file")
        expired = authority.issue("expired", days=-1)
        said = outcome(url, ca_file=authority.cert, cert_file=expired.cert, key_file=expired.key)
        assert said.endswith("renew mqtt.cert_file, or set this device's clock")


def test_files_that_are_no_certificates(authority: Authority, device: Certificate, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    url = "mqtts://localhost"
    assert outcome(url, ca_file=rubbish).startswith(f"mqtt.ca_file: {rubbish} can't be used: ")
    assert outcome(url, ca_file=tmp_path / "none.pem").endswith("can't be used: No such file or directory")
    other = authority.issue("other")
    said = outcome(url, ca_file=authority.cert, cert_file=device.cert, key_file=other.key)
    assert (
        said
        == f"mqtt.cert_file, mqtt.key_file: {device.cert} and {other.key} can't be used together: key values mismatch"
    )


def test_a_key_that_wants_a_password_is_refused_and_not_asked_for(
    authority: Authority, device: Certificate, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.key"
    openssl("ec", "-in", device.key, "-out", locked, "-aes256", "-passout", "pass:secret")
    said = outcome("mqtts://localhost", ca_file=authority.cert, cert_file=device.cert, key_file=locked)
    assert "can't be used together" in said


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker that asks for a password and lets `edge` use its own topics only."""
    folder = tmp_path_factory.mktemp("guarded")
    passwords, rules = folder / "passwords", folder / "rules"
    passwords.write_text(f"edge:{SECRET}\n")
    _hash(passwords)
    rules.write_text("user edge\ntopic readwrite own/#\n")
    for file in (passwords, rules):
        file.chmod(0o600)
    lines = ["allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}"]
    # Of two lines the later one counts.
    with Mosquitto(folder, config=lines) as shared:
        yield shared


def _hash(passwords: Path) -> None:
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)


def test_a_password_from_a_file(guarded: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    assert outcome(guarded.url, tmp_path, username="edge", password_file="password") == ""


def test_a_password_from_the_environment(guarded: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", SECRET)
    assert outcome(guarded.url, username="edge", password_file="${env:BROKER_PASSWORD}") == ""


def test_the_password_is_read_anew_for_each_connection(guarded: Mosquitto, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old")
    mqtt = settings.Mqtt(url=guarded.url, username="edge", password_file=str(file))
    connection = Connection(Endpoint.from_settings(mqtt, tmp_path), SESSION)
    connection.start()
    assert connection.wait_until_tried(10)
    assert "Not authorized" in connection.problem
    file.write_text(SECRET)
    wait_until(lambda: connection.link, 10, "connected")
    connection.stop(5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x" * 66_000, "66000 bytes: at most 65535 can be sent"),
        ("x" * 2_000_000, "larger than"),
        ("\N{EURO SIGN}" * 22_000, "66000 bytes: at most 65535 can be sent"),
        ("pass\0word", "control character"),
    ],
)
def test_a_password_that_cannot_be_sent_is_named_and_the_session_goes_on_when_it_is_fixed(
    guarded: Mosquitto, tmp_path: Path, content: str, said: str
) -> None:
    file = tmp_path / "password"
    file.write_text(content)
    mqtt = settings.Mqtt(url=guarded.url, username="edge", password_file=str(file))
    connection = Connection(Endpoint.from_settings(mqtt, tmp_path), SESSION)
    connection.start()
    assert connection.wait_until_tried(10)
    assert said in connection.problem
    assert content[:100] not in connection.problem
    file.write_text(SECRET)
    wait_until(lambda: connection.link, 15, "connected")
    connection.stop(5)


def test_a_user_name_that_cannot_be_sent_is_refused_where_it_is_read() -> None:
    for name in ("x" * 65_536, "\N{EURO SIGN}" * 22_000, "a\0b", "a\ud800b"):
        with pytest.raises(ValueError, match="username"):
            settings.Mqtt(username=name)
    assert settings.Mqtt(username="x" * 65_535).username


def test_what_nothing_expects_while_connecting_does_not_end_the_session(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint.from_settings(settings.Mqtt(url=mosquitto.url), Path())
    connection = Connection(replace(endpoint, username="x" * 66_000), SESSION)
    connection.start()
    assert connection.wait_until_tried(10)
    assert "internal error: error(" in connection.problem
    monkeypatch.setattr(connection, "endpoint", endpoint)
    wait_until(lambda: connection.link, 15, "connected")
    connection.stop(5)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_wrong_password_is_said(guarded: Mosquitto, tmp_path: Path, protocol: str) -> None:
    (tmp_path / "password").write_text("wrong")
    said = outcome(guarded.url, tmp_path, username="edge", password_file="password", protocol=protocol)
    assert said.endswith("check mqtt.username, mqtt.password_file and the broker's access rules")


def test_no_password_at_all(guarded: Mosquitto) -> None:
    assert "Not authorized" in outcome(guarded.url)


def test_a_password_that_can_not_be_read(guarded: Mosquitto, tmp_path: Path) -> None:
    assert outcome(guarded.url, tmp_path, username="edge", password_file="none").endswith(
        "none can't be read: No such file or directory"
    )
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "not text in UTF-8" in outcome(guarded.url, tmp_path, username="edge", password_file="binary")
    endpoint = Endpoint.from_settings(settings.Mqtt(username="edge", password_file="${env:NO_SUCH}"), tmp_path)
    with pytest.raises(ConfigError, match="the environment variable NO_SUCH is not set"):
        endpoint.password()


def test_no_representation_and_no_log_holds_the_password(
    guarded: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "password").write_text(SECRET)
    mqtt = settings.Mqtt(url=guarded.url, username="edge", password_file="password")
    endpoint = Endpoint.from_settings(mqtt, tmp_path)
    assert outcome(guarded.url, tmp_path, username="edge", password_file="password") == ""
    assert SECRET not in caplog.text + repr(endpoint) + repr(mqtt)


@pytest.mark.parametrize(
    ("protocol", "code", "why"),
    [
        ("5", 0x87, "Not authorized: check mqtt.username, mqtt.password_file and the broker's access rules"),
        ("5", 0x9E, "Shared subscription not supported: the broker has no shared subscriptions: leave out `share`"),
        ("3.1.1", 0x80, "Unspecified error"),
    ],
)
def test_a_refused_subscription_is_said(caplog: pytest.LogCaptureFixture, protocol: Any, code: int, why: str) -> None:
    # Mosquitto lets everybody subscribe, and then sends nothing that may not be read.
    with ScriptedBroker(suback=code) as strict:
        endpoint = Endpoint.from_settings(settings.Mqtt(url=f"mqtt://127.0.0.1:{strict.port}"), Path())
        connection = Connection(endpoint, Session("s", protocol, keepalive=5, subscriptions=[Subscription("a/#", 1)]))
        connection.start()
        assert connection.wait_until_subscribed(10)
        wait_until(lambda: caplog.records, 10, "something is said")
        connection.stop(5)
    assert f": the broker refuses the subscription to a/#: {why}" in caplog.text


def test_a_refused_message_is_said_over_mqtt_5(guarded: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(SECRET)
    mqtt = settings.Mqtt(url=guarded.url, username="edge", password_file="password")
    links: list[Link] = []
    answers: dict[int, Refusal | None] = {}
    endpoint = Endpoint.from_settings(mqtt, tmp_path)
    connection = Connection(endpoint, SESSION, on_up=links.append, on_acknowledged=answers.__setitem__)
    connection.start()
    wait_until(lambda: links, 10, "connected")
    allowed, forbidden = links[0].publish("own/out", b"1", 1), links[0].publish("foreign/out", b"1", 1)
    wait_until(lambda: len(answers) == 2, 10, "both answers")
    connection.stop(5)
    assert allowed is not None
    assert forbidden is not None
    assert answers[allowed] is None
    why = "Not authorized: check mqtt.username, mqtt.password_file and the broker's access rules"
    assert answers[forbidden] == Refusal(why, for_now=False)
