"""What is kept of a model's versions, and what is known of them."""

import hashlib
from pathlib import Path

import pytest

from edge_agent.errors import UpdateError
from edge_agent.system import cache
from edge_agent.update.releases import Release
from edge_agent.update.state import MAX_HISTORY, MAX_REFUSED, State
from edge_agent.update.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "digits").mkdir()
    return Store(tmp_path / "digits")


def take(store: Store, number: int) -> str:
    """Has a version on the disk, and unpacked; returns its key."""
    archive = f"archive {number}".encode()
    release = Release("digits", str(number), number, hashlib.sha256(archive).hexdigest(), len(archive))
    store.part(release.key).write_bytes(archive)
    store.take_in(release)
    (cache.cache_dir() / "bundles" / release.sha256).mkdir(parents=True)
    return release.key


def serve(store: Store, number: int) -> str:
    key = take(store, number)
    store.begin(key)
    store.activate(key, 1.0)
    store.commit(key)
    return key


def archives(store: Store) -> set[str]:
    return {file.stem for file in store.archive("x").parent.glob("*.zip")}


def unpacked() -> int:
    return len(list((cache.cache_dir() / "bundles").iterdir()))


def test_of_the_versions_that_have_served_the_last_two_are_kept(store: Store) -> None:
    keys = [serve(store, number) for number in (1, 2, 3, 4)]
    assert archives(store) == set(keys[-2:])
    assert unpacked() == 2


def test_while_a_version_is_tried_or_on_probation_those_before_it_are_kept(store: Store) -> None:
    keys = [serve(store, 1), serve(store, 2), take(store, 3)]
    store.begin(keys[2])
    assert archives(store) == set(keys)
    store.activate(keys[2], 1.0)
    assert archives(store) == set(keys)
    assert store.roll_back("it fails") == keys[1]
    assert archives(store) == set(keys[:2])


def test_one_version_after_the_other_is_taken_back_to_what_is_configured(store: Store) -> None:
    keys = [serve(store, 1), serve(store, 2)]
    assert store.roll_back("it fails") == keys[0]
    assert store.roll_back("it fails, too") is None
    assert archives(store) == set()
    assert [facts["version"] for facts in store.state().refused.values()] == ["digits/2", "digits/1"]
    with pytest.raises(UpdateError, match="there is nothing to go back from"):
        store.roll_back("why not")


def test_a_version_that_has_been_revoked_is_not_what_is_gone_back_to(store: Store) -> None:
    first, second, third = serve(store, 1), serve(store, 2), take(store, 3)
    store.activate(third, 1.0)
    assert store.roll_back("it has been revoked", revoked=[second, third]) == first


def test_a_refused_version_leaves_what_serves_and_is_removed(store: Store) -> None:
    first, second = serve(store, 1), take(store, 2)
    store.begin(second)
    store.refuse(second, "it is bad")
    assert store.state().active == first
    assert archives(store) == {first}
    assert store.state().refused[second] == {"version": "digits/2", "reason": "it is bad"}
    store.forget_refusals()
    assert store.state().refused == {}


def test_only_ends_that_nobody_wanted_count_against_a_version(store: Store) -> None:
    key = take(store, 1)
    store.begin(key)
    for _ in range(10):
        store.ended()
        store.began()
    assert store.state().trying == key
    for _ in range(3):
        store.began()
    assert store.state().trying is None
    assert "has ended 3 times" in store.state().refused[key]["reason"]


def test_downloads_of_other_versions_and_archives_that_nothing_knows_of_are_removed(store: Store) -> None:
    key = serve(store, 1)
    for name in ("2-aa.part", "3-bb.part", "4-cc.zip"):
        (store.archive("x").parent / name).touch()
    store.clear_parts(keep="3-bb")
    names = {file.name for file in store.archive("x").parent.iterdir()}
    assert names == {f"{key}.zip", "3-bb.part", "state.json", "lock"}


def test_history_and_refusals_are_bounded() -> None:
    state = State()
    for number in range(2 * MAX_HISTORY):
        state.note("refused", f"{number}-aa", "bad")
        state.refuse(f"{number}-aa", "bad" * 1000)
    assert len(state.history) == MAX_HISTORY
    assert len(state.refused) == MAX_REFUSED
    assert len(state.refused[f"{2 * MAX_HISTORY - 1}-aa"]["reason"]) == 500


def test_a_damaged_state_is_as_if_there_was_none(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    serve(store, 1)
    (store.archive("x").parent / "state.json").write_text("{")
    assert store.state() == State()
    assert "using the configured model" in caplog.text
