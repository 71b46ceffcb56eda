import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.models.shipped import shipped
from edge_agent.system import logs
from tests.broker import Mosquitto
from tests.clock import Clock
from tests.daemon_process import Daemon, configuration

PROJECT = Path(__file__).parents[2]


def run(program: str, *, form: str = "text", journal: bool = False) -> list[str]:
    """What a program writes to standard error, as lines, after the log has been set up.

    Args:
        form: of the log.
        journal: whether standard error is what JOURNAL_STREAM says, as under systemd.
    """
    setup = (
        "import logging, sys; from edge_agent.system import logs;"
        f"logs.set_up(debug={'DEBUG' in program}, form={form!r}); log = logging.getLogger('x');"
    )
    readable, writable = os.pipe()
    stream = os.fstat(writable)
    device = stream.st_dev if journal else stream.st_dev + 1
    command = [sys.executable, "-c", f"{setup}\n{program}"]
    environment = {"JOURNAL_STREAM": f"{device}:{stream.st_ino}", "TZ": "UTC"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writable, check=True, cwd=PROJECT, env=environment)
    os.close(writable)
    assert done.stdout == b""
    with os.fdopen(readable, encoding="utf-8") as written:
        return written.read().splitlines()


def test_on_a_terminal_a_line_has_time_level_and_text() -> None:
    [info, error] = run("log.info('a %s', 'b'); log.error('c'); log.debug('left out')")
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO    a b", info)
    assert re.fullmatch(r"\d\d:\d\d:\d\d ERROR   c", error)


def test_debug_messages_are_there_when_asked_for() -> None:
    [line] = run("log.log(logging.DEBUG, 'detail')")
    assert line.endswith("DEBUG   detail")


def test_in_the_journal_a_line_has_its_level_in_front_and_no_time() -> None:
    program = "log.info('a'); log.warning('b'); log.error('c'); log.critical('d')"
    assert run(program, journal=True) == ["<6>a", "<4>b", "<3>c", "<2>d"]


def test_in_the_journal_every_line_of_a_traceback_has_its_level() -> None:
    lines = run("try: 1 / 0\nexcept ZeroDivisionError: log.exception('a defect')", journal=True)
    assert lines[0] == "<3>a defect"
    assert lines[-1].startswith("<3>ZeroDivisionError")
    assert all(line.startswith("<3>") for line in lines)


@pytest.mark.parametrize("journal", [False, True])
def test_a_message_with_line_ends_in_it_is_one_line_still(*, journal: bool) -> None:
    [line] = run(r"log.warning('%s: bad', 'lab\n<3>forged\x1b[31m')", journal=journal)
    assert line.endswith(r"lab\n<3>forged\x1b[31m: bad")


def test_what_is_logged_while_a_runtimes_chatter_is_left_out_is_there_at_once() -> None:
    program = (
        "import os; from edge_agent.engines.stderr_filter import without_chatter\n"
        "with without_chatter():\n"
        "    os.write(2, b'INFO: of no interest\\n'); log.warning('this model hangs'); os._exit(0)"
    )
    [line] = run(program)
    assert line.endswith("this model hangs")


def test_without_a_standard_error_nothing_is_logged_and_nothing_fails() -> None:
    program = f'{sys.executable} -c "from edge_agent.system import logs; logs.set_up(debug=False)" 2>&-'
    assert subprocess.run(program, shell=True, cwd=PROJECT, check=False).returncode == 0


def test_json_is_one_object_a_line() -> None:
    program = (
        "log.info('a %s', 'b\\nc'); log.warning('d', extra={'pipeline': 'lab'})\n"
        "try: 1 / 0\nexcept ZeroDivisionError: log.exception('e')"
    )
    info, warning, error = map(json.loads, run(program, form="json"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", info.pop("time"))
    assert info == {"level": "info", "logger": "x", "message": "a b\nc"}
    assert (warning["level"], warning["pipeline"]) == ("warning", "lab")
    assert error["exception"].endswith("ZeroDivisionError: division by zero")


def test_json_in_the_journal_has_its_level_in_front_too() -> None:
    [line] = run("log.warning('a')", form="json", journal=True)
    assert line.startswith("<4>{")
    assert json.loads(line[3:])["message"] == "a"


def test_the_daemon_writes_json_from_its_first_line_to_its_last(mosquitto: Mosquitto, tmp_path: Path) -> None:
    pipeline = {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"}
    config = configuration(
        mosquitto, "talks", models={"digits": {"path": str(shipped("digits"))}}, pipelines={"lab": pipeline}
    )
    with Daemon(tmp_path, config, arguments=("--log-format", "json")) as daemon:
        pass
    said = [json.loads(line) for line in daemon.log().splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, said))
    assert said[-1]["pipeline"] == "lab"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(logs, "time", made)
    return made


def passes(limit: logging.Filter, level: int = logging.WARNING, line: int = 1, pipeline: str = "lab") -> str | None:
    """The line that gets through, if it does."""
    record = logging.LogRecord("x", level, "place.py", line, "%s: bad", (pipeline,), None)
    record.pipeline = pipeline
    return record.getMessage() if limit.filter(record) else None


def test_a_storm_of_warnings_is_cut_to_ten_lines_and_then_counted(clock: Clock) -> None:
    limit = logs._RateLimit()
    assert [passes(limit) for _ in range(1000)] == ["lab: bad"] * 10 + [None] * 990
    clock.now += 10.1
    assert passes(limit) == "lab: bad (and 990 more such lines, left out)"
    assert [passes(limit) for _ in range(5)] == [None] * 5
    clock.now += 10.1
    assert passes(limit) == "lab: bad (and 5 more such lines, left out)"


def test_after_a_quiet_time_all_is_as_in_the_beginning(clock: Clock) -> None:
    limit = logs._RateLimit()
    for _ in range(20):
        passes(limit)
    clock.now += 10.1
    passes(limit)
    clock.now += 10.1
    assert [passes(limit) for _ in range(11)] == ["lab: bad"] * 10 + [None]


def test_one_place_does_not_silence_another(clock: Clock) -> None:
    limit = logs._RateLimit()
    for _ in range(20):
        passes(limit, line=1)
    assert passes(limit, line=2) == "lab: bad"


def test_one_pipeline_does_not_silence_another(clock: Clock) -> None:
    limit = logs._RateLimit()
    for _ in range(20):
        passes(limit)
    assert passes(limit, pipeline="porch") == "porch: bad"


def test_defects_which_bring_a_traceback_make_no_storm_either(clock: Clock) -> None:
    limit = logs._RateLimit()
    failure = (ValueError, ValueError(), None)
    record = logging.LogRecord("x", logging.ERROR, "place.py", 1, "a defect", (), failure)
    assert sum(limit.filter(record) for _ in range(100)) == 10


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_what_is_no_warning_is_never_left_out(level: int, clock: Clock) -> None:
    limit = logs._RateLimit()
    assert [passes(limit, level) for _ in range(100)] == ["lab: bad"] * 100
