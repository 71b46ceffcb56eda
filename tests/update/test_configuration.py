"""A device takes its pipelines from signed configurations, and goes back from those that do not work there."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.errors import ConfigError
from edge_agent.release.configuration import pack
from edge_agent.release.repository import SignedRepository
from edge_agent.release.rollout import Rollout
from edge_agent.update.active import load_again
from edge_agent.update.configuration import load_active
from edge_agent.update.releases import Release
from edge_agent.update.stores import config_store_of
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon, configuration
from tests.update import camera
from tests.update.kit import WebServer, ask

NAME = "porch-pi"


class Site:
    """A device with a configuration from a repository, and a web server that has its camera's pictures."""

    def __init__(self, broker: Mosquitto, folder: Path, server: WebServer, cache: Path) -> None:
        self.folder, self.server = folder, server
        self.repository = SignedRepository(folder / "repository", ask)
        self.repository.init()
        server.wrongly = camera.answer
        update = {
            "url": server.url,
            "root": str(shutil.copy(self.repository.first_root, folder / "root.json")),
            "config": "config",
            "labels": ["site-a"],
            "interval": "1s",
            "probation": {"duration": "2s", "input_within": "1500ms"},
        }
        self.own = configuration(broker, NAME, update=update)
        self.daemon = Daemon(folder / "device", self.own, environment={"XDG_CACHE_HOME": str(cache)})
        self.client = Subscriber(broker.port, f"edge/{NAME}/#")
        self._released = 0

    def release(self, **files: Any) -> str:
        """Releases a configuration with these files, such as `base` and `label/site-a`; returns its name."""
        self._released += 1
        folder = self.folder / f"configuration-{self._released}"
        for name, content in files.items():
            file = folder / f"{name.replace('__', '/')}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(yaml.safe_dump(content))
        pack(folder, archive := folder.with_suffix(".zip"))
        [release] = self.repository.add(archive, "config", str(self._released), 10_000, [])
        return release.name

    def states(self) -> list[dict[str, Any]]:
        return [json.loads(m.payload)["config"] for m in list(self.client.messages) if m.topic == f"edge/{NAME}/update"]

    def wait_for(self, step: str, release: str) -> dict[str, Any]:
        def reached() -> list[dict[str, Any]]:
            return [state for state in self.states() if (state["step"], state["version"]) == (step, release)]

        try:
            return wait_until(reached, 90, f"{step} {release}")[-1]
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.states()[-3:]}\n{self.daemon.log()}") from None

    def info(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            [m for m in self.client.messages if m.topic == f"edge/{NAME}/info"][-1].payload
        )
        return found

    def wait_for_results(self, pipeline: str, more: int = 3) -> None:
        """So many results from now on."""
        topic = f"edge/{NAME}/{pipeline}/result"
        before = sum(m.topic == topic for m in list(self.client.messages))
        wait_until(lambda: sum(m.topic == topic for m in list(self.client.messages)) >= before + more, 30, topic)

    def base(self, picture: str = "camera.jpg", **pipeline: Any) -> dict[str, Any]:
        camera = {"type": "video", "url": f"{self.server.url}/{picture}", "fps": 5}
        return {
            "models": {"digits": {"path": "digits"}},
            "pipelines": {"camera": {"source": camera, "model": "digits", **pipeline}},
        }


@pytest.fixture
def site(mosquitto: Mosquitto, tmp_path: Path, cache: Path) -> Iterator[Site]:
    (tmp_path / "repository").mkdir()
    with WebServer(tmp_path / "repository") as server:
        found = Site(mosquitto, tmp_path, server, cache)
        try:
            yield found
        finally:
            found.client.close()


