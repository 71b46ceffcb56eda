"""The folder of recordings: bounded, and nothing half written in it that is not known as such."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.keeping.recording import NAME, PART_SUFFIX, SUFFIX, recordings
from edge_agent.sample_store.segment import Appender, Walk, walk
from edge_agent.sample_store.store import lock
from edge_agent.system import atomic_file


class RecordingFile:
    """A recording that is being written, under a name of its own until it is finished.

    Args:
        folder: of the recordings.
        name: that it gets.
    """

    def __init__(self, folder: "RecordingFolder", name: str) -> None:
        self.path = folder.path / f"{name}{SUFFIX}"
        self._folder = folder
        self._appender = Appender(folder.path / f"{name}{PART_SUFFIX}")
        self._gathered: list[bytes] = []
        self.gathered = 0

    @property
    def size(self) -> int:
        """Bytes of it, written or not."""
        return self._appender.size + self.gathered

    def gather(self, entries: Iterable[bytes]) -> None:
        """Takes encoded entries."""
        for entry in entries:
            self._gathered.append(entry)
            self.gathered += len(entry)

    def flush(self) -> None:
        """Writes what is gathered.

        Raises:
            StoreError: another process writes to the folder.
            OSError: the disk refuses it; what has been written is removed.
        """
        self._folder.make_room(self.size)
        try:
            self._appender.append(self._gathered)
        except OSError:
            self._appender.path.unlink(missing_ok=True)
            raise
        self._gathered.clear()
        self.gathered = 0

    def finish(self) -> None:
        """Writes what is gathered, and gives the file its name.

        Raises:
            StoreError, OSError: see `flush`.
        """
        self.flush()
        self._appender.path.rename(self.path)
        atomic_file.sync_folder(self.path.parent)
        self._folder.add(self.path, self._appender.size)


class RecordingFolder:
    """The recordings of one pipeline. One process at a time.

    Args:
        path: of the folder; made with the first recording.
        max_size: bound on all of them, in bytes; the oldest are deleted first.

    Attributes:
        deleted: number of recordings that made room.
    """

    def __init__(self, path: Path, max_size: int) -> None:
        self.path = path
        self.deleted = 0
        self._max_size = max_size
        self._sizes: dict[Path, int] = {}
        self._lock: int | None = None

    @property
    def count(self) -> int:
        """Number of finished recordings."""
        return len(self._sizes)

    @property
    def size(self) -> int:
        """Bytes of them."""
        return sum(list(self._sizes.values()))  # another thread may change it

    def open(self) -> int:
        """Finds what is there. A recording that was cut off is finished as far as it goes; returns how many there were.

        Raises:
            StoreError: another process writes to the folder.
            OSError: it can't be read or written.
        """
        if not self.path.exists():
            return 0
        self._lock = lock(self.path)
        recovered = sum(map(self._recover, sorted(self.path.glob(f"*{PART_SUFFIX}"))))
        self._sizes = {path: path.stat().st_size for path in recordings(self.path)}
        return recovered

    def close(self) -> None:
        """Releases the folder to other processes."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def new(self, reason: str) -> RecordingFile:
        """A recording that is yet to be written."""
        numbers = [int(found[1]) for path in self._sizes if (found := NAME.fullmatch(path.name))]
        at = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        return RecordingFile(self, f"{max(numbers, default=0) + 1:08}-{at}-{reason}")

    def make_room(self, needed: int) -> None:
        """Deletes the oldest recordings until this many bytes fit; makes the folder if there is none."""
        if self._lock is None:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = lock(self.path)
        for path in sorted(self._sizes):
            if self.size + needed <= self._max_size:
                return
            path.unlink(missing_ok=True)
            del self._sizes[path]
            self.deleted += 1

    def add(self, path: Path, size: int) -> None:
        """Counts a finished recording."""
        self._sizes[path] = size

    def _recover(self, part: Path) -> bool:
        found = Walk()
        inputs = sum("captured" in entry.document for _, entry in walk(part, found))
        if not inputs:
            part.unlink()
            return False
        os.truncate(part, found.end)
        part.rename(part.with_name(part.name.removesuffix(PART_SUFFIX) + SUFFIX))
        return True
