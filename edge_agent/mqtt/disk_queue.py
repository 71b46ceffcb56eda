"""Results on disk, in the order in which they were produced: an SQLite file, written only while the broker is away."""

import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from edge_agent.system import atomic_file
from edge_agent.system.set_aside import set_aside, why_unusable

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
_DAMAGED = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
)
# Ids that SQLite gives begin at 1, and never come near the largest number, after which no row can be added.
_MAX_ID = 1 << 62
# Files beside the database that belong to it.
_SUFFIXES = ("-wal", "-shm")


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

    @property
    def is_sound(self) -> bool:
        """Whether all values are of their types: SQLite's columns take any."""
        texts = (self.pipeline, self.topic, self.extra_topic or "", self.reply_topic or "", self.boot or "")
        numbers = (self.qos, self.deadline or 0.0, self.expires_at or 0.0)
        return (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(number, int | float) for number in numbers)
            and isinstance(self.payload, bytes)
            and isinstance(self.correlation_data or b"", bytes)
        )


_COLUMNS = ", ".join(field.name for field in fields(Row))
_INSERT = f"INSERT INTO results (size, {_COLUMNS}) VALUES (?{', ?' * len(fields(Row))})"  # noqa: S608 - constants
_SELECT = f"SELECT id, {_COLUMNS} FROM results WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 - constants


class DamagedError(OSError):
    """The file can't be used. It has been set aside, unless the disk does not allow that.

    Attributes:
        lost: results of each pipeline that were known to be in it.
        found_now: whether these have not been returned by `open` before.
        still_there: whether it could not be set aside.
    """

    def __init__(self, message: str, lost: Counter[str], *, found_now: bool, still_there: bool) -> None:
        super().__init__(message)
        self.lost = lost
        self.found_now = found_now
        self.still_there = still_there


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

    def __bool__(self) -> bool:
        return bool(self._counts)

    @property
    def size(self) -> int:
        """Bytes on disk of the results in it."""
        return self._size

    @property
    def exists(self) -> bool:
        """Whether there is a file, opened or not."""
        return self._db is not None or os.path.lexists(self.path)

    def open(self) -> Counter[str]:
        """Opens the file, or creates it; returns how many results of each pipeline it has.

        Raises:
            DamagedError: what is in the file's place has been set aside; the next call creates a new one.
            OSError: the disk is full, read-only or failing, or another process has the file open.
        """
        if self._db is not None:
            return Counter()
        with self._sqlite_errors():
            for path in self._files():
                if why := why_unusable(path):
                    raise sqlite3.DatabaseError(f"{path.name}: {why}" if path != self.path else why)
            self._db = self._connect()
            _check(self._db)
            counted = _counted(self._db)
            self._counts = Counter({pipeline: count for pipeline, count, _ in counted})
            self._size = sum(size for _, _, size in counted)
        return self._counts.copy()

    def _connect(self) -> sqlite3.Connection:
        new = not self.path.exists()
        size = 0 if new else self.path.stat().st_size
        if new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._unlink()  # SQLite would apply a log that was left behind to the new file
        self._db = db = sqlite3.connect(self.path, check_same_thread=False, timeout=1.0)
        if size % db.execute("PRAGMA page_size").fetchone()[0]:
            raise sqlite3.DatabaseError("it is cut off")  # SQLite would take the rest for zeros
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            db.executescript(f"BEGIN; {_SCHEMA}; PRAGMA user_version = {_VERSION}; COMMIT")
        if new:
            atomic_file.sync_folder(self.path.parent)
        return db

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
            if not self.path.exists():
                raise sqlite3.DatabaseError("it has been removed while it was in use")
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
            rows = [(row_id, Row(*values)) for row_id, *values in found]
            if not all(row.is_sound for _, row in rows):
                raise sqlite3.DatabaseError("a row in it is no result")
        return rows

    def remove(self, ids: Collection[int]) -> None:
        """Deletes rows; when none is left, the file is removed.

        Raises:
            OSError: as for `open`; the rows are still there.
        """
        if self._db is None:
            return
        with self._sqlite_errors():
            if len(ids) == len(self):  # removing the file works on a full disk as well
                self._unlink()
                self.close()
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
        lost = self._counts or self._counts_in_damaged_file()
        found_now = not self._counts
        self.close()
        why = " ".join(str(error).split())
        try:
            aside = set_aside(self.path, _SUFFIXES)
        except OSError as trouble:
            message = f"{self.path}: can't be used ({why}), nor moved out of the way ({trouble.strerror})"
            return DamagedError(message, lost, found_now=found_now, still_there=True)
        message = f"{self.path}: can't be used ({why}): set aside as {aside}, a new one is begun"
        return DamagedError(message, lost, found_now=found_now, still_there=False)

    def _counts_in_damaged_file(self) -> Counter[str]:
        """What can still be counted in a file that is damaged elsewhere."""
        try:
            return Counter() if self._db is None else Counter({name: count for name, count, _ in _counted(self._db)})
        except sqlite3.Error:
            return Counter()

    def _unlink(self) -> None:
        # The database last: without its log it is valid, in an earlier state; a log without its database is of no use.
        for path in reversed(self._files()):
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [self.path, *(self.path.with_name(f"{self.path.name}{suffix}") for suffix in _SUFFIXES)]


def _check(db: sqlite3.Connection) -> None:
    """Raises DatabaseError if the database is damaged, or is not one that this version has made."""
    if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        raise sqlite3.DatabaseError("it is of another version of edge-agent")
    if (flaw := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(flaw)
    db.execute(_SELECT, (0, 0))  # fails if a column is missing
    query = "SELECT min(id), max(id), (SELECT max(seq) FROM sqlite_sequence) FROM results"
    first, last, given = db.execute(query).fetchone()
    if first is not None and not 0 < first <= last <= (given or 0) < _MAX_ID:
        raise sqlite3.DatabaseError("its rows have numbers that it can't have given")


def _counted(db: sqlite3.Connection) -> list[tuple[str, int, int]]:
    """The results of each pipeline: its name, how many there are, and their size."""
    rows = db.execute("SELECT pipeline, count(*), sum(size) FROM results GROUP BY pipeline").fetchall()
    if not all(isinstance(name, str) and isinstance(size, int) for name, _, size in rows):
        raise sqlite3.DatabaseError("a row in it is no result")
    return rows


def _pop(db: sqlite3.Connection, keep: Collection[int]) -> tuple[str, int] | None:
    """Deletes the oldest row that is not in `keep`; returns its pipeline and size."""
    kept = ", ".join(str(int(row_id)) for row_id in keep)
    query = (
        f"DELETE FROM results WHERE id = (SELECT min(id) FROM results WHERE id NOT IN ({kept}))"  # noqa: S608 - numbers
        " RETURNING pipeline, size"
    )
    rows = db.execute(query).fetchall()
    return rows[0] if rows else None
