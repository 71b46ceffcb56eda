"""A serial line whose other end is a pseudo terminal."""

import contextlib
import fcntl
import json
import os
import re
import sys
import threading
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("serial", reason="needs pyserial")

from edge_agent.sources import reader
from tests.broker import wait_until
from tests.sources.contract import Readings, SpoilableReadingsContract
from tests.sources.listener import Listener


class Board:
    """A device that writes lines.

    What comes before the port is open is lost, as with any serial port. So the board begins with greetings, readings of
    zeros, until one is heard.

    Attributes:
        port: a link to where it is plugged in.
        written: number of readings after the greetings; reading n is n, 2n, 9.75.
    """

    def __init__(self, folder: Path) -> None:
        self.port = folder / "ttyBoard"
        self.written = 0
        self._ends: tuple[int, int] = (-1, -1)
        self.plug_in()

    def plug_in(self) -> None:
        self._ends = os.openpty()
        tty.setraw(self._ends[1])
        with contextlib.suppress(FileNotFoundError):
            self.port.unlink()
        self.port.symlink_to(os.ttyname(self._ends[1]))

    def unplug(self) -> None:
        """As the kernel shows it: reads fail, and the port is not there any more."""
        self.port.unlink()
        for end in self._ends:
            os.close(end)
        self._ends = (-1, -1)

    def send(self, text: str | bytes) -> None:
        os.write(self._ends[0], text.encode() if isinstance(text, str) else text)

    def listener(self, **keys: Any) -> Listener:
        source = {"type": "serial", "port": str(self.port), "format": "jsonl"} | keys
        self._listener = Listener(source, self.port.parent)
        return self._listener

    def greet(self, greeting: str) -> None:
        before = len(self._listener.readings)
        wait_until(lambda: self.send(greeting) or len(self._listener.readings) > before, 15, "a greeting is heard")  # type: ignore[func-returns-value]  # sent each time

    def write(self, count: int) -> None:
        """Writes readings."""
        if not self.written:
            self.greet('{"x": 0, "y": 0, "z": 0}\r\n')
        for _ in range(count):
            self.written += 1
            self.send(json.dumps({"x": self.written, "y": 2 * self.written, "z": 9.75}) + "\r\n")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.unplug()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board(tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "REOPEN_CEILING", 0.3)


def without_greetings(readings: list[list[float]]) -> list[list[float]]:
    return [reading for reading in readings if any(reading)]


class TestSerial(SpoilableReadingsContract):
    @pytest.fixture
    def setup(self, board: Board) -> Readings:
        return Readings(
            open=board.listener,
            origin={"port"},
            feed=board.write,
            spoil=lambda: board.send(b"\xff\xfe\x00{garbage]\n"),
        )


def test_no_reading_is_lost_and_none_is_made_up(board: Board) -> None:
    count = 3000
    with board.listener() as listener:
        board.write(1)
        threading.Thread(target=board.write, args=(count - 1,), daemon=True).start()
        listener.wait_for(lambda listener: listener.readings[-1][0] == count, "the last reading")
    expected = [[number, 2 * number, 9.75] for number in range(1, count + 1)]
    assert without_greetings(listener.readings) == expected
    assert {series.channels for series in listener.series} == {("x", "y", "z")}
    assert not any(series.gap for series in listener.series)
    assert listener.errors == []


def test_lines_of_numbers_with_commas_are_readings_too(board: Board) -> None:
    with board.listener(format="csv", channels=["x", "y"], rate=50) as listener:
        board.greet("0,0\n")
        board.send("1,2\n3,4\n")
        listener.wait_for(lambda listener: listener.readings[-1] == [3, 4], "the last reading")
    assert without_greetings(listener.readings) == [[1, 2], [3, 4]]
    assert {(series.channels, series.rate) for series in listener.series} == {(("x", "y"), 50)}


def test_a_board_that_is_unplugged_is_noticed_said_once_and_found_again(board: Board) -> None:
    with board.listener() as listener:
        board.write(3)
        board.unplug()
        listener.wait_for(lambda listener: len(listener.troubles) == 2, "that it is gone, and that it stays away")
        board.plug_in()
        board.written = 0
        board.write(3)
        gone, away = listener.troubles
    assert gone.startswith(f"serial {board.port}: can't be read any more: was it unplugged? (")
    assert away == f"serial {board.port}: can't be opened: there is no such port: is the device plugged in?"
    assert [series.gap for series in listener.series].count(True) == 1


def test_garbage_for_ever_is_told_once_and_the_port_opened_again(board: Board) -> None:
    # As it looks at the wrong speed.
    over = threading.Event()

    def garbage() -> None:
        os.set_blocking(board._ends[0], False)
        while not over.wait(0.002):
            with contextlib.suppress(BlockingIOError):
                board.send(os.urandom(200) + b"\n")

    writer = threading.Thread(target=garbage)
    with board.listener(stall_timeout=0.5) as listener:
        board.write(1)
        writer.start()
        listener.wait_for(lambda listener: listener.errors, "the garbage is told")
        listener.wait_for(lambda listener: listener.troubles, "nothing usable comes")
        assert len(listener.errors) <= 2
        over.set()
        writer.join()
    assert listener.troubles == [f"serial {board.port}: nothing usable has come for 0.5 s"]


def test_a_port_that_another_program_reads_is_not_taken_from_it(board: Board) -> None:
    with board.port.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with board.listener() as listener:
            listener.wait_for(lambda listener: listener.troubles, "it is said")
    assert listener.troubles == [f"serial {board.port}: can't be opened: it is in use by another program"]


def test_a_silent_board_is_opened_again(board: Board) -> None:
    with board.listener(stall_timeout=0.5) as listener:
        board.write(2)
        listener.wait_for(lambda listener: listener.troubles, "the silence is noticed")
        assert listener.troubles == [f"serial {board.port}: nothing usable has come for 0.5 s"]
        board.written = 0
        board.write(1)


def test_without_pyserial_the_extra_is_named(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with board.listener() as listener:
        listener.wait_for(lambda listener: listener.troubles, "it is said")
    [trouble] = listener.troubles
    assert trouble.startswith(f"serial {board.port}: reading a serial port needs a package that is not installed")
    assert re.search(r" install 'pyserial>=[0-9.]+'$", trouble)
