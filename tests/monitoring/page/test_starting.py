"""Setting up on the page: what can become a pipeline, and what can't."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.daemon import preflight
from edge_agent.errors import ConfigError, ModelError
from edge_agent.models import registry
from edge_agent.setup import found, look
from edge_agent.sources.reader import Reader
from tests.broker import free_port, wait_until
from tests.images import decode_image
from tests.monitoring.page.kit import Client, StillAgent, write_config
from tests.sources.stream_server import StreamServer

WEBCAM = {"name": "yard", "model": "digits", "input": "found", "value": "webcam"}


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StillAgent:
    """A device with a webcam and no pipelines."""
    camera = found.Input("webcam", "pictures", {"type": "camera", "device": 0, "fps": 5})
    monkeypatch.setattr(found, "cameras", lambda: [camera])
    monkeypatch.setattr(found, "microphones", list)
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "models"))
    return StillAgent(write_config(tmp_path))


@pytest.fixture
def client(agent: StillAgent) -> Client:
    return Client(agent)


def pipelines(agent: StillAgent) -> Any:
    return yaml.safe_load(agent.path.read_text())["pipelines"]


def test_an_agent_without_pipelines_runs_if_they_can_be_set_up_on_its_page(agent: StillAgent) -> None:
    preflight.check_not_empty(agent.config())
    agent.path.write_text(agent.path.read_text().replace("edit: true", "edit: false"))
    with pytest.raises(ConfigError, match="none are configured"):
        preflight.check_not_empty(agent.config())


def test_what_is_here_is_shown_with_models_sizes_and_licences(client: Client) -> None:
    shown = client.get("/setup.json").json
    assert shown["inputs"] == [{"title": "webcam", "takes": "pictures"}]
    proposed = shown["models"]["pictures"][0]
    assert (proposed["name"], proposed["licence"], proposed["here"]) == ("coco-ssd-mobilenet-v1", "Apache-2.0", False)


def test_a_camera_and_a_model_become_a_pipeline_which_can_be_removed_again(client: Client, agent: StillAgent) -> None:
    assert client.post("/setup/pipeline", WEBCAM).json == {"changed": True}
    yard = pipelines(agent)["yard"]
    assert yard["source"] == {"type": "camera", "device": 0, "fps": 5}
    assert (yard["model"], yard["top_k"], agent.reloads) == ("digits", 1, 1)
    assert client.post("/setup/pipeline", WEBCAM).status == 400
    assert client.post("/setup/remove", {"name": "yard"}).status == 200
    assert client.post("/setup/remove", {"name": "yard"}).status == 404
    assert not pipelines(agent)


def test_a_network_camera_and_topics_become_sources(client: Client, agent: StillAgent) -> None:
    for kind, value in (("address", "rtsp://cam.lan/1"), ("pictures", "lab/images")):
        assert client.post("/setup/pipeline", WEBCAM | {"name": kind, "input": kind, "value": value}).status == 200
    assert pipelines(agent)["address"]["source"] == {"type": "video", "url": "rtsp://cam.lan/1", "fps": 5}
    assert pipelines(agent)["pictures"]["source"] == {"type": "mqtt", "topic": "lab/images"}


@pytest.mark.parametrize(
    "change",
    [
        {"input": "command", "value": "sh"},
        {"input": "found", "value": "/dev/mem"},
        {"input": "address", "value": "file:///etc/passwd"},
        {"input": "address", "value": "/etc/passwd"},
        {"input": "readings", "value": "x"},
        {"model": "/etc/passwd"},
        {"model": "../digits"},
        {"model": "coco-ssd-mobilenet-v1"},
        {"name": ""},
        {"name": "a\nb"},
        {"name": 1},
        {"name": "a" * 201},
    ],
)
def test_nothing_else_becomes_a_pipeline(change: dict[str, Any], client: Client, agent: StillAgent) -> None:
    before = agent.path.read_text()
    assert client.post("/setup/pipeline", WEBCAM | change).status == 400
    assert (agent.path.read_text(), agent.reloads) == (before, 0)


def test_a_name_that_no_topic_can_have_is_refused_by_the_configuration(client: Client, agent: StillAgent) -> None:
    before = agent.path.read_text()
    assert client.post("/setup/pipeline", WEBCAM | {"name": "a/b"}).status == 422
    assert agent.path.read_text() == before


def test_a_model_is_downloaded_by_its_name_and_why_it_can_not_be_is_shown(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, into: Path, progress: Any) -> Path:
        progress(1, 2)
        raise ModelError(f"{into.name}: no such address for {name}")

    monkeypatch.setattr(registry, "pull", refuse)
    for name in ("no-such-model", "../../etc", ""):
        assert client.post("/setup/model", {"model": name}).status == 400
    assert client.post("/setup/model", {"model": "mnist"}).json == {"pulling": "mnist"}
    wait_until(lambda: not client.get("/setup.json").json["pull"]["name"], 20, "the download has ended")
    assert client.get("/setup.json").json["pull"]["problem"] == "mnist: models: no such address for mnist"
    assert registry.resolve("mnist") is None


@pytest.mark.parametrize("path", ["/setup/pipeline", "/setup/model", "/setup/remove", "/setup/look"])
def test_only_those_who_may_change_something_set_up(path: str, client: Client, agent: StillAgent) -> None:
    before = agent.path.read_text()
    assert Client(agent, edit=False).post(path, WEBCAM).status == 403
    assert client.post(path, WEBCAM, HTTP_ORIGIN="http://evil.example").status == 403
    assert client.post(path, WEBCAM, HTTP_AUTHORIZATION="").status == 401
    assert client.post(path, b"{").status == 400
    assert agent.path.read_text() == before


@pytest.fixture
def network_camera() -> Iterator[StreamServer]:
    server = StreamServer()
    server.start()
    yield server
    server.die()


def test_a_picture_of_a_camera_is_taken_before_it_is_chosen_and_the_camera_is_released(
    client: Client, agent: StillAgent, network_camera: StreamServer
) -> None:
    before = agent.path.read_text()
    reply = client.post("/setup/look", {"input": "address", "value": network_camera.url})
    assert (reply.status, reply.headers["Content-Type"]) == (200, "image/jpeg"), reply.body
    assert max(decode_image(reply.body).shape) <= 640
    sent = network_camera.sent
    assert client.post("/setup/look", {"input": "address", "value": network_camera.url}).status == 200
    assert network_camera.sent > sent
    assert (agent.path.read_text(), agent.reloads) == (before, 0)


def test_a_camera_that_can_not_be_reached_says_why_without_its_password(client: Client) -> None:
    url = f"http://ann:secret@127.0.0.1:{free_port()}/camera"
    reply = client.post("/setup/look", {"input": "address", "value": url})
    assert reply.status == 502
    assert b"nothing listens" in reply.body
    assert b"secret" not in reply.body


def test_a_camera_that_sends_nothing_is_given_up_and_only_one_is_asked_at_a_time(
    client: Client, network_camera: StreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "PATIENCE", 1.0)
    network_camera.stall()
    wanted = {"input": "address", "value": network_camera.url}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/setup/look", wanted)
        wait_until(lambda: network_camera.connections, 20, "the camera is asked")
        assert client.post("/setup/look", wanted).status == 409
        assert first.result().status == 502


def test_cameras_that_hang_are_not_asked_without_end(
    client: Client, network_camera: StreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "PATIENCE", 0.5)
    monkeypatch.setattr(look, "RELEASE", 0.0)
    monkeypatch.setattr(Reader, "is_released", False)
    network_camera.stall()
    wanted = {"input": "address", "value": network_camera.url}
    assert [client.post("/setup/look", wanted).status for _ in range(look.MOST_HUNG + 1)] == [502, 502, 502, 409]


@pytest.mark.parametrize(
    "wanted",
    [
        {"input": "command", "value": "sh"},
        {"input": "found", "value": "/dev/mem"},
        {"input": "address", "value": "file:///etc/passwd"},
        {"input": "address", "value": "rtsp://"},
        {"input": "pictures", "value": "lab/images"},
        {"input": "readings", "value": "lab/readings"},
        {},
    ],
)
def test_nothing_but_a_camera_is_looked_at(wanted: dict[str, str], client: Client) -> None:
    assert client.post("/setup/look", wanted).status in (400, 502)
