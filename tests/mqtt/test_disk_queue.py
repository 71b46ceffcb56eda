import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.mqtt.delivery import Delivery, from_row, to_row
from edge_agent.mqtt.disk_queue import DamagedError, DiskQueue, Row
from edge_agent.samples import ReplyTo
from edge_agent.system.set_aside import MAX_KEPT
from tests.disks import small_disk, turn_read_only
from tests.mqtt.damage import DAMAGE, sql

BIG = 100_000_000


def row(number: int = 0, size: int = 10, pipeline: str = "lab") -> Row:
    return Row(pipeline, f"t/{number:04}", b"x" * size, 1, False)


def opened(path: Path, max_size: int = BIG) -> DiskQueue:
    queue = DiskQueue(path, max_size)
    queue.open()
    return queue


def topics(queue: DiskQueue) -> list[str]:
    return [row.topic for _, row in queue.after(0, 1000)]


def test_rows_come_back_as_they_were_and_in_order(tmp_path: Path) -> None:
    rows = [
        Row("lab", "t/ü", b"\x00\xff", 1, True, "extra", "reply", b"\x00id", 12.5, "boot", 1.7e9),
        row(1),
    ]
    queue = opened(tmp_path / "q.db")
    queue.append(rows, drop_oldest=True)
    assert [found for _, found in queue.after(0, 10)] == rows
    queue.close()
    again = DiskQueue(tmp_path / "q.db", BIG)
    assert again.open() == Counter({"lab": 2})
    assert [found for _, found in again.after(0, 10)] == rows
    again.close()


def test_the_file_exists_only_while_something_is_in_it(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path / "folder" / "q.db", BIG)
    assert not queue.exists
    queue.open()
    queue.append([row(1), row(2)], drop_oldest=True)
    [first, second] = [row_id for row_id, _ in queue.after(0, 10)]
    queue.remove([first])
    assert (tmp_path / "folder" / "q.db").exists()
    queue.remove([second])
    assert list((tmp_path / "folder").iterdir()) == []
    queue.open()
    queue.append([row(3)], drop_oldest=True)
    assert topics(queue) == ["t/0003"]
    queue.close()


def test_when_it_is_full_the_oldest_give_way_or_the_newest_are_not_taken(tmp_path: Path) -> None:
    ten = 10 * row(0, 100).size
    for drop_oldest, expected in ((True, range(5, 15)), (False, range(10))):
        queue = opened(tmp_path / f"{drop_oldest}.db", ten)
        first = queue.append([row(n, 100) for n in range(8)], drop_oldest=drop_oldest)
        second = queue.append([row(n, 100) for n in range(8, 15)], drop_oldest=drop_oldest)
        assert topics(queue) == [f"t/{n:04}" for n in expected]
        assert first == (8, Counter())
        assert second == ((7, Counter({"lab": 5})) if drop_oldest else (2, Counter()))
        queue.close()


def test_what_is_under_way_does_not_give_way(tmp_path: Path) -> None:
    queue = opened(tmp_path / "q.db", 3 * row(0, 100).size)
    queue.append([row(n, 100) for n in range(3)], drop_oldest=True)
    [first, *_] = [row_id for row_id, _ in queue.after(0, 10)]
    assert queue.append([row(3, 100)], drop_oldest=True, keep=[first]) == (1, Counter({"lab": 1}))
    assert topics(queue) == ["t/0000", "t/0002", "t/0003"]
    queue.close()


def test_what_is_larger_than_the_whole_queue_drives_nothing_out(tmp_path: Path) -> None:
    queue = opened(tmp_path / "q.db", 10_000)
    queue.append([row(1)], drop_oldest=True)
    assert queue.append([row(2, 20_000)], drop_oldest=True) == (0, Counter())
    assert topics(queue) == ["t/0001"]
    queue.close()


