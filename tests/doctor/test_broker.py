import json
import re
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.doctor import broker as looked_at
from edge_agent.doctor.broker import broker
from edge_agent.doctor.machine import Finding
from tests.broker import Mosquitto, Subscriber, free_port, password_file
from tests.certificates import Authority
from tests.daemon_process import Daemon, configuration
from tests.doctor.made_up import configured, machine, only, states
from tests.mqtt.scripted_broker import ScriptedBroker

# A handshake that fails leaves paho's socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


def look(folder: Path, url: str, **options: Any) -> list[Finding]:
    return broker(machine(folder, mqtt=settings.Mqtt.model_validate({"url": url, **options})))


def test_a_broker_that_answers_is_told_with_the_time_that_it_takes(tmp_path: Path, mosquitto: Mosquitto) -> None:
    found = only(look(tmp_path, mosquitto.url))
    assert found.state == "ok"
    assert re.search(r": MQTT 5, connected in \d+ ms, answers in \d+\.\d ms$", found.text)


def test_nothing_is_published_and_the_running_agent_keeps_its_session(tmp_path: Path, mosquitto: Mosquitto) -> None:
    document = configuration(mosquitto, "porch", models={"digits": {"path": "digits"}})
    document["pipelines"] = {"lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"}}
    with Daemon(tmp_path / "daemon", document):
        before = mosquitto.log().count("Received PUBLISH from edge-agent-porch-doctor")
        loaded = configured(tmp_path, document)
        assert only(broker(machine(tmp_path, config=loaded, mqtt=loaded.settings.mqtt))).state == "ok"
        assert "already connected" not in mosquitto.log()
        assert mosquitto.log().count("Received PUBLISH from edge-agent-porch-doctor") == before


def test_a_port_where_nothing_listens_is_told(tmp_path: Path) -> None:
    port = free_port()
    found = only(look(tmp_path, f"mqtt://127.0.0.1:{port}"))
    assert found.state == "failure"
    assert "nothing listens there" in found.text
    assert found.fix.startswith("on 127.0.0.1: sudo systemctl enable --now mosquitto")


def test_a_name_that_nobody_knows_is_told(tmp_path: Path) -> None:
    found = only(look(tmp_path, "mqtt://no-such-host.invalid"))
    assert "the name no-such-host.invalid is not known" in found.text
    assert found.fix.startswith("getent hosts no-such-host.invalid")


def test_a_wrong_password_is_told_without_the_password(tmp_path: Path) -> None:
    passwords = password_file(tmp_path / "passwords", "pi", "right")
    secret = tmp_path / "secret"
    secret.write_text("wrong-secret\n")
    with Mosquitto(tmp_path, [f"password_file {passwords}", "allow_anonymous false"]) as guarded:
        found = only(look(tmp_path, guarded.url, username="pi", password_file=str(secret)))
        secret.write_text("right\n")
        assert states(look(tmp_path, guarded.url, username="pi", password_file=str(secret))) == ["ok"]
    assert (found.state, found.fix) == (
        "failure",
        "on 127.0.0.1: sudo mosquitto_passwd /etc/mosquitto/passwd pi",
    )
    assert "wrong-secret" not in found.text


def test_a_password_file_that_can_not_be_read_is_told(tmp_path: Path, mosquitto: Mosquitto) -> None:
    found = only(look(tmp_path, mosquitto.url, username="pi", password_file=str(tmp_path / "gone")))
    assert (found.state, found.fix.startswith("give a file that pi can read")) == ("failure", True)


def test_a_certificate_of_another_authority_is_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    server = authority.issue("broker", host="localhost")
    other = Authority(tmp_path / "other")
    with Mosquitto(tmp_path, [f"certfile {server.cert}", f"keyfile {server.key}"]) as guarded:
        url = f"mqtts://localhost:{guarded.port}"
        found = only(look(tmp_path, url, ca_file=other.cert))
        assert states(look(tmp_path, url, ca_file=authority.cert)) == ["ok"]
    assert found.state == "failure"
    assert "the broker's certificate is not accepted" in found.text
    assert found.fix == f"openssl s_client -connect localhost:{guarded.port} -showcerts </dev/null"


