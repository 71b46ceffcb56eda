"""Whatever has happened to the files of an update store: the device starts, serves a whole version, and updates."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import UpdateError
from edge_agent.system import cache
from edge_agent.update.releases import Release
from edge_agent.update.state import State
from edge_agent.update.store import Store
from tests.disks import small_disk, turn_read_only

Damage = Callable[[Path], object]


def archive_of(number: int) -> bytes:
    return f"archive {number}".encode()


def release(number: int) -> Release:
    return Release("digits", str(number), number, hashlib.sha256(archive_of(number)).hexdigest(), 9)


def take(store: Store, number: int) -> str:
    one = release(number)
    store.make_way(one.key)
    store.part(one.key).write_bytes(archive_of(number))
    store.take_in(one)
    (cache.cache_dir() / "bundles" / one.sha256).mkdir(parents=True, exist_ok=True)
    return one.key


def serve(store: Store, number: int) -> str:
    key = take(store, number)
    store.begin(key)
    store.activate(key, 1.0)
    store.commit(key)
    return key


FIRST, SECOND = release(1).key, release(2).key


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with versions 1 and 2, of which 2 serves."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "updates" / "models" / "digits"
    folder.mkdir(parents=True)
    store = Store(folder)
    for number in (1, 2):
        serve(store, number)
    return folder


def replaced(make: Damage, name: str = "state.json") -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return damage


def text(content: str) -> Damage:
    return replaced(lambda path: path.write_text(content))


def changed(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        state = json.loads((folder / "state.json").read_text())
        change(state)
        (folder / "state.json").write_text(json.dumps(state))

    return damage


STATE: dict[str, Damage] = {
    "a folder": replaced(Path.mkdir),
    "a pipe": replaced(os.mkfifo),
    "a device": replaced(lambda path: path.symlink_to("/dev/zero")),
    "empty": text(""),
    "cut off": text('{"versions": {'),
    "zeros": replaced(lambda path: path.write_bytes(bytes(500))),
    "no text": replaced(lambda path: path.write_bytes(b"\xff\xfe\x80")),
    "too large": replaced(lambda path: path.write_bytes(b" " * 2_000_000)),
    "nested too deeply": text("[" * 100_000),
    "half a surrogate pair": changed(lambda state: state["refused"].update({"\ud800": {}})),
    "a list": text("[]"),
    "null": text("null"),
    "versions as a list": changed(lambda state: state.update(versions=[])),
    "a version without facts": changed(lambda state: state["versions"].update({SECOND: {}})),
    "a version under another key": changed(
        lambda state: state["versions"].update({"../../x": state["versions"][FIRST]})
    ),
    "a hash that is a path": changed(lambda state: state["versions"][SECOND].update(sha256="../" * 21 + "x")),
    "an active version that is unknown": changed(lambda state: state.update(active="9-" + "a" * 16)),
    "an active version that is a number": changed(lambda state: state.update(active=3)),
    "good versions that are null": changed(lambda state: state.update(good=None)),
    "probation in words": changed(lambda state: state.update(on_probation="yes")),
    "ends that are text": changed(lambda state: state.update(ends="many")),
    "refusals without a reason": changed(lambda state: state.update(refused={"x": {}})),
    "history without steps": changed(lambda state: state.update(history=[{}])),
}


@pytest.mark.parametrize("damage", STATE.values(), ids=STATE)
def test_a_damaged_state_is_set_aside_and_updates_begin_again(folder: Path, damage: Damage) -> None:
    damage(folder)
    store = Store(folder)
    assert store.state() == State()
    store.repair()
    store.began()
    assert os.path.lexists(folder / "state.json.damaged")
    assert store.state() == State()
    key = serve(store, 3)
    assert Store(folder).state().active == key
    store.ended()


def test_a_state_of_a_later_version_is_read(folder: Path) -> None:
    changed(lambda state: state.update(colour="blue"))(folder)
    Store(folder).repair()
    assert Store(folder).state().active == SECOND


def whole(folder: Path) -> Path:
    return folder / f"{SECOND}.zip"


ARCHIVE: dict[str, Damage] = {
    "missing": lambda _: None,
    "cut off": lambda path: path.write_bytes(archive_of(2)[:3]),
    "other bytes": lambda path: path.write_bytes(archive_of(3)),
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("damage", ARCHIVE.values(), ids=ARCHIVE)
def test_in_place_of_a_damaged_version_the_one_before_serves_and_it_is_fetched_again(
    folder: Path, damage: Damage
) -> None:
    whole(folder).unlink()
    damage(whole(folder))
    store = Store(folder)
    store.repair()
    assert store.state().active == FIRST
    assert not store.state().refused
    assert store.state().history[-1]["step"] == "damaged"
    assert not store.has(SECOND)
    assert serve(store, 2) == SECOND
    assert store.has(SECOND)


def test_if_every_version_is_damaged_the_configured_model_serves(folder: Path) -> None:
    for file in folder.glob("*.zip"):
        file.write_bytes(b"")
    store = Store(folder)
    store.repair()
    assert store.state().active is None


def test_of_damaged_archives_a_bounded_number_is_kept(folder: Path) -> None:
    store = Store(folder)
    for number in range(3, 9):
        store.archive(take(store, number)).write_bytes(b"")
        assert not store.has(release(number).key)
    assert len(list(folder.glob("*.damaged*"))) == 3


PLACES: dict[str, Callable[[Path], Path]] = {
    "updates": lambda folder: folder.parent.parent,
    "models": lambda folder: folder.parent,
    "digits": lambda folder: folder,
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_file_in_the_place_of_a_folder_is_set_aside(folder: Path, place: Callable[[Path], Path]) -> None:
    path = place(folder)
    path.rename(path.with_name("elsewhere"))
    path.touch()
    store = Store(folder)
    assert store.state() == State()
    store.repair()
    with store.changing():
        pass
    assert store.state().active is None
    assert path.with_name(f"{path.name}.damaged").is_file()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", ["lock", f"{release(3).key}.part", f"{release(3).key}.zip"])
def test_what_is_in_the_place_of_the_other_files_is_set_aside(folder: Path, name: str, make: Damage) -> None:
    replaced(make, name)(folder)
    store = Store(folder)
    store.repair()
    store.has(release(3).key)
    assert serve(store, 3) == release(3).key


def test_damage_on_a_disk_that_can_not_be_written_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        (disk / "digits" / "state.json").mkdir(parents=True)
        (disk / "digits" / "lock").touch()
        turn_read_only(disk)
        store = Store(disk / "digits")
        assert store.state() == State()
        with pytest.raises(UpdateError, match="nor moved out of the way"):
            store.repair()
