"""Results on disk, in the order in which they were produced. SQLite; written only while results can't be delivered."""

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from edge_agent.system import atomic_file

# Of the layout below. A file of another version is set aside, like a damaged one.
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
# The write-ahead log is emptied into the database when it has so many pages.
_LOG_PAGES = 250
_PAGE = 4096
_ROW_OVERHEAD = 150
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR)


@dataclass(frozen=True, slots=True)
class Row:
    """A result as it waits.

    Attributes:
        deadline: on the monotonic clock of the boot of this machine that `boot` names; None: none.
        expires_at: the same, seconds since the epoch; None: none, or not known.
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
        """Bytes on disk: what does not fit into a part of a page takes whole pages of its own."""
        size = len(self.payload) + len(self.topic) + len(self.correlation_data or b"") + _ROW_OVERHEAD
        return size if size < _PAGE else -(-size // _PAGE) * _PAGE


_COLUMNS = ", ".join(field.name for field in fields(Row))
_INSERT = f"INSERT INTO results (size, {_COLUMNS}) VALUES (?{', ?' * len(fields(Row))})"  # noqa: S608 - constants
_SELECT = f"SELECT id, {_COLUMNS} FROM results WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 - constants


class DamagedError(OSError):
    """The file could not be used and has been set aside.

    Attributes:
        lost: how many results of each pipeline were known to be in it.
    """

    def __init__(self, message: str, lost: Counter[str]) -> None:
        super().__init__(message)
        self.lost = lost


class DiskQueue:
    """A bounded queue in a file that survives SIGKILL and power loss. The file exists only while something is in it.

    Not thread-safe. No other process can use the file at the same time.

    Args:
        path: the database file.
        max_size: bound on the results in it, bytes on disk. On top come a megabyte and one batch of write-ahead log.
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
        """Whether there is something on the disk, opened or not."""
        return self._db is not None or self.path.exists()

    def open(self) -> Counter[str]:
        """Opens the file, making it if there is none; returns how many results of each pipeline were found.

        Raises:
            DamagedError: what was there has been set aside; the next call begins a new file.
            OSError: the disk is full, read-only or failing, or another process has the file open.
        """
        if self._db is not None:
            return Counter()
        with self._explained():
            new = not self.path.exists()
            if new:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._unlink()  # a log that was left behind would be taken for the new file's
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
        """Adds rows; they are on the disk, not only on their way, when this returns.

        Args:
            rows: oldest first.
            drop_oldest: what gives way when there is no room: the oldest in the queue, or else the last of `rows`.
            keep: ids of rows that do not give way.

        Returns:
            How many of `rows` were added (the first so many), and how many others, by pipeline, gave way.

        Raises:
            OSError: as for `open`; nothing has been added.
        """
        with self._explained():
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
            gave_way = self._counts + Counter(row.pipeline for row in rows[:added]) - counts
            self._counts, self._size = +counts, size
        return added, gave_way

    def after(self, row_id: int, limit: int) -> list[tuple[int, Row]]:
        """The oldest rows with a larger id than `row_id`, at most `limit`, oldest first.

        Raises:
            OSError: as for `open`.
        """
        if self._db is None:
            return []
        with self._explained():
            found = self._db.execute(_SELECT, (row_id, limit)).fetchall()
        return [(row_id, Row(*values)) for row_id, *values in found]

    def remove(self, ids: Collection[int]) -> None:
        """Takes rows out; when none is left, the file is removed.

        Raises:
            OSError: as for `open`; the rows are still there.
        """
        if self._db is None:
            return
        with self._explained():
            if len(ids) == len(self):  # nothing need be written for that, which a full disk would not allow
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
    def _explained(self) -> Iterator[None]:
        """Turns SQLite's errors into ours, and sets a file aside that can't be used any more."""
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
        # The database last: without its log it is what it was a while ago, the log without it is of no use.
        for path in reversed(self._files(self.path)):
            path.unlink(missing_ok=True)

    @staticmethod
    def _files(path: Path) -> list[Path]:
        return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]


def _pop(db: sqlite3.Connection, keep: Collection[int]) -> tuple[str, int] | None:
    """Takes the oldest row out that need not be kept; returns its pipeline and size."""
    spared = ", ".join(str(int(row_id)) for row_id in keep)
    query = (
        f"DELETE FROM results WHERE id = (SELECT min(id) FROM results WHERE id NOT IN ({spared}))"  # noqa: S608 - numbers
        " RETURNING pipeline, size"
    )
    rows = db.execute(query).fetchall()
    return rows[0] if rows else None