def test_what_a_broker_can_not_do_is_told(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, ["max_qos 0", "retain_available false"]) as limited:
        found = look(tmp_path, limited.url)
    assert states(found) == ["ok", "warning", "warning"]
    assert found[1].fix == "on 127.0.0.1, in mosquitto.conf: max_qos 2"


def test_a_broker_near_its_limit_of_clients_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looked_at, "MANY_CLIENTS", 1)
    with (
        Mosquitto(tmp_path, ["sys_interval 1"]) as broker,
        Subscriber(broker.port, looked_at.CLIENTS) as client,
    ):
        client.wait_for(lambda message: message.payload != b"0")
        assert states(look(tmp_path, broker.url)) == ["ok", "warning"]
        monkeypatch.setattr(looked_at, "MANY_CLIENTS", 100)
        assert states(look(tmp_path, broker.url)) == ["ok"]


def test_a_broker_that_says_nothing_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looked_at, "TIMEOUT", 0.3)
    monkeypatch.setattr(looked_at, "ANSWER_TIMEOUT", 0.3)
    with ScriptedBroker(on_connect=lambda _: b"") as silent:
        found = only(look(tmp_path, f"mqtt://127.0.0.1:{silent.port}"))
        assert (found.state, found.text.endswith(": no answer within 0.3 s")) == ("failure", True)


def test_without_an_address_no_broker_is_looked_at(tmp_path: Path) -> None:
    assert states(broker(machine(tmp_path))) == ["ok"]
    assert only(look(tmp_path, "embedded")).text == "embedded: it is part of the agent"


def listening(folder: Path, url: str) -> Any:
    document: dict[str, Any] = {"device_id": "deaf", "mqtt": {"url": url}, "models": {"digits": {"path": "digits"}}}
    document["pipelines"] = {"lab": {"source": {"type": "mqtt", "topic": "lab/#", "share": "g"}, "model": "digits"}}
    loaded = configured(folder, document)
    return broker(machine(folder, config=loaded, mqtt=loaded.settings.mqtt))


def test_a_subscription_that_the_broker_refuses_is_a_failure(tmp_path: Path) -> None:
    with ScriptedBroker(suback=0x87) as refusing:
        reached, refused = listening(tmp_path, f"mqtt://127.0.0.1:{refusing.port}")
    assert (reached.state, refused.state) == ("ok", "failure")
    assert "refuses the subscription to lab/#: Not authorized" in refused.text
    assert "topic read lab/#" in refused.fix


@pytest.mark.parametrize("status", ["online", "offline"])
def test_what_the_running_agent_says_of_its_problems_is_a_failure(
    tmp_path: Path, mosquitto: Mosquitto, status: str
) -> None:
    info = {
        "problem": "another client",
        "pipelines": {"lab": {"problem": "no camera"}, "hall": {"problem": ""}, "x": 1},
    }
    with Subscriber(mosquitto.port) as client:
        client.publish("edge/deaf/status", status, retain=True)
        client.publish("edge/deaf/info", json.dumps(info), retain=True)
    reached, *found = listening(tmp_path, mosquitto.url)
    assert reached.state == "ok"
    texts = ["another client", "pipeline lab: no camera"] if status == "online" else []
    assert [(one.state, one.text) for one in found] == [("failure", text) for text in texts]


@pytest.mark.parametrize("info", ["", "[", "[]", "7", '{"problem": 7, "pipelines": [1]}'])
def test_what_is_not_an_agent_s_information_is_ignored(tmp_path: Path, mosquitto: Mosquitto, info: str) -> None:
    with Subscriber(mosquitto.port) as client:
        client.publish("edge/deaf/status", "online", retain=True)
        client.publish("edge/deaf/info", info, retain=True)
    assert states(listening(tmp_path, mosquitto.url)) == ["ok"]
