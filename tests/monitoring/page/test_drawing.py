"""The door through which the page changes the configuration file, and what must not come in by it."""

import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.models.shipped import shipped
from tests.broker import Mosquitto, free_port
from tests.daemon_process import Daemon, configuration
from tests.monitoring.page.kit import TOKEN, Client, StillAgent, write_config

ZONE = [[0.1, 0.2], [0.5, 0.2], [0.5, 0.90001]]
DRAWN = {"zones": {"door": ZONE}}


@pytest.fixture
def agent(tmp_path: Path) -> StillAgent:
    keep = {"keep": {"when": {"random": 0.1}}}
    meter = {"meter": {"kind": "water", "digits": 5, "box": [0.1, 0.1, 0.9, 0.3]}}
    return StillAgent(write_config(tmp_path, yard=keep, cellar=meter))


@pytest.fixture
def client(agent: StillAgent) -> Client:
    return Client(agent)


def pipelines(agent: StillAgent) -> Any:
    return yaml.safe_load(agent.path.read_text())["pipelines"]


def test_what_is_drawn_is_written_and_used_and_read_back(client: Client, agent: StillAgent) -> None:
    drawn = DRAWN | {"regions": {"left": [0, 0, 0.5, 1]}, "mask": [ZONE]}
    assert client.post("/drawing/yard", drawn).json == {"changed": True}
    assert agent.reloads == 1
    rounded = [*ZONE[:2], [0.5, 0.9]]
    found = pipelines(agent)["yard"]
    assert found["filters"] == {"zones": {"door": rounded}}
    assert (found["regions"], found["keep"]["mask"]) == ({"left": [0, 0, 0.5, 1]}, [rounded])
    shown = client.get("/drawing/yard").json
    assert (shown["zones"], shown["mask"], shown["keeps"]) == ({"door": rounded}, [rounded], True)
    assert client.post("/drawing/yard", {"zones": {}}).status == 200
    assert client.get("/drawing/yard").json["zones"] == {}
    assert client.get("/drawing/yard").json["regions"] == {"left": [0, 0, 0.5, 1]}


def test_a_frame_over_a_whole_number_becomes_the_meters_box(client: Client, agent: StillAgent) -> None:
    assert client.post("/drawing/cellar", {"meter": [0.2, 0.4, 0.8, 0.5]}).status == 200
    assert pipelines(agent)["cellar"]["meter"]["box"] == [0.2, 0.4, 0.8, 0.5]
    assert client.get("/drawing/cellar").json["meter"] == {"box": [0.2, 0.4, 0.8, 0.5], "digits": 5}


def test_the_same_again_changes_nothing(client: Client, agent: StillAgent) -> None:
    client.post("/drawing/yard", DRAWN)
    assert client.post("/drawing/yard", DRAWN).json == {"changed": False}
    assert agent.reloads == 1


def test_a_change_that_the_agent_refuses_is_taken_back(client: Client, agent: StillAgent) -> None:
    before = agent.path.read_text()
    agent.refusal = ["agent.yaml:9: pipelines.yard: no"]
    answer = client.post("/drawing/yard", DRAWN)
    assert answer.status == 422
    assert b"pipelines.yard: no" in answer.body
    assert agent.path.read_text() == before


def test_a_change_that_is_no_valid_configuration_reaches_neither_file_nor_agent(
    client: Client, agent: StillAgent
) -> None:
    before = agent.path.read_text()
    answer = client.post("/drawing/yard", {"zones": {"a/b": ZONE}})
    assert (answer.status, agent.reloads, agent.path.read_text()) == (422, 0, before)
    assert b"agent.yaml:" in answer.body
    assert b".draft" not in answer.body


