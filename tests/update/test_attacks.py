"""Whoever holds the web server, or the network, can keep a device from new releases, but make it take no other one."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile, Snapshot

from edge_agent.errors import UpdateError
from edge_agent.release import repository as signed
from edge_agent.release.repository import SignedRepository
from edge_agent.update import repository as device_side
from edge_agent.update.repository import Repository
from tests.update.kit import Scene, WebServer, _Request, ask

CONTENT = b"the archive of a bundle" * 1000


class Device:
    """A device's view of a repository that has two releases, both of which it has seen.

    Attributes:
        owner: who signs.
        server: what the attacker holds.
        before: everything on the server as it was when there was one release.
    """

    def __init__(self, folder: Path, server: WebServer, owner: SignedRepository) -> None:
        self.owner, self.server, self._folder = owner, server, folder
        root = Path(shutil.copy(owner.first_root, folder / "root.json"))
        self.view = Repository(server.url, root, folder / "device")
        self.before = folder / "before"
        self.add("1")
        assert self.releases() == ["digits/1"]
        shutil.copytree(server.folder, self.before)
        self.add("2")
        assert self.releases() == ["digits/1", "digits/2"]

    def add(self, version: str) -> None:
        archive = self._folder / f"{version}.zip"
        archive.write_bytes(CONTENT + version.encode())
        self.owner.add(archive, "digits", version, 10_000, [])

    def releases(self) -> list[str]:
        return [release.name for release in self.view.releases()]

    def refuses(self) -> str:
        """Why it takes nothing."""
        with pytest.raises(UpdateError) as caught:
            self.view.releases()
        return str(caught.value)

    def file(self, name: str) -> Path:
        return self.server.folder / "metadata" / name

    def fetch(self, version: str) -> Path:
        """Downloads a release."""
        (release,) = [one for one in self.view.releases() if one.version == version]
        part = self._folder / "part"
        self.view.fetch(release, part, None, lambda _: None)
        return part


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    owner = SignedRepository(tmp_path / "repository", ask)
    owner.init()
    with WebServer(tmp_path / "repository") as server:
        yield Device(tmp_path, server, owner)


def test_rollback_lists_of_an_earlier_day_are_refused(device: Device) -> None:
    shutil.copy(device.before / "metadata" / "timestamp.json", device.file("timestamp.json"))
    assert "older or other lists than those that this device knows already are refused" in device.refuses()


def test_rollback_of_the_list_of_releases_behind_a_new_timestamp_is_refused(device: Device) -> None:
    # Whoever has stolen the online key can sign any timestamp and snapshot, but name no older list of releases.
    old = device.file("2.targets.json").read_bytes()
    meta = MetaFile.from_data(2, old, ["sha256"])
    snapshot = device.owner._current(Snapshot)
    snapshot.meta = {"targets.json": meta}
    device.owner._sign(snapshot, [device.owner._signer("online")])
    device.owner._sign_timestamp()
    assert "older or other lists" in device.refuses()


def test_freeze_a_list_that_has_expired_is_refused(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(signed.VALID_DAYS, "timestamp", -1)
    device.owner.renew()
    assert "newer lists are held back, or the repository was not renewed" in device.refuses()
    monkeypatch.setitem(signed.VALID_DAYS, "timestamp", 1)
    device.owner.renew()
    assert device.releases() == ["digits/1", "digits/2"]


def test_mix_and_match_a_list_of_one_day_with_that_of_another_is_refused(device: Device) -> None:
    device.add("3")
    shutil.copy(device.file("2.targets.json"), device.file("4.targets.json"))
    assert "not the file that was signed" in device.refuses()


@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json", "4.snapshot.json", "4.targets.json"])
def test_endless_data_in_place_of_a_list_is_cut_off(name: str, device: Device) -> None:
    device.add("3")
    sent = _send_without_end(device, f"/metadata/{name}")
    assert "longer than" in device.refuses()
    assert sum(sent) < 50_000_000  # what the system buffers is in it
    device.server.wrongly = lambda _: False
    assert device.releases() == ["digits/1", "digits/2", "digits/3"]


def test_endless_data_in_place_of_an_archive_is_cut_off(device: Device) -> None:
    sent = _send_without_end(device, "/targets/digits/")
    with pytest.raises(UpdateError, match="longer than"):
        device.fetch("2")
    assert sum(sent) < 50_000_000  # what the system buffers is in it


def _send_without_end(device: Device, address: str) -> list[int]:
    """What is sent from now on, in place of what lies under an address."""
    sent: list[int] = []

    def answer(request: _Request) -> bool:
        if not request.path.startswith(address):
            return False
        request.send_response(200)
        request.end_headers()
        while True:  # until the device hangs up
            sent.append(request.wfile.write(b"{" * 100_000))

    device.server.wrongly = answer
    return sent


def test_slow_data_in_place_of_a_list_is_given_up(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_side, "SECONDS_FOR_A_LIST", 0.3)
    over = threading.Event()

    def answer(request: _Request) -> bool:
        request.send_response(200)
        request.end_headers()
        while not over.wait(0.05):
            request.wfile.write(b"{")
        return True

    device.server.wrongly = answer
    try:
        assert "the server is too slow, or holds the list back" in device.refuses()
    finally:
        over.set()


def test_wrong_key_a_repository_of_somebody_else_is_refused(device: Device, tmp_path: Path) -> None:
    other = SignedRepository(tmp_path / "other", ask)
    other.init()
    for _ in range(5):
        other.renew()
    shutil.rmtree(device.server.folder / "metadata")
    shutil.copytree(tmp_path / "other" / "metadata", device.server.folder / "metadata")
    assert "signed with other keys than the pinned root trusts" in device.refuses()


def test_wrong_key_a_release_signed_with_the_online_key_alone_is_refused(device: Device) -> None:
    device.owner._signers["targets"] = device.owner._signer("online")
    device.add("3")
    assert "signed with other keys than the pinned root trusts" in device.refuses()


def test_wrong_key_a_root_that_the_one_before_does_not_vouch_for_is_refused(device: Device, tmp_path: Path) -> None:
    other = SignedRepository(tmp_path / "other", ask)
    other.init()
    other.renew_root()
    shutil.copy(other.first_root.with_name("2.root.json"), device.file("2.root.json"))
    assert "signed with other keys than the pinned root trusts" in device.refuses()


def test_a_tampered_archive_is_refused_and_the_right_one_taken_later(device: Device) -> None:
    (archive,) = (device.server.folder / "targets" / "digits").glob("*.2.zip")
    right = archive.read_bytes()
    archive.write_bytes(b"T" + right[1:])
    with pytest.raises(UpdateError, match="sha256 is"):
        device.fetch("2")
    archive.write_bytes(right)
    assert device.fetch("2").read_bytes() == right


def test_an_owner_may_change_every_key_and_devices_follow(device: Device) -> None:
    for name in signed.KEYS:
        device.owner.change_key(name)
    device.add("3")
    assert device.releases() == ["digits/1", "digits/2", "digits/3"]


def test_a_daemon_under_attack_says_so_and_goes_on(stage: Scene) -> None:
    stage.release("2")
    (archive,) = (stage.server.folder / "targets" / "digits").glob("*.2.zip")
    right = archive.read_bytes()
    archive.write_bytes(right[:-1] + b"T")
    with stage.daemon:
        failed = stage.wait_for("failed", "digits/2")
        assert "sha256 is" in failed["reason"]
        archive.write_bytes(right)
        stage.wait_for("committed", "digits/2")
        assert stage.serving() == "2"
