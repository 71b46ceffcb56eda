"""What may be found in the place of an outbox: each function changes the file of one with results in it."""

import contextlib
import os
import random
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path


def sql(*statements: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            for statement in ("PRAGMA writable_schema = ON", *statements):
                db.execute(statement)

    return damage


def _overwrite(start: int, length: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(start)
            file.write(random.Random(start).randbytes(length))

    return damage


def _instead(make: Callable[[Path], object], suffix: str = "") -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        place = path.with_name(path.name + suffix)
        place.unlink(missing_ok=True)
        make(place)

    return damage


def _full_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a folder": _instead(Path.mkdir),
    "a folder with something in it": _instead(_full_folder),
    "a pipe": _instead(os.mkfifo),
    "a socket": _instead(_socket),
    "a link to a device": _instead(lambda path: path.symlink_to("/dev/zero")),
    "a link to a folder": _instead(lambda path: path.symlink_to(path.parent)),
    "text": _instead(lambda path: path.write_text("not a database" * 1000)),
    "one byte": _instead(lambda path: path.write_bytes(b"\0")),
    "random bytes": _instead(lambda path: path.write_bytes(random.Random(1).randbytes(50_000))),
    "a header without the rest": lambda path: os.truncate(path, 100),
    "a damaged header": _overwrite(0, 100),
    "damaged pages": _overwrite(4096, 8192),
    "another database": _instead(sql("CREATE TABLE notes (text)")),
    "a newer version": sql("PRAGMA user_version = 99"),
    "a missing column": sql("ALTER TABLE results DROP COLUMN topic"),
    "a missing table": sql("DROP TABLE results"),
    "a folder in the place of its log": _instead(Path.mkdir, "-wal"),
    "a folder in the place of its index": _instead(Path.mkdir, "-shm"),
    "a row without a number": sql("UPDATE results SET id = -1 WHERE id = 7"),
    "no numbers left": sql("UPDATE sqlite_sequence SET seq = 9223372036854775807"),
    "a size that is text": sql("UPDATE results SET size = 'x' WHERE id = 7"),
    "a name that is bytes": sql("UPDATE results SET pipeline = x'ff' WHERE id = 7"),
}
