"""A folder of kept samples: segments of a few megabytes, the oldest of which are deleted first.

`00000001.samples`, … are the segments. Beside each that is full stands `00000001.index`, which only saves time: it is
made again from the segment. `labels.jsonl` is the history of labels (see `labels`). Where segments are uploaded, their
names also have the id of their first sample, and one that has arrived has an empty file `.arrived` beside it.
"""

import contextlib
import fcntl
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge_agent.sample_store.segment import Appender, Entry, StoreError, Walk, check_head, read_entry, walk
from edge_agent.system import atomic_file, text

SUFFIX, INDEX_SUFFIX, ARRIVED_SUFFIX = ".samples", ".index", ".arrived"
MAX_SEGMENT, MIN_SEGMENTS = 8_000_000, 8
# Where segments are uploaded: an interruption costs at most as much.
MAX_UPLOADED = 1_000_000
MAX_INDEX = 50_000_000
_NAME = re.compile(r"[0-9]{8}(-[0-9a-f]{16})?\.samples")


class Stored(NamedTuple):
    """Where a sample is, and what it is listed by.

    Attributes:
        path: of its segment.
        at: offset of its entry.
        id: of the sample.
        captured_at: seconds since the epoch.
        pipeline: that it went through.
        reasons: why it was kept.
        labels: that the model gave it.
    """

    path: Path
    at: int
    id: str
    captured_at: float
    pipeline: str
    reasons: Sequence[str]
    labels: Sequence[str]

    def read(self) -> Entry:
        """The sample itself.

        Raises:
            StoreError: it is damaged.
            OSError: it can't be read; its segment may have been deleted in the meantime.
        """
        return read_entry(self.path, self.at)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept.

    Attributes:
        size: bytes of all segments.
        age: seconds after which a segment is deleted; None: never.
        uploads: whether segments are uploaded: those that have arrived make room first then.
    """

    size: int
    age: float | None = None
    uploads: bool = False


def segments(folder: Path) -> list[Path]:
    """The segments of a store, oldest first.

    Raises:
        OSError: the folder can't be read.
    """
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def read_store(folder: Path, found: Walk | None = None) -> Iterator[Stored]:
    """The samples of a store, oldest first; also of one that a daemon is writing to.

    Args:
        folder: of the store.
        found: counts what is damaged.

    Raises:
        StoreError: a newer version has written it.
        OSError: it can't be read.
    """
    found = found or Walk()
    for path in segments(folder):
        with contextlib.suppress(FileNotFoundError):  # deleted in the meantime: it was the oldest
            yield from _samples_of(path, found)


def newest_first(folder: Path) -> Iterator[Stored]:
    """The samples of a store, newest first, a segment at a time; see `read_store`."""
    for path in reversed(segments(folder)):
        with contextlib.suppress(FileNotFoundError):
            yield from reversed(list(_samples_of(path, Walk())))


def _samples_of(path: Path, found: Walk) -> Iterator[Stored]:
    """The samples of a segment, oldest first."""
    indexed = _read_index(path)
    if indexed is None:
        part = Walk()
        yield from (_listed(path, at, entry) for at, entry in walk(path, part))
        found.damaged += part.damaged
    else:
        check_head(path)
        yield from indexed


def read_sample(path: Path, at: int) -> tuple[Stored, Entry]:
    """The sample at an offset of a segment.

    Raises:
        StoreError: there is none, or it is damaged.
        OSError: the segment can't be read.
    """
    entry = read_entry(path, at)
    return _listed(path, at, entry), entry


def _listed(path: Path, at: int, entry: Entry) -> Stored:
    document = entry.document
    result = document.get("result")
    predictions = result.get("predictions") if isinstance(result, dict) else None
    labels = {str(one.get("label")) for one in predictions or [] if isinstance(one, dict) and one.get("label")}
    captured_at, reasons = document.get("captured_at"), document.get("reasons")
    return Stored(
        path,
        at,
        str(document.get("id")),
        float(captured_at) if isinstance(captured_at, int | float) else 0.0,
        str(document.get("pipeline")),
        [str(one) for one in reasons] if isinstance(reasons, list) else [],
        sorted(labels),
    )


def _index_of(path: Path) -> Path:
    return path.with_suffix(INDEX_SUFFIX)


def _read_index(path: Path) -> list[Stored] | None:
    """The index of a segment; None if there is none that fits it."""
    try:
        document = text.parse_json(text.read_file(_index_of(path), MAX_INDEX))
        if document["size"] != path.stat().st_size:
            return None
        return [Stored(path, *row) for row in document["samples"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None


class SampleStore:
    """Writes a store. One process at a time; not thread-safe.

    Args:
        folder: of the store; made with the first sample.
        bounds: of what is kept.

    Attributes:
        deleted: number of samples that made room, or were too old.
        unsent: number of those that had not arrived, where segments are uploaded.
        damaged: number of damaged places that were found in the segments.
        segment_size: bytes after which a segment is closed; what is added at once should not be larger.
    """

    def __init__(self, folder: Path, bounds: Bounds) -> None:
        self.folder = folder
        self.deleted = self.unsent = self.damaged = 0
        self._bounds = bounds
        self.segment_size = min(MAX_UPLOADED if bounds.uploads else MAX_SEGMENT, bounds.size // MIN_SEGMENTS)
        self._lock: int | None = None
        self._sizes: dict[Path, int] = {}
        self._counts: Counter[Path] = Counter()
        # When each segment was last added to, on a clock that never jumps; of those that were there before, by the date
        # of the file, until the clock can be trusted.
        self._added_to: dict[Path, float] = {}
        self._modified: dict[Path, float] = {}
        self._arrived: set[Path] = set()
        self._appender: Appender | None = None

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(list(self._sizes.values()))  # another thread may change it

    @property
    def samples(self) -> int:
        """Number of samples in it."""
        return sum(list(self._counts.values()))

    def open(self) -> None:
        """Finds what is there, and cuts off what a power cut has left unfinished; nothing is written otherwise.

        Raises:
            StoreError: a newer version has written it, or another process writes it.
            OSError: it can't be read.
        """
        if not self.folder.exists():
            return
        paths = segments(self.folder)
        for path in paths:
            check_head(path)  # before anything is changed
        self._take_lock()
        for number, path in enumerate(paths, 1):
            self._recover(path, is_last=number == len(paths))

    def close(self) -> None:
        """Releases the store to other processes."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def append(self, entries: Sequence[Entry], *, clock_synced: bool = True) -> None:
        """Adds samples, oldest first; when this returns, they are on the disk. Deletes what is over the bounds.

        Args:
            entries: the samples.
            clock_synced: whether the clock is right; if not, nothing is deleted for its age.

        Raises:
            StoreError: an entry is too large, or another process writes the store.
            OSError: the disk is full, read-only or failing; nothing has been added.
        """
        encoded = [entry.encoded() for entry in entries]
        needed = sum(map(len, encoded))
        if needed > self._bounds.size:
            raise StoreError(f"{needed} bytes at once: more than the store may hold, {self._bounds.size}")
        if self._lock is None:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            atomic_file.sync_folder(self.folder.parent)
            self._take_lock()
        self._make_room(needed, clock_synced=clock_synced)
        appender = self._appender or self._new_segment(entries)
        new = appender.size == 0
        appender.append(encoded)
        if new:
            atomic_file.sync_folder(self.folder)
        path = self._register(appender, entries)
        if self._sizes[path] >= self.segment_size:
            self._seal(path)

    def _register(self, appender: Appender, entries: Sequence[Entry]) -> Path:
        path = appender.path
        self._appender = appender
        self._sizes[path] = appender.size
        self._counts[path] += len(entries)
        self._added_to[path] = _uptime()
        self._modified.pop(path, None)
        return path

    def close_segment(self) -> None:
        """Ends the segment that is being written; the next sample begins another one."""
        if self._appender is not None:
            self._seal(self._appender.path)

    def closed(self) -> list[Path]:
        """The segments that nothing is added to any more and that have not arrived, oldest first; from any thread."""
        current = self._appender
        return [
            path for path in sorted(self._sizes) if path not in self._arrived and (not current or path != current.path)
        ]

    def arrived(self, path: Path) -> None:
        """Notes that a segment has arrived; from any thread.

        Raises:
            OSError: that can't be written; it will be sent again after the next start.
        """
        self._arrived.add(path)
        atomic_file.write(path.with_suffix(ARRIVED_SUFFIX), b"")
        if not path.exists():  # deleted in the meantime
            path.with_suffix(ARRIVED_SUFFIX).unlink(missing_ok=True)

    def _new_segment(self, entries: Sequence[Entry]) -> Appender:
        last = max((int(path.name.split("-")[0].split(".")[0]) for path in self._sizes), default=0)
        # A store that is begun again begins with the same numbers: what was uploaded before must not be overwritten.
        first = f"-{entries[0].document.get('id')}" if self._bounds.uploads else ""
        path = self.folder / f"{last + 1:08}{first}{SUFFIX}"
        return Appender(path if _NAME.fullmatch(path.name) else self.folder / f"{last + 1:08}{SUFFIX}")

    def _seal(self, path: Path) -> None:
        """Ends a segment and writes its index, which is of use but not needed."""
        self._appender = None
        with contextlib.suppress(OSError):
            listed = [_listed(path, at, entry)[1:] for at, entry in walk(path)]
            document = {"size": self._sizes[path], "samples": listed}
            atomic_file.write(_index_of(path), json.dumps(document, separators=(",", ":")).encode())

    def _recover(self, path: Path, *, is_last: bool) -> None:
        size = path.stat().st_size
        if not is_last and (indexed := _read_index(path)) is not None:
            count = len(indexed)
        else:
            found = Walk()
            count = sum(1 for _ in walk(path, found))
            self.damaged += found.damaged
            if is_last:
                if found.end < size and not found.damaged:
                    self.damaged += 1
                self._appender = Appender(path, found.end)
                if found.end < size:
                    with contextlib.suppress(OSError):  # a read-only disk: the next append cuts it off
                        os.truncate(path, found.end)
                size = found.end
                if size >= self.segment_size:
                    self._appender = None
        self._sizes[path], self._counts[path], self._modified[path] = size, count, path.stat().st_mtime
        if path.with_suffix(ARRIVED_SUFFIX).exists():
            self._arrived.add(path)

    def _make_room(self, needed: int, *, clock_synced: bool) -> None:
        if self._bounds.age is not None and clock_synced:
            now, clock = _uptime(), time.time()
            for path, modified in self._modified.items():  # one from the future was modified while the clock was wrong
                self._added_to[path] = now - max(0.0, clock - modified)
            self._modified.clear()
            for path in [path for path in sorted(self._sizes) if now - self._added_to[path] > self._bounds.age]:
                self._delete(path)
        for path in sorted(self._sizes, key=lambda path: (path not in self._arrived, path)):
            if self.size + needed <= self._bounds.size:
                return
            self._delete(path)

    def _delete(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        for suffix in (INDEX_SUFFIX, ARRIVED_SUFFIX):
            path.with_suffix(suffix).unlink(missing_ok=True)
        count = self._counts.pop(path, 0)
        self.deleted += count
        if self._bounds.uploads and path not in self._arrived:
            self.unsent += count
        self._arrived.discard(path)
        del self._sizes[path]
        self._added_to.pop(path, None)
        self._modified.pop(path, None)
        if self._appender is not None and self._appender.path == path:
            self._appender = None

    def prune(self, *, clock_synced: bool) -> None:
        """Deletes what is too old.

        Raises:
            OSError: the disk refuses it.
        """
        self._make_room(0, clock_synced=clock_synced)

    def _take_lock(self) -> None:
        self._lock = lock(self.folder)


def _uptime() -> float:
    """Seconds on a clock that goes on while the device sleeps, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def lock(folder: Path) -> int:
    """Reserves a folder for this process; returns a descriptor, which ends that when it is closed.

    Raises:
        StoreError: another process has it.
        OSError: there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StoreError(f"{folder}: another process writes to it: is another edge-agent running?") from None
    return descriptor
