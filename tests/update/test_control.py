from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.config import loader
from edge_agent.errors import UpdateError
from edge_agent.update import agent_release, control, updater
from edge_agent.update.control import UpdateControl
from edge_agent.update.releases import Release
from edge_agent.update.store import Store


class Stopping(UpdateControl):
    """Its updater is stopped by another thread between any two looks at it."""

    def __init__(self) -> None:
        self._looks = 0

    @property
    def _updater(self) -> Any:  # type: ignore[override]
        self._looks += 1
        return None if self._looks > 1 else self

    def document(self) -> Any:
        return {"at": "now"} if self._looks else super().document()


def test_the_state_of_updates_can_be_read_while_they_are_stopped() -> None:
    assert Stopping().document() == {"at": "now"}


class Host:
    """Notes what the agent is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def load_version(self, name: str, path: Path | None, _: object) -> None:
        self.asked.append(f"load {name} {path and path.stem}")

    def request_reload(self) -> None:
        self.asked.append("reload")

    def publish_state(self, _: dict[str, Any]) -> None:
        self.asked.append("publish")


def installed(store: Store, channel: str) -> list[str]:
    """Puts two versions into a store, as updates do that have gone well; returns their keys."""
    keys: list[str] = []
    for number in (1, 2):
        release = Release(channel, str(number), number, f"{number}" * 64, 1)
        with store.changing() as state:
            state.versions[release.key] = release.as_dict()
            state.good, state.active = [*keys, release.key], release.key
        keys.append(release.key)
    return keys


class Followed:
    """A device that follows channels for a model, its configuration and itself, which nothing checks."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(updater.Updater, "start", lambda _: None)
        monkeypatch.setattr(updater.Updater, "stop", lambda *_: None)
        monkeypatch.setattr(Store, "has", lambda *_: True)
        self.installer = Store(folder / "opt" / "updates")
        monkeypatch.setattr(control, "installer_store", lambda: self.installer)
        monkeypatch.setattr(updater, "installer_store", lambda: self.installer)
        (folder / "root.json").touch()
        follows = {"models": {"digits": "digits"}, "config": "cameras", "agent": "agent"}
        update = {"url": "http://127.0.0.1:1", "root": "root.json", "path": "updates", **follows}
        own = {"models": {"digits": {"path": "digits"}}, "pipelines": {}, "update": update}
        (folder / "agent.yaml").write_text(yaml.safe_dump(own))
        self.updates = folder / "updates"
        self.host = Host()
        self.control = UpdateControl(self.host, lambda *_: None, lambda: None)  # type: ignore[arg-type]
        self.control.start(loader.load(folder / "agent.yaml"))


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    return Followed(tmp_path, monkeypatch)


def test_the_configuration_goes_back_with_a_reload(followed: Followed) -> None:
    store = Store(followed.updates / "config" / "device")
    _, left = installed(store, "cameras")
    assert followed.control.roll_back({"target": "config"}) == {"version": "cameras/1"}
    assert followed.host.asked == ["reload"]
    assert left in store.state().refused


def test_the_agent_asks_for_the_version_before(followed: Followed) -> None:
    _, left = installed(followed.installer, "agent")
    assert followed.control.roll_back({"target": "agent"}) == {"version": "agent/1"}
    request = followed.updates / "agent" / agent_release.REQUEST
    assert f'"leave": "{left}"' in request.read_text()
    assert followed.control.pin({"target": "agent"}) == {"pinned": True, "version": "agent/2"}
    assert not request.exists()


@pytest.mark.parametrize("target", ["config", "agent"])
def test_what_no_release_has_brought_does_not_go_back(followed: Followed, target: str) -> None:
    with pytest.raises(UpdateError):
        followed.control.roll_back({"target": target})
    assert followed.host.asked == []


@pytest.mark.parametrize("target", ["config", "agent"])
def test_what_is_pinned_is_said_to_be(followed: Followed, target: str) -> None:
    for pinned in (True, False):
        assert followed.control.pin({"target": target, "pinned": pinned})["pinned"] == pinned
        document = followed.control.document()
        assert document is not None
        assert document[target]["pinned"] == pinned


@pytest.mark.parametrize(
    "request_", [{}, {"target": "digits"}, {"model": "config"}, {"model": "digits", "target": "config"}]
)
def test_what_follows_no_channel_is_refused(followed: Followed, request_: dict[str, Any]) -> None:
    for command in (followed.control.pin, followed.control.roll_back):
        with pytest.raises(UpdateError):
            command(request_)
