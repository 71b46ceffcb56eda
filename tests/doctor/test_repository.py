"""The repository of releases, as the agent would find it: signed lists on a real web server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.doctor.machine import Machine, ok
from edge_agent.doctor.repository import repository
from edge_agent.release.repository import SignedRepository
from edge_agent.update.repository import repository_of
from tests.doctor.made_up import configured, machine, only, states
from tests.update.kit import WebServer, ask


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    """A repository with one release of the channel `digits`."""
    owner = SignedRepository(tmp_path / "repository", ask)
    owner.init()
    archive = tmp_path / "archive.zip"
    archive.write_bytes(bytes(1000))
    owner.add(archive, "digits", "1", 10_000, [])
    with WebServer(tmp_path / "repository") as server:
        yield server


def following(server: WebServer, folder: Path, **update: Any) -> Machine:
    """A device that follows channels of the repository."""
    options = {"url": server.url, "root": str(server.folder / "metadata" / "1.root.json")}
    return machine(folder / "root", config=configured(folder, {"update": options | update}))


def test_without_updates_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    assert only(repository(machine(tmp_path, config=configured(tmp_path, {})))).state == "ok"
    assert only(repository(machine(tmp_path))).state == "ok"


def test_lists_are_fetched_and_verified_and_nothing_is_left_behind(server: WebServer, tmp_path: Path) -> None:
    device = following(server, tmp_path, config="digits")
    before = sorted(tmp_path.rglob("*"))
    assert only(repository(device)) == ok(f"{server.url}: 1 release, signed and current")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_channel_without_a_release_is_named_with_those_that_have_one(server: WebServer, tmp_path: Path) -> None:
    fine, finding = repository(following(server, tmp_path, config="digits", agent="digitz"))
    assert (fine.state, finding.state) == ("ok", "warning")
    assert finding.text.startswith("update.agent: ")
    assert "digits" in finding.fix


def test_a_server_that_is_gone_or_has_other_lists_is_a_failure(server: WebServer, tmp_path: Path) -> None:
    gone = following(server, tmp_path, config="digits", url="http://127.0.0.1:9")
    assert only(repository(gone)).fix.startswith("curl -sSIL http://127.0.0.1:9/")
    stranger = SignedRepository(tmp_path / "stranger", ask)
    stranger.init()
    other = following(server, tmp_path, config="digits", root=str(tmp_path / "stranger" / "metadata" / "1.root.json"))
    assert states(repository(other)) == ["failure"]


def test_lists_that_are_older_than_those_of_the_device_are_a_failure(server: WebServer, tmp_path: Path) -> None:
    device = following(server, tmp_path, config="digits")
    assert device.config is not None
    older = (server.folder / "metadata" / "timestamp.json").read_bytes()
    SignedRepository(server.folder, ask).renew()
    repository_of(device.config).releases()
    (server.folder / "metadata" / "timestamp.json").write_bytes(older)
    assert states(repository(device)) == ["failure"]
