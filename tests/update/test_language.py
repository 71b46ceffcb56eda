"""A language model follows a channel like any other: tried by its golden prompts, its speed, its memory."""

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.models.shipped import shipped
from edge_agent.release.repository import SignedRepository
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.command_line import edge_agent
from tests.daemon_process import Daemon, configuration
from tests.update.kit import PASSPHRASE, WebServer, ask

pytest.importorskip("onnxruntime_genai")

NAME = "talker"
INTENTS = shipped("intents")


def bundle(folder: Path, version: str, **changes: Any) -> Path:
    """The model of intents as another version."""
    scratch = folder / f"intents-{version}"
    shutil.copytree(INTENTS, scratch)
    manifest = yaml.safe_load((scratch / "model.yaml").read_text())
    manifest["golden_text"] = manifest["golden_text"][-3:]
    (scratch / "model.yaml").write_text(yaml.safe_dump(manifest | {"version": version} | changes))
    archive = folder / f"intents-{version}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(scratch.rglob("*")):
            out.write(path, path.relative_to(scratch))
    return archive


class Scene:
    """An agent with a language model that follows a channel."""

    def __init__(self, broker: Mosquitto, folder: Path, server: WebServer, repository: SignedRepository) -> None:
        self.folder, self.repository = folder, repository
        update = {
            "url": server.url,
            "root": str(repository.first_root),
            "models": {"intents": "intents"},
            "interval": "1s",
            "shadow": {"max_slowdown": 50},
            "probation": {"duration": "1s"},
        }
        config = configuration(
            broker,
            NAME,
            models={"intents": {"path": str(bundle(folder, "1"))}},
            pipelines={"ask": {"source": {"type": "mqtt", "topic": "ask"}, "model": "intents"}},
            update=update,
        )
        self.daemon = Daemon(folder / "device", config, environment={"XDG_CACHE_HOME": str(folder / "cache")})
        self.client = Subscriber(broker.port, f"edge/{NAME}/#")

    def release(self, version: str, **changes: Any) -> str:
        archive = bundle(self.folder, version, **changes)
        return self.repository.add(archive, "intents", version, 10_000, [])[0].name

    def wait_for(self, step: str, release: str) -> dict[str, Any]:
        def reached() -> list[dict[str, Any]]:
            said = [json.loads(m.payload) for m in list(self.client.messages) if m.topic == f"edge/{NAME}/update"]
            states = [document["models"]["intents"] for document in said]
            return [state for state in states if (state["step"], state["version"]) == (step, release)]

        try:
            return wait_until(reached, 90, f"{step} {release}")[-1]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.daemon.log()}") from None

    def answered_by(self) -> str:
        """The version that answers a question."""
        before = len(self.client.messages)
        self.client.publish("ask", b"open the garage door")

        def answer() -> list[dict[str, Any]]:
            new = list(self.client.messages)[before:]
            return [json.loads(m.payload) for m in new if m.topic == f"edge/{NAME}/ask/result"]

        return str(wait_until(answer, 60, "an answer")[0]["model"]["version"])


@pytest.fixture
def scene(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Scene]:
    repository = SignedRepository(tmp_path / "repository", ask)
    repository.init()
    with WebServer(tmp_path / "repository") as server:
        found = Scene(mosquitto, tmp_path, server, repository)
        try:
            yield found
        finally:
            found.client.close()


def test_a_language_model_is_tried_by_its_golden_prompts_its_speed_and_its_memory(scene: Scene) -> None:
    with scene.daemon:
        assert scene.answered_by() == "1"
        good = scene.release("2")
        trial = scene.wait_for("activated", good)["trial"]
        assert trial["prompts"] == 3
        assert min(trial["tokens_per_s"], trial["active_tokens_per_s"]) > 0
        assert min(trial["memory_mb"], trial["active_memory_mb"]) > 20
        scene.wait_for("committed", good)
        assert scene.answered_by() == "2"
        wrong = scene.release("3", golden_text=[{"prompt": "open the garage door", "text": "no"}])
        assert "golden sample 1 comes out wrong" in scene.wait_for("refused", wrong)["reason"]
        unproven = scene.release("4", golden_text=[])
        assert "golden_text" in scene.wait_for("refused", unproven)["reason"]
        scene.repository.revoke(good)
        scene.wait_for("rolled back", good)
        assert scene.answered_by() == "1"
    assert "Traceback" not in scene.daemon.log()


def test_a_bundle_without_golden_prompts_is_not_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_PASSPHRASE", PASSPHRASE.decode())
    SignedRepository(tmp_path / "repository", ask).init()
    for version, golden, code in (("2", [], 1), ("3", [{"prompt": "open", "text": "wrong"}], 1)):
        archive = bundle(tmp_path, version, golden_text=golden)
        done = edge_agent("release", "add", archive, "-r", "repository", cwd=tmp_path)
        assert (done.returncode, "golden" in done.stderr) == (code, True), done.stderr
    done = edge_agent("release", "add", bundle(tmp_path, "4"), "-r", "repository", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
