"""A version that ends the agent again and again is left by the device itself, at any age."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_agent.update import store as stores
from edge_agent.update.store import Store
from tests.broker import wait_until
from tests.update.kit import Scene
from tests.update.test_store import serve, store, take  # noqa: F401 - `store` is a fixture

WITHIN = 1000.0


class Device:
    """The boots and the time of a device."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot, self.now = 1, 5000.0
        monkeypatch.setattr(stores, "boot_id", lambda: f"boot {self.boot}")
        monkeypatch.setattr(stores, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


def test_only_unexpected_ends_of_this_boot_and_within_the_time_are_deaths(store: Store, device: Device) -> None:  # noqa: F811
    serve(store, 1)
    store.ended()
    assert not store.began(WITHIN)
    for _ in range(3):
        assert store.began(WITHIN)
    assert len(store.state().deaths) == 3
    device.now += 2 * WITHIN
    assert store.began(WITHIN)
    assert len(store.state().deaths) == 1
    store.ended()  # somebody stops it, so it is no loop
    assert not store.began(WITHIN)
    assert store.state().deaths == []
    store.began(WITHIN)
    assert len(store.state().deaths) == 1
    device.boot += 1
    assert store.began(WITHIN)  # it may have been a power cut
    assert store.state().deaths == []


def test_a_version_under_test_is_blamed_in_place_of_the_one_that_serves(store: Store, device: Device) -> None:  # noqa: F811
    serve(store, 1)
    store.begin(take(store, 2))
    for _ in range(3):
        store.began(WITHIN)
    assert store.state().deaths == []
    assert store.state().trying is None


def test_a_device_without_a_version_of_its_own_writes_nothing_at_its_start(tmp_path: Path) -> None:
    empty = Store(tmp_path / "none")
    assert not empty.began(WITHIN)
    empty.ended()
    assert not (tmp_path / "none").exists()


def killed(stage: Scene) -> None:
    """Runs the daemon until it serves, and kills it."""
    stage.daemon.start()
    assert stage.daemon.kill().code == -signal.SIGKILL


def test_a_committed_version_that_ends_the_agent_again_and_again_gives_way_and_that_is_said(stage: Scene) -> None:
    stage.update |= {"interval": "30d", "crash_loop": {"deaths": 2}}
    stage.daemon.configure(stage.config())
    stage.install("2")
    stage.install("3")
    for _ in range(2):
        killed(stage)
    with stage.daemon:
        assert stage.serving() == "2"
        wait_until(lambda: stage.states() and stage.states()[-1]["step"] == "rolled back", 20, "the state is published")
        assert "has ended 2 times" in stage.states()[-1]["refused"]["digits/3"]


def test_after_an_unexpected_end_a_revoke_is_looked_for_before_models_load(stage: Scene) -> None:
    stage.update |= {"interval": "30d"}
    stage.daemon.configure(stage.config())
    stage.install("2")
    stage.install("3")
    killed(stage)
    stage.repository.revoke("digits/3")
    with stage.daemon:
        assert stage.serving() == "2"
        assert {result["model"]["version"] for result in stage.results()} == {"2"}


@pytest.mark.faults
def test_a_repository_that_does_not_answer_delays_the_start_for_a_while_only(stage: Scene) -> None:
    stage.install("2")
    killed(stage)
    stage.server.shutdown()
    with stage.daemon:
        assert stage.serving() == "2"


@pytest.mark.faults
def test_a_start_that_ends_with_a_message_is_no_death(stage: Scene) -> None:
    stage.install("2")
    config = stage.config()
    (stage.folder / "broken.tflite").write_bytes(b"no model")
    config["models"]["other"] = {"path": str(stage.folder / "broken.tflite")}
    config["pipelines"]["other"] = {"source": {"type": "mqtt", "topic": "other"}, "model": "other"}
    stage.daemon.configure(config)
    for _ in range(3):
        assert stage.daemon.start(ready=False).wait().code > 0
    assert stage.store.state().deaths == []
    assert stage.store.state().running == ""
