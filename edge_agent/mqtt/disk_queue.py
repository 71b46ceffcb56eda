"""Results on disk, in the order in which they were produced. SQLite; written only while results can't be delivered."""

import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE results (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    qos INTEGER NOT NULL,
    retain INTEGER NOT NULL,
    expires_at REAL,
    reply_topic TEXT,
    correlation_data BLOB
)
"""
_COLUMNS = "pipeline, topic, payload, qos, retain, expires_at, reply_topic, correlation_data"


@dataclass(frozen=True, slots=True)
class Row:
    """A result as it waits.

    Attributes:
        expires_at: seconds since the epoch; None: never.
    """

    pipeline: str
    topic: str
    payload: bytes
    qos: int
    retain: bool
    expires_at: float | None
    reply_topic: str | None
    correlation_data: bytes | None


class DiskQueue:
    """A bounded queue in a file that survives SIGKILL and power loss.

    The file exists only while there is something in it. Not thread-safe.

    Args:
        path: the database file.
        max_size: bound on the payloads in it, bytes.
    """

    def __init__(self, path: Path, max_size: int) -> None:
        self._path = path
        self._max_size = max_size
        self._db: sqlite3.Connection | None = None
        self._size = 0
        self._count = 0
        if path.exists():
            self._open()

    def __len__(self) -> int:
        return self._count

    def counts(self) -> Counter[str]:
        """How many results of each pipeline wait."""
        if self._db is None:
            return Counter()
        return Counter(dict(self._db.execute("SELECT pipeline, count(*) FROM results GROUP BY pipeline")))

    def append(self, rows: Sequence[Row], *, drop_oldest: bool) -> tuple[int, Counter[str]]:
        """Adds rows; they are on the disk, not only on their way, when this returns.

        Args:
            rows: oldest first.
            drop_oldest: what gives way when there is no room: the oldest in the queue, or else the last of `rows`.

        Returns:
            How many of `rows` were added (the first so many), and how many others, by pipeline, gave way.

        Raises:
            OSError: the disk is full, read-only or failing; nothing has changed.
        """
        dropped: Counter[str] = Counter()
        if not rows:
            return 0, dropped
        try:
            db = self._db or self._open()
            with db:
                kept, size = 0, self._size
                for row in rows:
                    size += len(row.payload)
                    if drop_oldest and len(row.payload) <= self._max_size:
                        while size > self._max_size and (oldest := self._pop(db)) is not None:
                            dropped[oldest[0]] += 1
                            size -= oldest[1]
                    if size > self._max_size:
                        size -= len(row.payload)
                        break
                    db.execute(f"INSERT INTO results ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", astuple(row))  # noqa: S608 - a constant
                    kept += 1
        except sqlite3.Error as error:
            raise OSError(f"{self._path}: {error}") from error
        self._size = size
        self._count += kept - dropped.total()
        return kept, dropped

    @staticmethod
    def _pop(db: sqlite3.Connection) -> tuple[str, int] | None:
        """Takes the oldest row out; returns its pipeline and size."""
        query = "DELETE FROM results WHERE id = (SELECT min(id) FROM results) RETURNING pipeline, length(payload)"
        found: tuple[str, int] | None = db.execute(query).fetchone()
        return found

    def after(self, row_id: int, limit: int) -> list[tuple[int, Row]]:
        """The oldest rows with a larger id than `row_id`, at most `limit`, oldest first."""
        if self._db is None:
            return []
        found = self._db.execute(
            f"SELECT id, {_COLUMNS} FROM results WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608 - a constant
            (row_id, limit),
        )
        return [(number, Row(*values[:4], bool(values[4]), *values[5:])) for number, *values in found]

    def remove(self, ids: Iterable[int]) -> None:
        """Takes rows out; when none is left, the file is removed.

        Raises:
            OSError: the disk is failing; the rows may come again after a restart.
        """
        if self._db is None:
            return
        try:
            with self._db:
                for row_id in ids:
                    row = self._db.execute("DELETE FROM results WHERE id = ? RETURNING length(payload)", (row_id,))
                    if (size := row.fetchone()) is not None:
                        self._size -= size[0]
                        self._count -= 1
        except sqlite3.Error as error:
            raise OSError(f"{self._path}: {error}") from error
        if self._count == 0:
            self.close()
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the file."""
        if self._db is not None:
            self._db.close()
            self._db = None
        self._size = self._count = 0

    def _open(self) -> sqlite3.Connection:
        new = not self._path.exists()
        if new:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, check_same_thread=False, timeout=1.0)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            if new:
                db.execute(_SCHEMA)
                db.commit()
                _sync_folder(self._path.parent)
            elif db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("it is damaged")
            count, size = db.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM results").fetchone()
        except sqlite3.DatabaseError as error:
            db.close()
            if isinstance(error, sqlite3.OperationalError) and "no such table" not in str(error):
                raise  # the disk is full or read-only: the file itself may be sound
            self._set_aside(error)
            return self._open()
        self._db, self._count, self._size = db, count, size
        return db

    def _set_aside(self, error: sqlite3.Error) -> None:
        aside = self._path.with_name(f"{self._path.name}.damaged-{time.time():.0f}")
        log.error("%s: the outbox can't be used (%s): set aside as %s, a new one is begun", self._path, error, aside)
        self._path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
