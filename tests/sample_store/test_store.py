"""The store of kept samples: what it holds after whatever may happen to it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.sample_store import store as stores
from edge_agent.sample_store.segment import Entry, StoreError, Walk, read_entry, walk
from edge_agent.sample_store.store import Bounds, SampleStore, read_store
from tests.disks import small_disk, turn_read_only

ROOMY = Bounds(10_000_000)


def entry(number: int, size: int = 20) -> Entry:
    document = {"id": f"n{number}", "captured_at": 1000.0 + number, "pipeline": "porch", "reasons": ["random"]}
    return Entry(document, bytes([number % 256]) * size)


def opened(folder: Path, bounds: Bounds = ROOMY) -> SampleStore:
    store = SampleStore(folder, bounds)
    store.open()
    return store


def ids(folder: Path) -> list[str]:
    return [stored.id for stored in read_store(folder)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "porch"


def fill(folder: Path, count: int = 3) -> Path:
    """Entries in one segment; returns its path."""
    store = opened(folder)
    store.append([entry(number) for number in range(count)])
    store.close()
    [segment] = stores.segments(folder)
    return segment


def test_what_was_appended_is_read_again_with_what_it_is_listed_by(folder: Path) -> None:
    found = {"label": "cat", "confidence": 0.4}
    document = {**entry(1).document, "result": {"predictions": [found, found]}}
    store = opened(folder)
    store.append([entry(0), Entry(document, b"\0picture")])
    first, second = read_store(folder)
    assert first.read().data == entry(0).data
    assert (second.id, second.pipeline, second.captured_at) == ("n1", "porch", 1001.0)
    assert (second.reasons, second.labels) == (["random"], ["cat"])
    assert second.read() == Entry(document, b"\0picture")


def test_nothing_is_written_before_the_first_sample(folder: Path) -> None:
    opened(folder).close()
    assert not folder.exists()


def test_a_segment_that_is_cut_off_anywhere_keeps_its_whole_entries_and_takes_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # hundreds of them take their time
    segment = fill(folder)
    whole = segment.read_bytes()
    ends = [*[at for at, _ in walk(segment)][1:], len(whole)]
    for length in range(len(whole)):
        segment.write_bytes(whole[:length])
        expected = [f"n{number}" for number, end in enumerate(ends) if end <= length]
        store = opened(folder)
        assert store.samples == len(expected)
        assert store.damaged == (0 if length in (0, 16, *ends) else 1), length
        store.append([entry(9)])
        store.close()
        assert ids(folder) == [*expected, "n9"]


def test_a_damaged_byte_costs_one_entry(folder: Path) -> None:
    segment = fill(folder)
    whole = segment.read_bytes()
    for at in range(16, len(whole)):
        segment.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        found = Walk()
        left = [one.document["id"] for _, one in walk(segment, found)]
        assert len(left) == 2
        assert found.damaged == 1
    store = opened(folder)  # the last entry is damaged now
    assert (store.samples, store.damaged) == (2, 1)


def test_what_a_newer_version_has_written_is_left_alone(folder: Path) -> None:
    segment = fill(folder)
    newer = segment.read_bytes()[:8] + (2).to_bytes(2, "little") + segment.read_bytes()[10:] + b"unfinished"
    segment.write_bytes(newer)
    with pytest.raises(StoreError, match=r"newer version of edge-agent \(format 2, this one knows 1\)"):
        opened(folder)
    with pytest.raises(StoreError):
        ids(folder)
    assert segment.read_bytes() == newer


def test_a_foreign_file_of_the_same_name_is_not_touched(folder: Path) -> None:
    folder.mkdir()
    (folder / "00000001.samples").write_bytes(b"something of somebody else")
    with pytest.raises(StoreError, match="no file of samples"):
        opened(folder)


def test_the_oldest_segments_make_room(folder: Path) -> None:
    store = opened(folder, Bounds(1_000_000))
    for number in range(100):
        store.append([entry(number, 50_000)])
        assert sum(path.stat().st_size for path in stores.segments(folder)) <= 1_000_000
    left = ids(folder)
    assert left == [f"n{number}" for number in range(100 - len(left), 100)]
    assert len(left) >= 14  # of 19 that fit, one segment less
    assert store.deleted == 100 - len(left)
    assert not [path for path in folder.glob("*.index") if not path.with_suffix(".samples").exists()]


def filled(folder: Path, size: int) -> None:
    store = opened(folder, Bounds(1_000_000, age=3600))
    store.append([entry(0, size)])
    store.close()


def test_old_samples_are_deleted_unless_the_clock_may_be_wrong(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(folder, 200_000)
    store = opened(folder, Bounds(1_000_000, age=3600))
    later = time.time() + 10 * 365 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    store.prune(clock_synced=False)
    assert ids(folder) == ["n0"]
    store.prune(clock_synced=True)
    assert ids(folder) == []


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_makes_no_sample_older_or_younger(
    folder: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    now, up = time.time(), 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(stores, "_uptime", lambda: up)
    filled(folder, 150_000)
    first = stores.segments(folder)[0]
    os.utime(first, (now - 1800, now - 1800))  # half an hour before this start
    store = opened(folder, Bounds(1_000_000, age=3600))
    store.prune(clock_synced=True)
    store.append([entry(1, 150_000)])
    now += jump
    store.append([entry(2, 150_000)])
    up += 1790
    store.prune(clock_synced=True)
    assert ids(folder) == ["n0", "n1", "n2"]
    up += 20
    store.prune(clock_synced=True)
    assert ids(folder) == ["n1", "n2"]
    up += 1800
    store.prune(clock_synced=True)
    assert ids(folder) == []


def test_a_segment_from_the_future_is_as_old_as_the_first_look_at_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = 1000.0
    monkeypatch.setattr(stores, "_uptime", lambda: up)
    filled(folder, 150_000)
    ahead = time.time() + 365 * 86_400
    os.utime(stores.segments(folder)[0], (ahead, ahead))
    store = opened(folder, Bounds(1_000_000, age=3600))
    for up, left in ((1000.0, ["n0"]), (4599.0, ["n0"]), (4601.0, [])):  # noqa: B007 - `up` is the uptime
        store.prune(clock_synced=True)
        assert ids(folder) == left


def test_an_index_saves_time_and_is_made_again_in_no_time(folder: Path) -> None:
    store = opened(folder, Bounds(1_000_000))
    for number in range(6):
        store.append([entry(number, 50_000)])
    store.close()
    listed = list(read_store(folder))
    indexes = list(folder.glob("*.index"))
    assert indexes
    for content in (b"", b"[]", b'{"size": 1, "samples": []}', b'{"size": 150000, "samples": 3}', b"\xff"):
        for index in indexes:
            index.write_bytes(content)
        assert list(read_store(folder)) == listed
        store = opened(folder, Bounds(1_000_000))
        assert store.samples == 6
        store.close()


def test_only_one_process_writes(folder: Path) -> None:
    fill(folder)
    first = opened(folder)
    with pytest.raises(StoreError, match="another process"):
        opened(folder)
    first.close()
    opened(folder)


def test_a_folder_that_disappears_is_made_again(folder: Path) -> None:
    store = opened(folder)
    store.append([entry(0)])
    [segment] = stores.segments(folder)
    segment.unlink()
    store.append([entry(1)])
    assert ids(folder) == ["n1"]


def refuse(*_: Any) -> None:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize("step", ["fsync", "truncate"])
def test_a_disk_that_fails_at_any_step_costs_nothing_that_was_there(
    folder: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(folder)
    store.append([entry(0)])
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", refuse)
        failing.setattr(os, step, refuse)
        with pytest.raises(OSError, match="Input/output"):
            store.append([entry(1)])
    assert ids(folder)[0] == "n0"
    store.append([entry(2)])
    assert ids(folder) == ["n0", "n2"]


def test_a_full_and_a_read_only_disk_are_errors_and_the_store_goes_on_afterwards(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        folder = disk / "porch"
        store = opened(folder)
        for number in range(8):
            store.append([entry(number, 100_000)])
        with pytest.raises(OSError, match="No space"):
            store.append([entry(8, 300_000)])
        before = ids(folder)
        assert len(before) == store.samples > 3
        store.append([entry(100, 100)])
        turn_read_only(disk)
        with pytest.raises(OSError, match="Read-only"):
            store.append([entry(101, 100)])
        turn_read_only(disk, back=True)
        store.append([entry(102, 100)])
        assert ids(folder) == [*before, "n100", "n102"]
        store.close()


APPEND = """
import sys
from pathlib import Path
from edge_agent.sample_store.segment import Entry
from edge_agent.sample_store.store import Bounds, SampleStore
store = SampleStore(Path(sys.argv[1]), Bounds(50_000_000))
store.open()
for number in range(int(sys.argv[2]), 1_000_000):
    store.append([Entry({"id": str(number)}, b"x" * 30_000)])
    print(number, flush=True)
"""


def killed(folder: Path, first: int, after: Callable[[int], bool]) -> int:
    """Appends in a process that is killed; returns the last number that it has said to be safe."""
    command = [sys.executable, "-c", APPEND, str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last = first
        for line in process.stdout:
            last = int(line)
            if after(last):
                process.send_signal(signal.SIGKILL)
    return last


def test_sigkill_at_any_moment_loses_nothing_that_was_safe(folder: Path) -> None:
    numbers, first = random.Random(1), 0
    for _ in range(4):
        until = first + numbers.randint(0, 30)
        last = killed(folder, first, lambda number, until=until: number >= until)  # type: ignore[misc]
        there = [int(one) for one in ids(folder)]
        assert there == sorted(set(there))
        assert set(range(last + 1)) <= set(there)
        first = max(there) + 1


def test_an_entry_is_read_at_its_place_only(folder: Path) -> None:
    segment = fill(folder)
    (_, first), (at, second), _ = walk(segment)
    assert json.loads(json.dumps(first.document)) == entry(0).document
    assert read_entry(segment, at) == second
    with pytest.raises(StoreError, match="no sound entry"):
        read_entry(segment, at + 1)
