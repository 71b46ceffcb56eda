"""What installs the agent as root trusts nothing that the agent's user can write."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.errors import UpdateError
from edge_agent.release.repository import SignedRepository
from edge_agent.settings.update import Update
from edge_agent.update.agent_release import REQUEST, this_platform
from edge_agent.update.agent_update import AgentStore
from edge_agent.update.installer import Device, Installer, device_of
from edge_agent.update.repository import Repository
from tests.installation import make_wheel
from tests.update.kit import WebServer, ask

SCRIPT = 'echo "$*" >> "$(dirname "$0")/calls"; [ ! -e "$(dirname "$0")/fails" ] || { echo "it is bad" >&2; exit 3; }\n'


class Place:
    """A repository, what an agent has fetched from it, and an installer whose install.sh only notes its calls."""

    def __init__(self, folder: Path, server: WebServer, repository: SignedRepository) -> None:
        self.folder, self.server, self.repository = folder, server, repository
        self.opt, self.downloads = folder / "opt", folder / "state" / "updates"
        (self.opt / "current").mkdir(parents=True)
        (self.opt / "current" / ".extras").write_text("tflite,update\n")
        self.script = folder / "install.sh"
        self.script.write_text(SCRIPT)
        update = Update(url=server.url, root=repository.first_root, agent="agent")
        device = Device("porch-pi", update, repository.first_root, self.downloads)
        self.installer = Installer(device, self.opt, self.script, 60.0)

    def release(self, version: str) -> str:
        from edge_agent.release.agent import pack

        (folder := self.folder / version).mkdir()
        make_wheel(folder, version)
        pack(folder, this_platform(), archive := folder / "a.zip")
        return self.repository.add({this_platform(): archive}, "agent", version, 10_000, [])[0].name

    def fetch(self) -> Path:
        """What the agent does; returns the newest archive that it has downloaded."""
        repository = Repository(self.server.url, self.repository.first_root, self.downloads / "metadata")
        newest = max(repository.releases(), key=lambda release: release.number)
        place = self.downloads / "agent" / f"{newest.key}.zip"
        place.parent.mkdir(exist_ok=True)
        shutil.copy(self.repository.archive_of(newest), place)
        return place

    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    repository = SignedRepository(tmp_path / "repository", ask)
    repository.init()
    with WebServer(tmp_path / "repository") as server:
        yield Place(tmp_path, server, repository)


def test_a_release_is_installed_with_the_extras_in_use_and_left_when_it_is_revoked(place: Place) -> None:
    first = place.release("1.1")
    place.fetch()
    assert place.installer.run() == f"{first}: installed"
    (call,) = place.calls()
    assert call.startswith("--watch 60 --wheelhouse ")
    assert "--extras tflite,update --check-broker " in call
    assert call.endswith("/edge_agent_runtime-1.1-py3-none-any.whl")
    assert place.installer.run() == "there is nothing to install"
    place.repository.revoke(first)
    place.fetch()
    assert place.installer.run() == f"{first}: it has been revoked: back to the version before"
    assert place.calls()[1:] == ["--watch 60 --back"]
    assert {path.name for path in place.opt.iterdir()} == {"current", "updates"}  # nothing of it is left


def test_the_active_version_is_left_when_the_agent_was_told_to(place: Place) -> None:
    released = place.release("1.1")
    place.fetch()
    place.installer.run()
    agent = AgentStore(place.downloads / "agent", place.installer.store)
    active = str(agent.state().active)
    for wrong in ("{", '{"leave": 1}', '{"leave": "1-0000000000000000"}', '{"leave": "' + "x" * 2000):
        (place.downloads / "agent" / REQUEST).write_text(wrong)
        assert place.installer.run() == "there is nothing to install"
    (place.downloads / "agent" / REQUEST).unlink()
    os.mkfifo(place.downloads / "agent" / REQUEST)  # nobody writes into it
    assert place.installer.run() == "there is nothing to install"
    (place.downloads / "agent" / REQUEST).unlink()

    agent.roll_back("by command")
    shutil.rmtree(place.downloads / "metadata")  # lists that have expired do not keep it from that
    assert place.installer.run() == f"{released}: by command: back to the version before"
    assert place.calls()[-1] == "--watch 60 --back"
    assert active in agent.state().refused
    with pytest.raises(UpdateError):
        agent.roll_back("by command")


def test_a_version_that_install_sh_takes_back_is_not_tried_again(place: Place) -> None:
    bad = place.release("1.1")
    place.fetch()
    (place.folder / "fails").touch()
    assert place.installer.run() == f"{bad}: not installed: it is bad"
    assert place.installer.run() == "there is nothing to install"
    assert [facts["reason"] for facts in place.installer.store.state().refused.values()] == ["it is bad"]


def test_an_archive_that_is_not_the_signed_one_is_never_run_and_the_right_one_still_can_be(place: Place) -> None:
    first = place.release("1.1")
    archive = place.fetch()
    right = archive.read_bytes()
    for wrong in (right[:-1], right + b"x", b""):
        archive.write_bytes(wrong if wrong != right + b"x" else b"x" + right)
        with pytest.raises(UpdateError):
            place.installer.run()
    archive.unlink()
    archive.symlink_to("/dev/zero")
    with pytest.raises(UpdateError):
        place.installer.run()
    archive.unlink()
    with pytest.raises(UpdateError):
        place.installer.run()
    assert place.calls() == []
    archive.write_bytes(right)
    assert place.installer.run() == f"{first}: installed"


def test_lists_that_are_forged_or_older_than_those_that_it_knows_are_refused(place: Place) -> None:
    first = place.release("1.1")
    place.fetch()
    old = shutil.copytree(place.downloads, place.folder / "old")
    assert place.installer.run() == f"{first}: installed"
    place.release("1.2")
    place.fetch()
    lists = place.downloads / "metadata"
    signed = (lists / "targets.json").read_text()
    (lists / "targets.json").write_text(signed.replace("10000", "9999"))
    with pytest.raises(UpdateError):
        place.installer.run()
    (lists / "targets.json").write_text(signed)
    assert place.installer.run() == "agent/1.2: installed"
    shutil.rmtree(place.downloads)
    old.rename(place.downloads)
    with pytest.raises(UpdateError):
        place.installer.run()


def test_without_its_key_in_the_configuration_nothing_is_done(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("update: {url: 'http://x.lan', root: root.json, models: {a: b}}\n")
    assert device_of(tmp_path / "agent.yaml", tmp_path) is None
    own = "device_id: pi\nmqtt: {password_file: '${env:NOT_HERE}'}\nfuture_section: {}\n"
    (tmp_path / "agent.yaml").write_text(f"{own}update: {{url: 'http://x.lan', root: root.json, agent: agent}}\n")
    found = device_of(tmp_path / "agent.yaml", tmp_path)
    assert found is not None
    assert (found.device_id, found.root, found.downloads) == ("pi", tmp_path / "root.json", tmp_path / "updates")