@pytest.mark.parametrize("size", [50, 400, 4000, 4200, 60_000])
def test_the_bound_holds_for_the_file(tmp_path: Path, size: int) -> None:
    queue = opened(tmp_path / "q.db", 1_000_000)
    batch = max(20, 15_000 // size)
    for first in range(0, max(60, 1_500_000 // size), batch):
        queue.append([row(first + number, size) for number in range(batch)], drop_oldest=True)
    files = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert files < 1_000_000 * 1.1 + 1_100_000 + batch * size
    assert queue._size > 900_000
    queue.close()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.lists(st.integers(0, 3000), max_size=8)),
            st.tuples(st.just("remove"), st.lists(st.integers(0, 40), max_size=8)),
            st.tuples(st.just("reopen"), st.just([])),
        ),
        max_size=20,
    ),
    st.booleans(),
)
def test_it_behaves_like_a_list_with_a_bound(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[int]]], drop_oldest: bool
) -> None:
    path, bound = tmp_path_factory.mktemp("queue") / "q.db", 10_000
    queue, model, number = opened(path, bound), list[Row](), 0
    for step, values in steps:
        if step == "append":
            rows = [row(number + n, size) for n, size in enumerate(values)]
            number += len(rows)
            queue.open()
            kept, gave_way = queue.append(rows, drop_oldest=drop_oldest)
            before = len(model)
            for new in rows[:kept]:
                while sum(old.size for old in model) + new.size > bound:
                    model.pop(0)
                model.append(new)
            assert gave_way.total() == before + kept - len(model)
        elif step == "remove":
            ids = [row_id for row_id, _ in queue.after(0, 1000)]
            chosen = {value for value in values if value < len(ids)}
            queue.remove([ids[n] for n in chosen])
            assert path.exists() == (len(chosen) < len(ids)) or not ids
            model = [old for n, old in enumerate(model) if n not in chosen]
        else:
            queue.close()
            queue = opened(path, bound)
        assert [found for _, found in queue.after(0, 1000)] == model
        assert len(queue) == len(model)
        assert sum(old.size for old in model) <= bound
    queue.close()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "q.db"
    queue = opened(path)
    queue.append([row(number, 1000) for number in range(50)], drop_oldest=True)
    queue.close()
    damage(path)
    queue = DiskQueue(path, BIG)
    assert queue.exists
    with pytest.raises(
        DamagedError, match=r"q.db: can't be used \(.*\): set aside as .*q.db.damaged, a new one is begun"
    ) as caught:
        queue.open()
    assert caught.value.found_now
    assert not caught.value.still_there
    assert os.path.lexists(tmp_path / "q.db.damaged")
    assert queue.open() == Counter()
    queue.append([row(1)], drop_oldest=True)
    assert topics(queue) == ["t/0001"]
    queue.close()


def test_a_file_that_is_cut_off_anywhere_is_set_aside(tmp_path: Path) -> None:
    whole = tmp_path / "whole.db"
    queue = opened(whole)
    queue.append([row(number, 3000) for number in range(30)], drop_oldest=True)
    queue.close()
    content = whole.read_bytes()
    for size in (*range(4096, len(content), 4096), len(content) - 1):
        path = tmp_path / f"{size}.db"
        path.write_bytes(content[:size])
        queue = DiskQueue(path, BIG)
        with pytest.raises(DamagedError):
            queue.open()
        assert queue.open() == Counter()
        queue.close()


@pytest.mark.parametrize(
    "change", ["payload = 'text'", "topic = x'ff'", "topic = CAST(x'ff' AS TEXT)", "qos = 'x'", "deadline = 'soon'"]
)
def test_a_row_that_is_no_result_is_damage_when_it_is_read(tmp_path: Path, change: str) -> None:
    path = tmp_path / "q.db"
    queue = opened(path)
    queue.append([row(number) for number in range(3)], drop_oldest=True)
    queue.close()
    sql(f"UPDATE results SET {change} WHERE id = 2")(path)
    queue = opened(path)
    with pytest.raises(DamagedError) as caught:
        queue.after(0, 10)
    assert caught.value.lost == {"lab": 3}
    assert not caught.value.found_now
    queue.close()