def test_a_pipeline_comes_from_the_repository_and_is_taken_back_when_its_camera_gives_no_more_frames(
    site: Site,
) -> None:
    site.own["pipelines"] = {"camera": {"top_k": 2}, "gone": {"min_confidence": 0.5}}
    site.daemon.configure(site.own)
    with site.daemon:
        first = site.release(base=site.base(top_k=1))
        site.wait_for("committed", first)
        site.wait_for_results("camera")
        facts = site.info()["configuration_release"]
        assert facts == {"release": first, "overridden": ["pipelines.camera.top_k"], "unused": ["pipelines.gone"]}

        moved = {"pipelines": {"camera": {"source": {"url": f"{site.server.url}/moved.jpg"}}}}
        second = site.release(base=site.base(), **{"label__site-a": moved})
        failed = site.wait_for("rolled back", second)
        assert "camera: no input" in failed["reason"]
        assert failed["refused"] == {second: failed["reason"]}
        site.wait_for_results("camera")
        assert site.info()["configuration_release"]["release"] == first

        rollout = Rollout(site.repository.find(second), "edge")
        for message in list(site.client.messages):
            if message.topic in (f"edge/{NAME}/update", f"edge/{NAME}/status"):
                assert rollout.received(message.topic, message.payload)
        assert [row.progress for row in rollout.rows()] == ["failed"]

        site.client.publish(f"edge/{NAME}/cmd", '{"command": "rollback", "target": "config"}')
        (reply,) = site.client.wait_for(lambda message: message.topic == f"edge/{NAME}/cmd/reply")
        assert json.loads(reply.payload)["version"] == "as configured"
        wait_until(lambda: not site.info()["pipelines"], 30, "its own file alone is in use, which completes nothing")
    assert "Traceback" not in site.daemon.log()


def test_a_mistake_in_the_own_file_leaves_the_release_in_use_at_a_reload(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_text("{}")
    own = {"device_id": NAME, "update": {"url": "http://127.0.0.1:9", "root": "root.json", "config": "config"}}
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(own))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "base.yaml").write_text("models: {digits: {path: digits}}\n")
    pack(tmp_path / "new", archive := tmp_path / "new.zip")
    content = archive.read_bytes()
    release = Release("config", "1", 1, hashlib.sha256(content).hexdigest(), len(content))
    store = config_store_of(load_active(file))
    assert store is not None
    store.part(release.key).parent.mkdir(parents=True)
    store.part(release.key).write_bytes(content)
    store.take_in(release)
    store.activate(release.key, 0.0)
    store.commit(release.key)
    in_use = load_active(file)
    assert (in_use.release, list(in_use.settings.models)) == ("config/1", ["digits"])
    file.write_text(yaml.safe_dump(own | {"models": {"digits": {"threads": -1}}}))  # wrong with the release only
    with pytest.raises(ConfigError):
        load_again(in_use, lambda _: None)
    assert store.state().active == release.key
    assert load_active(file).release == ""  # at a start, the agent has to come up somehow
    assert store.state().active is None


@pytest.mark.faults
def test_a_configuration_that_does_not_pass_its_check_is_refused_and_one_that_is_revoked_is_left(site: Site) -> None:
    with site.daemon:
        first = site.release(base=site.base())
        site.wait_for("committed", first)
        wrong = site.release(base=site.base(top_k=-1))
        assert "config/2/base.yaml" in site.wait_for("refused", wrong)["reason"]
        second = site.release(base=site.base(), **{f"device__{NAME}": {"pipelines": {"camera": {"top_k": 2}}}})
        site.wait_for("committed", second)
        site.repository.revoke(second)
        assert site.wait_for("rolled back", second)["reason"] == "it has been revoked"
        site.wait_for_results("camera")
    with site.daemon:  # after a new start, it is still there
        site.wait_for_results("camera")
        assert site.info()["configuration_release"]["release"] == first


@pytest.mark.faults
def test_an_active_configuration_that_no_longer_fits_is_left_at_the_start(site: Site) -> None:
    with site.daemon:
        first = site.release(base=site.base())
        site.wait_for("committed", first)
    site.own["pipelines"] = {"camera": {"model": "gone"}}
    site.daemon.configure(site.own)
    with site.daemon:
        assert "there is no model 'gone'" in site.wait_for("rolled back", first)["reason"]
        assert site.info()["configuration_release"]["release"] is None