@pytest.mark.parametrize(
    "name",
    [
        "x]}\nmqtt: {url: mqtt://evil}",
        "x: 1, y",
        "*all",
        "&all",
        "!!python/object/apply:os.system",
        "<<",
        "${env:HOME}",
        "'",
        '"',
        "\u2028",
        "#",
        "{}",
        "\\x41",
    ],
)
def test_no_name_of_a_zone_says_anything_else_than_a_name(name: str, client: Client, agent: StillAgent) -> None:
    before = yaml.safe_load(agent.path.read_text())
    answer = client.post("/drawing/yard", {"zones": {name: ZONE}})
    assert answer.status in (200, 400, 409, 422)
    after = yaml.load(agent.path.read_text(), Loader=yaml.BaseLoader)
    assert after.keys() == before.keys()
    assert after["mqtt"] == before["mqtt"]
    zones = after["pipelines"]["yard"].pop("filters", {}).get("zones", {})
    assert set(zones) <= {name}
    assert after["pipelines"]["yard"].keys() == before["pipelines"]["yard"].keys()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        [],
        {"source": {"type": "command", "argv": ["sh"]}},
        {"zones": []},
        {"zones": {"door": "x"}},
        {"zones": {"door": ZONE[:2]}},
        {"zones": {"door": [[0, 0], [0, 1], [1, "1"]]}},
        {"zones": {"door": [[0, 0], [0, 1], [1, True]]}},
        {"zones": {"door": [[0, 0], [0, 1], [1, -1]]}},
        {"zones": {"door": [[0, 0], [0, 1], [1, 1e300]]}},
        {"zones": {"door": ZONE * 40}},
        {"zones": {str(number): ZONE for number in range(65)}},
        {"zones": {"": ZONE}},
        {"zones": {"a\nb": ZONE}},
        {"zones": {"a" * 65: ZONE}},
        {"regions": {"left": [0, 0, 1]}},
        {"mask": {"a": ZONE}},
        {"meter": [0, 0, 1, 1]},
        b'{"zones": {"door": [[NaN, 0], [0, 1], [1, 1]]}}',
    ],
)
def test_anything_but_shapes_is_refused(document: object, client: Client, agent: StillAgent) -> None:
    before = agent.path.read_text()
    assert client.post("/drawing/yard", document).status == 400
    assert (agent.path.read_text(), agent.reloads) == (before, 0)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/drawing/yard", {"HTTP_AUTHORIZATION": ""}, 401),
        ("/drawing/yard", {"HTTP_AUTHORIZATION": "Bearer wrong"}, 401),
        ("/drawing/yard", {"HTTP_ORIGIN": "http://evil.example"}, 403),
        ("/drawing/yard", {"HTTP_ORIGIN": "null"}, 403),
        ("/drawing/yard", {"HTTP_HOST": "evil.example"}, 403),
        ("/drawing/yard", {"CONTENT_TYPE": "text/plain"}, 403),
        ("/drawing/yard", {"HTTP_SEC_FETCH_SITE": "same-site"}, 403),
        ("/drawing/yard", {"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "navigate"}, 403),
        ("/drawing/nobody", {}, 404),
        ("/drawing/..%2f..%2fetc%2fpasswd", {}, 405),
        ("/drawing/", {}, 405),
        ("/status.json", {}, 405),
        ("/agent.yaml", {}, 405),
    ],
)
def test_nobody_else_gets_in(
    path: str, headers: dict[str, str], status: int, client: Client, agent: StillAgent
) -> None:
    before = agent.path.read_text()
    assert client.post(path, DRAWN, **headers).status == status
    assert (agent.path.read_text(), agent.reloads) == (before, 0)


def test_the_door_is_shut_unless_it_is_opened_and_too_narrow_for_floods(client: Client, agent: StillAgent) -> None:
    before = agent.path.read_text()
    assert Client(agent, edit=False).post("/drawing/yard", DRAWN).status == 403
    assert client.post("/drawing/yard", b" " * 65_537).status == 413
    assert (agent.path.read_text(), agent.reloads) == (before, 0)


def test_a_file_that_its_owner_has_broken_is_left_alone(client: Client, agent: StillAgent) -> None:
    options = agent.config()
    agent.config = lambda: options  # type: ignore[method-assign]
    agent.path.write_text("pipelines: [\n")
    assert client.post("/drawing/yard", DRAWN).status == 409
    assert agent.path.read_text() == "pipelines: [\n"


def test_a_running_agent_uses_what_was_drawn_or_keeps_what_it_had(mosquitto: Mosquitto, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "token").write_text(TOKEN)
    config = configuration(
        mosquitto,
        "drawn",
        models={name: {"path": str(shipped(name))} for name in ("digits", "vibration")},
        pipelines={
            "yard": {"source": {"type": "mqtt", "topic": "yard"}, "model": "digits"},
            "pump": {"source": {"type": "mqtt", "topic": "pump"}, "model": "vibration"},
        },
        http={"listen": f"127.0.0.1:{port}", "token_file": "token", "edit": True},
    )
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    def post(pipeline: str, drawn: object) -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=90)) as connection:
            connection.request("POST", f"/drawing/{pipeline}", json.dumps(drawn), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    with Daemon(tmp_path, config) as daemon:
        assert post("yard", {"regions": {"left": [0, 0, 0.5, 1]}})[0] == 200
        written = daemon.config_file.read_text()
        assert yaml.safe_load(written)["pipelines"]["yard"]["regions"] == {"left": [0, 0, 0.5, 1]}
        status, why = post("pump", {"regions": {"left": [0, 0, 0.5, 1]}})  # valid, but not for a model of readings
        assert status == 422
        assert "pipelines.pump.regions" in why
        assert daemon.config_file.read_text() == written
