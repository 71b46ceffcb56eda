"""Results on disk, in the order in which they were produced: an SQLite file, written only while the broker is away."""

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from edge_agent.system import atomic_file

# Version of the schema below. A file of another version is set aside, like a damaged one.
_VERSION = 1
_SCHEMA = """
CREATE TABLE results (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    size INTEGER NOT NULL,
    pipeline TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    qos INTEGER NOT NULL,
    retain INTEGER NOT NULL,
    extra_topic TEXT,
    reply_topic TEXT,
    correlation_data BLOB,
    deadline REAL,
    boot TEXT,
    expires_at REAL
)
"""
# Pages at which the write-ahead log is written back into the database.
_LOG_PAGES = 250
_PAGE = 4096
_ROW_OVERHEAD = 150
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR)


@dataclass(frozen=True, slots=True)
class Row:
    """One result on the disk.

    Attributes:
        deadline: on the monotonic clock of the boot that `boot` identifies; None: never expires.
        expires_at: the same, in seconds since the epoch; None: never, or the wall clock was not synchronized.
    """

    pipeline: str
    topic: str
    payload: bytes
    qos: int
    retain: bool
    extra_topic: str | None = None
    reply_topic: str | None = None
    correlation_data: bytes | None = None
    deadline: float | None = None
    boot: str | None = None
    expires_at: float | None = None

    @property
    def size(self) -> int:
        """Bytes on disk: a row that does not fit into a page takes whole overflow pages."""
        size = len(self.payload) + len(self.topic) + len(self.correlation_data or b"") + _ROW_OVERHEAD
        return size if size < _PAGE else -(-size // _PAGE) * _PAGE


_COLUMNS = ", ".join(field.name for field in fields(Row))
_INSERT = f"INSERT INTO results (size, {_COLUMNS}) VALUES (?{', ?' * len(fields(Row))})"  # noqa: S608 - constants
_SELECT = f"SELECT id, {_COLUMNS} FROM results WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 - constants


class DamagedError(OSError):
    """The file could not be used and has been set aside.

    Attributes:
        lost: results of each pipeline that were known to be in it.
    """

    def __init__(self, message: str, lost: Counter[str]) -> None:
        super().__init__(message)
        self.lost = lost


class DiskQueue:
    """A bounded queue in a file that survives SIGKILL and power loss. The file exists only while something is in it.

    Not thread-safe. No other process can use the file at the same time.

    Args:
        path: the database file.
        max_size: bound on the results in it, bytes on disk; without the write-ahead log, of 1 MB and one batch.
    """

    def __init__(self, path: Path, max_size: int) -> None:
        self.path = path
        self._max_size = max_size
        self._db: sqlite3.Connection | None = None
        self._size = 0
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._counts.total()

    @property
    def size(self) -> int:
        """Bytes on disk of the results in it."""
        return self._size

    @property
    def exists(self) -> bool:
        """Whether there is a file, opened or not."""
        return self._db is not None or self.path.exists()

    def open(self) -> Counter[str]:
        """Opens the file, or creates it; returns how many results of each pipeline it has.

        Raises:
            DamagedError: the file has been set aside; the next call creates a new one.
            OSError: the disk is full, read-only or failing, or another process has the file open.
        """
        if self._db is not None:
            return Counter()
        with self._sqlite_errors():
            new = not self.path.exists()
            if new:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._unlink()  # SQLite would apply a log that was left behind to the new file
            self._db = db = sqlite3.connect(self.path, check_same_thread=False, timeout=1.0)
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                db.executescript(f"BEGIN; {_SCHEMA}; PRAGMA user_version = {_VERSION}; COMMIT")
            if new:
                atomic_file.sync_folder(self.path.parent)
            if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                raise sqlite3.DatabaseError("it is of another version of edge-agent")
            if (flaw := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(flaw)
            counted = db.execute("SELECT pipeline, count(*), sum(size) FROM results GROUP BY pipeline").fetchall()
            self._counts = Counter({pipeline: count for pipeline, count, _ in counted})
            self._size = sum(size for _, _, size in counted)
        return self._counts.copy()

    def append(self, rows: Sequence[Row], *, drop_oldest: bool, keep: Collection[int] = ()) -> tuple[int, Counter[str]]:
        """Adds rows; they are flushed to the disk when this returns.

        Args:
            rows: oldest first.
            drop_oldest: which rows are dropped when there is no room: the oldest on the disk, or the last of `rows`.
            keep: ids of rows that are not dropped.

        Returns:
            How many of `rows` were added, from the first, and how many rows on the disk were dropped, by pipeline.

        Raises:
            OSError: as for `open`; nothing has been added.
        """
        with self._sqlite_errors():
            db = self._opened()
            with db:
                added, counts, size = 0, self._counts.copy(), self._size
                for row in rows:
                    while size + row.size > self._max_size and drop_oldest and row.size <= self._max_size:
                        if (oldest := _pop(db, keep)) is None:
                            break
                        counts[oldest[0]] -= 1
                        size -= oldest[1]
                    if size + row.size > self._max_size:
                        break
                    db.execute(_INSERT, (row.size, *astuple(row)))
                    counts[row.pipeline] += 1
                    size += row.size
                    added += 1
            dropped = self._counts + Counter(row.pipeline for row in rows[:added]) - counts
            self._counts, self._size = +counts, size
        return added, dropped

    def after(self, row_id: int, limit: int) -> list[tuple[int, Row]]:
        """The oldest rows with a larger id than `row_id`, at most `limit`, oldest first.

        Raises:
            OSError: as for `open`.
        """
        if self._db is None:
            return []
        with self._sqlite_errors():
            found = self._db.execute(_SELECT, (row_id, limit)).fetchall()
        return [(row_id, Row(*values)) for row_id, *values in found]

    def remove(self, ids: Collection[int]) -> None:
        """Deletes rows; when none is left, the file is removed.

        Raises:
            OSError: as for `open`; the rows are still there.
        """
        if self._db is None:
            return
        with self._sqlite_errors():
            if len(ids) == len(self):  # removing the file works on a full disk as well
                self.close()
                self._unlink()
                return
            with self._db as db:
                query = "DELETE FROM results WHERE id = ? RETURNING pipeline, size"
                gone = [row for row_id in ids for row in db.execute(query, (row_id,)).fetchall()]
            self._counts -= Counter(pipeline for pipeline, _ in gone)
            self._size -= sum(size for _, size in gone)

    def close(self) -> None:
        """Closes the file."""
        if self._db is not None:
            self._db.close()
            self._db = None
        self._size = 0
        self._counts = Counter()

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            raise OSError(f"{self.path}: is not open")
        return self._db

    @contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        """Turns SQLite's errors into ours, and sets a damaged file aside."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            if code in _DAMAGED:
                raise self._set_aside(error) from error
            if not self._counts:
                self.close()
            hint = ": is another edge-agent running with it?" if code == sqlite3.SQLITE_BUSY else ""
            raise OSError(f"{self.path}: {error}{hint}") from error

    def _set_aside(self, error: sqlite3.Error) -> DamagedError:
        lost = self._counts
        self.close()
        aside = self.path.with_name(f"{self.path.name}.damaged")
        for path, target in zip(self._files(self.path), self._files(aside), strict=True):
            target.unlink(missing_ok=True)
            if path.exists():
                path.rename(target)
        why = " ".join(str(error).split())
        return DamagedError(f"{self.path}: can't be used ({why}): set aside as {aside}, a new one is begun", lost)

    def _unlink(self) -> None:
        # The database last: without its log it is valid, in an earlier state; a log without its database is of no use.
        for path in reversed(self._files(self.path)):
            path.unlink(missing_ok=True)

    @staticmethod
    def _files(path: Path) -> list[Path]:
        return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]


def _pop(db: sqlite3.Connection, keep: Collection[int]) -> tuple[str, int] | None:
    """Deletes the oldest row that is not in `keep`; returns its pipeline and size."""
    kept = ", ".join(str(int(row_id)) for row_id in keep)
    query = (
        f"DELETE FROM results WHERE id = (SELECT min(id) FROM results WHERE id NOT IN ({kept}))"  # noqa: S608 - numbers
        " RETURNING pipeline, size"
    )
    rows = db.execute(query).fetchall()
    return rows[0] if rows else None
