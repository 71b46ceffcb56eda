import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent import logs

PROJECT = Path(__file__).parents[1]


def run(program: str, **environment: str) -> list[str]:
    """What a program writes to standard error, as lines, after the log has been set up."""
    setup = f"import logging, sys; from edge_agent import logs; logs.set_up(debug={'DEBUG' in program});"
    done = subprocess.run(
        [sys.executable, "-c", setup + program],
        capture_output=True,
        check=True,
        cwd=PROJECT,
        env=environment,
        text=True,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_on_a_terminal_a_line_has_time_level_and_text() -> None:
    [info, error] = run("log = logging.getLogger('x'); log.info('a %s', 'b'); log.error('c'); log.debug('left out')")
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO    a b", info)
    assert re.fullmatch(r"\d\d:\d\d:\d\d ERROR   c", error)


def test_debug_messages_are_there_when_asked_for() -> None:
    [line] = run("logging.getLogger('x').log(logging.DEBUG, 'detail')")
    assert line.endswith("DEBUG   detail")


def test_in_the_journal_a_line_has_its_level_in_front_and_no_time() -> None:
    program = "log = logging.getLogger('x'); log.info('a'); log.warning('b'); log.error('c'); log.critical('d')"
    assert run(program, JOURNAL_STREAM="8:1") == ["<6>a", "<4>b", "<3>c", "<2>d"]


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(logs, "time", made)
    return made


def passes(storms: logging.Filter, level: int = logging.WARNING, line: int = 1, text: str = "%s: bad") -> str | None:
    """The line that gets through, if it does."""
    record = logging.LogRecord("x", level, "place.py", line, text, ("lab",), None)
    return record.getMessage() if storms.filter(record) else None


def test_a_storm_of_warnings_is_cut_to_ten_lines_and_then_counted(clock: Clock) -> None:
    storms = logs._NoStorms()
    assert [passes(storms) for _ in range(1000)] == ["lab: bad"] * 10 + [None] * 990
    clock.now += 10.1
    assert passes(storms) == "lab: bad (and 990 more such lines, left out)"
    assert [passes(storms) for _ in range(5)] == [None] * 5
    clock.now += 10.1
    assert passes(storms) == "lab: bad (and 5 more such lines, left out)"


def test_after_a_quiet_time_all_is_as_in_the_beginning(clock: Clock) -> None:
    storms = logs._NoStorms()
    for _ in range(20):
        passes(storms)
    clock.now += 10.1
    passes(storms)
    clock.now += 10.1
    assert [passes(storms) for _ in range(11)] == ["lab: bad"] * 10 + [None]


def test_one_place_does_not_silence_another(clock: Clock) -> None:
    storms = logs._NoStorms()
    for _ in range(20):
        passes(storms, line=1)
    assert passes(storms, line=2) == "lab: bad"


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_what_is_no_warning_is_never_left_out(level: int, clock: Clock) -> None:
    storms = logs._NoStorms()
    assert [passes(storms, level) for _ in range(100)] == ["lab: bad"] * 100