def test_what_can_be_counted_in_a_damaged_file_is(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    queue = opened(path)
    queue.append([row(number) for number in range(7)], drop_oldest=True)
    queue.close()
    sql("PRAGMA user_version = 2")(path)
    with pytest.raises(DamagedError) as caught:
        DiskQueue(path, BIG).open()
    assert caught.value.lost == {"lab": 7}


def test_a_bounded_number_of_damaged_files_is_kept_the_latest_first(tmp_path: Path) -> None:
    for number in range(MAX_KEPT + 2):
        (tmp_path / "q.db").write_text(f"{number}" * 1000)
        queue = DiskQueue(tmp_path / "q.db", BIG)
        with pytest.raises(DamagedError):
            queue.open()
    kept = [(tmp_path / name).read_text()[0] for name in ("q.db.damaged", "q.db.damaged.2", "q.db.damaged.3")]
    assert kept == ["4", "3", "2"]
    assert len(list(tmp_path.iterdir())) == MAX_KEPT


def test_a_file_that_is_removed_while_it_is_in_use_is_lost_and_a_new_one_begun(tmp_path: Path) -> None:
    queue = opened(tmp_path / "q.db")
    queue.append([row(1)], drop_oldest=True)
    (tmp_path / "q.db").unlink()
    with pytest.raises(DamagedError) as caught:
        queue.append([row(2)], drop_oldest=True)
    assert caught.value.lost == {"lab": 1}
    queue.open()
    queue.append([row(2)], drop_oldest=True)
    assert topics(queue) == ["t/0002"]
    queue.close()


def test_damage_that_can_not_be_moved_is_told_apart(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        (disk / "q.db").mkdir()
        turn_read_only(disk)
        with pytest.raises(DamagedError, match="nor moved out of the way") as caught:
            DiskQueue(disk / "q.db", BIG).open()
        assert caught.value.still_there


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    opened(path).close()
    path.chmod(0o600)
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:  # pytest's are closed to other users; how many there are depends on its workers
        folder.chmod(folder.stat().st_mode | 0o011)
    code = f"""
import os, sys
from pathlib import Path
from edge_agent.mqtt.disk_queue import DamagedError, DiskQueue
os.setuid(65534)
try:
    DiskQueue(Path({str(path)!r}), 1000).open()
except DamagedError as error:
    sys.exit(f"{{error}}" if error.still_there else 7)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert (tmp_path / "q.db.damaged").exists()


def test_an_empty_file_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "q.db").touch()
    queue = opened(tmp_path / "q.db")
    queue.append([row(1)], drop_oldest=True)
    queue.close()
    assert not (tmp_path / "q.db.damaged").exists()


def test_damage_that_shows_in_use_tells_how_much_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    queue = opened(path)
    queue.append([row(number, 6000) for number in range(1000)], drop_oldest=True)
    queue.append([row(0, 10, "porch")], drop_oldest=True)
    queue.close()
    queue = opened(path)
    with path.open("r+b") as file:
        file.seek(1_000_000)
        file.write(os.urandom(5_000_000))

    def empty() -> None:
        while rows := queue.after(0, 50):
            queue.remove([row_id for row_id, _ in rows])

    with pytest.raises(DamagedError) as caught:
        empty()
    assert 0 < caught.value.lost["lab"] < 1000
    assert caught.value.lost["porch"] == 1
    assert len(queue) == 0


def test_a_file_that_is_in_use_is_not_shared(tmp_path: Path) -> None:
    first = opened(tmp_path / "q.db")
    first.append([row(1)], drop_oldest=True)
    with pytest.raises(OSError, match="is another edge-agent running with it"):
        opened(tmp_path / "q.db")
    first.close()


def test_a_full_disk_can_still_be_emptied(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 300_000) as disk:
        queue = opened(disk / "q.db")
        queue.append([row(number, 2000) for number in range(20)], drop_oldest=True)
        with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))
        assert os.statvfs(disk).f_bavail == 0
        queue.remove([row_id for row_id, _ in queue.after(0, 100)])
        assert [path.name for path in disk.iterdir()] == ["ballast"]


def test_a_log_that_was_left_behind_does_no_harm(tmp_path: Path) -> None:
    queue = opened(tmp_path / "q.db")
    queue.append([row(1)], drop_oldest=True)
    log = (tmp_path / "q.db-wal").read_bytes()
    queue.remove([row_id for row_id, _ in queue.after(0, 100)])
    (tmp_path / "q.db-wal").write_bytes(log)
    queue.open()
    queue.append([row(2)], drop_oldest=True)
    assert topics(queue) == ["t/0002"]
    queue.close()


def test_a_full_disk_changes_nothing_and_is_got_over(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 300_000) as disk:
        queue = opened(disk / "q.db")
        numbers = iter(range(1000))

        def fill() -> None:
            for number in numbers:
                queue.append([row(number, 2000)], drop_oldest=True)

        with pytest.raises(OSError, match="full"):
            fill()
        stored = next(numbers) - 1
        assert stored > 10
        assert topics(queue) == [f"t/{number:04}" for number in range(stored)]
        queue.close()
        queue = opened(disk / "q.db")
        assert topics(queue) == [f"t/{number:04}" for number in range(stored)]
        queue.close()


def test_a_read_only_disk_is_an_error_and_nothing_is_lost(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        queue = opened(disk / "q.db")
        queue.append([row(1)], drop_oldest=True)
        queue.close()
        turn_read_only(disk)
        with pytest.raises(OSError, match=r"q\.db: "):
            queue.open()
        turn_read_only(disk, back=True)
        queue.open()
        assert topics(queue) == ["t/0001"]
        queue.close()


def delivery(**options: object) -> Delivery:
    document = {"clock_synced": True}
    return Delivery("lab", "t", document, **options)  # type: ignore[arg-type]  # a test's own shorthand


def test_a_delivery_comes_back_from_the_disk() -> None:
    before = delivery(qos=0, retain=True, extra_topic="extra", reply_to=ReplyTo("reply", b"id"), deadline=1e9)
    after = from_row(7, to_row(before))
    assert (after.row_id, after.replayed) == (7, True)
    assert after.payload() == b'{"clock_synced":true,"replayed":true}'
    for name in ("pipeline", "topic", "qos", "retain", "extra_topic", "reply_to", "deadline"):
        assert getattr(after, name) == getattr(before, name)


def test_a_deadline_does_not_hang_on_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = to_row(delivery(deadline=time.monotonic() + 100))
    for moment in (0.0, 1e10):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        assert not from_row(1, stored).expired()


def test_after_a_reboot_the_deadline_goes_by_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = replace(to_row(delivery(deadline=time.monotonic() + 100)), boot="an earlier one")
    assert 99 < (from_row(1, stored).deadline or 0) - time.monotonic() < 101
    monkeypatch.setattr(time, "time", lambda: 1e10)
    assert from_row(1, stored).expired()


def test_after_a_reboot_a_deadline_of_a_clock_that_was_wrong_does_not_count() -> None:
    late = Delivery("lab", "t", {"clock_synced": False}, deadline=time.monotonic() + 100)
    stored = replace(to_row(late), boot="an earlier one")
    assert from_row(1, stored).deadline is None


def test_after_a_reboot_a_deadline_that_is_too_far_away_for_mqtt_is_sent_as_the_farthest() -> None:
    stored = replace(to_row(delivery(deadline=time.monotonic() + 100)), boot="an earlier one", expires_at=285e9)
    [copy] = from_row(1, stored).copies(lambda *_: None)
    assert copy.properties().expiry == 0xFFFFFFFF
    assert copy.packet_size("device") > copy.packet_size("") > 0
