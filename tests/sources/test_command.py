"""Programs as sources; the programs are short Python scripts, or Debian's own."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent.errors import SourceError
from edge_agent.models.model import Model
from edge_agent.sources import child, reader
from tests.broker import wait_until
from tests.processes import alive
from tests.sources.contract import (
    FiniteContract,
    LiveContract,
    Readings,
    ReadingsContract,
    Setup,
    SpoilableContract,
)
from tests.sources.listener import Listener
from tests.sources.stage import Stage

# Writes every number from 1 on as a reading, and notes its process id first.
COUNTING = """
import itertools, pathlib, os, sys, time
pathlib.Path("pid").write_text(str(os.getpid()))
for number in itertools.count(1):
    print('{"n": %d}' % number, flush=True)
    time.sleep(0.002)
"""


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "REOPEN_CEILING", 0.2)


def python(script: str, *arguments: str) -> list[str]:
    # -S, -E, -I: starts in a third of the time.
    return [sys.executable, "-I", "-S", "-c", script, *arguments]


def command(folder: Path, argv: list[str], stream_format: str = "jsonl", **keys: Any) -> Listener:
    return Listener({"type": "command", "argv": argv, "format": stream_format} | keys, folder)


def pictures(folder: Path, count: int) -> list[Path]:
    files = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
        encoded, jpeg = cv2.imencode(".jpg", pixels)
        assert encoded
        files.append(folder / f"{number:03}.jpg")
        files[-1].write_bytes(jpeg.tobytes())
    return files


class TestPictures(LiveContract):
    """A camera program that never ends."""

    @pytest.fixture
    def setup(self, tmp_path: Path, digits: Model) -> Setup:
        pictures(tmp_path, 10)
        films = """
import itertools, pathlib, sys, time
files = [path.read_bytes() for path in sorted(pathlib.Path().glob("*.jpg"))]
for jpeg in itertools.cycle(files):
    sys.stdout.buffer.write(jpeg)
    sys.stdout.flush()
    time.sleep(0.005)
"""
        source = {"type": "command", "argv": python(films), "format": "mjpeg"}
        return Setup(open=lambda: Stage(source, digits, tmp_path), origin={"command", "frame"})


class TestProgramWithAnEnd(FiniteContract, SpoilableContract):
    """A program that converts files."""

    @pytest.fixture
    def setup(self, tmp_path: Path, digits: Model) -> Setup:
        files = pictures(tmp_path, 30)
        source = {"type": "command", "argv": ["cat", *map(str, files)], "format": "mjpeg", "restart": "never"}

        def spoil() -> None:
            damaged = bytearray(files[3].read_bytes())
            half = len(damaged) // 2
            files[3].write_bytes(damaged[:half] + files[3].read_bytes())

        return Setup(open=lambda: Stage(source, digits, tmp_path), origin={"command"}, spoil=spoil, total=len(files))


class TestReadings(ReadingsContract):
    """A program that prints what a sensor says."""

    @pytest.fixture
    def setup(self, tmp_path: Path) -> Readings:
        return Readings(open=lambda: command(tmp_path, python(COUNTING)), origin={"command"})


class TestSound(ReadingsContract):
    """A program that records."""

    @pytest.fixture
    def setup(self, tmp_path: Path) -> Readings:
        argv = ["cat", "/dev/urandom"]
        return Readings(open=lambda: command(tmp_path, argv, "pcm", rate=16000, channels=2), origin={"command"})


def pid_in(file: Path) -> int:
    return int(wait_until(lambda: file.exists() and file.read_text(), 15, f"{file.name} says which process it is"))


def test_every_line_of_a_program_that_ends_is_a_reading(tmp_path: Path) -> None:
    with command(tmp_path, ["seq", "20000"], restart="never", rate=100) as listener:
        listener.wait_until_ended()
    assert listener.readings == [[number] for number in range(1, 20001)]
    assert {series.rate for series in listener.series} == {100}
    assert listener.troubles == []


def test_sound_is_taken_sample_by_sample(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(-(2**15), 2**15, 100_001, np.int16)
    (tmp_path / "sound").write_bytes(samples.astype("<i2").tobytes())
    with command(tmp_path, ["cat", "sound"], "pcm", restart="never", rate=8000) as listener:
        listener.wait_until_ended()
    assert np.array_equal(listener.values[:, 0] * 2**15, samples)


def test_raw_video_is_taken_frame_by_frame(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 255, (7, 48, 64, 3), np.uint8)
    (tmp_path / "video").write_bytes(frames.tobytes())
    keys = {"width": 64, "height": 48, "pixel_format": "bgr24", "restart": "never"}
    with command(tmp_path, ["cat", "video"], "raw", **keys) as listener:
        listener.wait_until_ended()
    assert np.array_equal(listener.pictures, frames)
    assert [sample.origin["frame"] for sample in listener.samples] == [1, 2, 3, 4, 5, 6, 7]


def test_arguments_reach_the_program_as_they_are_and_no_shell_reads_them(tmp_path: Path) -> None:
    tricky = ["$HOME", "; touch owned", "`touch owned`", "a b", "*", "'", ""]
    script = "import json, sys; print(json.dumps([len(word) for word in sys.argv[1:]]))"
    with command(tmp_path, python(script, *tricky), restart="never") as listener:
        listener.wait_until_ended()
    assert listener.readings == [[len(word) for word in tricky]]
    assert not (tmp_path / "owned").exists()


def test_a_program_sees_no_secret_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "hidden")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    script = "import os; print(int('MQTT_PASSWORD' in os.environ)); print(int('LC_ALL' in os.environ))"
    with command(tmp_path, python(script), restart="never") as listener:
        listener.wait_until_ended()
    assert listener.readings == [[0], [1]]


def test_a_program_that_ends_is_started_again_said_once_and_leaves_a_gap(tmp_path: Path) -> None:
    with command(tmp_path, ["sh", "-c", "echo 1; echo 2"]) as listener:
        listener.wait_for_readings(6)
    assert set(listener.troubles) == {"shed: command sh: ended with exit code 0"}
    assert listener.readings[:4] == [[1], [2], [1], [2]]
    firsts = [series for series in listener.series if series.values[0] == 1]
    assert [series.gap for series in firsts] == [False] + [True] * (len(firsts) - 1)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["sh", "-c", "exit 3"], "ended with exit code 3"),
        (["sh", "-c", "kill -9 $$"], "was ended by SIGKILL"),
        (["no-such-program"], "there is no program no-such-program: install it, or give its path"),
        (["./not-executable"], "can't be started: Permission denied"),
    ],
)
@pytest.mark.parametrize("restart", ["always", "never"])
def test_a_program_that_dies_at_once_is_said_once(tmp_path: Path, argv: list[str], said: str, restart: str) -> None:
    (tmp_path / "not-executable").touch()
    with command(tmp_path, argv, restart=restart) as listener:
        listener.wait_for(lambda listener: listener.troubles, "it is said")
        if restart == "never":
            listener.wait_until_ended()
        else:
            attempts = listener.source._attempts  # type: ignore[attr-defined]  # of the reader that it is
            wait_until(lambda: listener.source._attempts != attempts, 15, "it is tried again")  # type: ignore[attr-defined]  # likewise
    name = Path(argv[0]).name
    assert listener.troubles == [f"shed: command {name}: {said}"]
    assert listener.samples == []


def test_a_program_that_says_nothing_is_ended_and_started_again(tmp_path: Path) -> None:
    script = "echo $$ >> pids; echo 1; exec sleep 1000"
    with command(tmp_path, ["sh", "-c", script], stall_timeout=0.5) as listener:
        listener.wait_for_readings(2)
        listener.wait_for_readings(3)
        first, second, *_ = map(int, (tmp_path / "pids").read_text().split())
        assert not alive(first)
        assert not alive(second)
    assert set(listener.troubles) == {"shed: command sh: nothing usable has come for 0.5 s"}


@pytest.mark.parametrize(
    ("stream_format", "keys", "argv", "told"),
    [
        ("mjpeg", {}, ["cat", "/dev/zero"], "bytes without a JPEG picture"),
        ("mjpeg", {}, ["yes", "no picture"], "bytes without a JPEG picture"),
        ("jsonl", {}, ["cat", "/dev/zero"], "a line of more than 65536 bytes"),
        ("jsonl", {}, ["yes", "{"], "a reading that is cut off: {"),
        ("csv", {}, ["seq", "-f", "line %g", "1000000000"], "no numbers in it: line 1"),
        ("csv", {}, ["cat", "/dev/urandom"], ""),
        (
            "pcm",
            {"rate": 8000, "sample_format": "f32le"},
            ["sh", "-c", r"tr '\0' '\377' < /dev/zero"],
            "samples that are no finite numbers",
        ),
    ],
)
def test_a_torrent_of_garbage_is_told_once_and_bounded(
    tmp_path: Path, stream_format: str, keys: dict[str, Any], argv: list[str], told: str
) -> None:
    with command(tmp_path, argv, stream_format, stall_timeout=0.5, **keys) as listener:
        listener.wait_for(lambda listener: listener.errors, "the garbage is told")
        used, began = time.process_time(), time.monotonic()
        listener.wait_for(lambda _: time.monotonic() - began > 0.3, "a while")
        share = (time.process_time() - used) / (time.monotonic() - began)
    assert told in listener.errors[0]
    assert len(listener.errors) <= 2
    print(f"{share:.0%} of a core")


def test_a_torrent_of_readings_is_slowed_down(tmp_path: Path) -> None:
    with command(tmp_path, ["yes", "1"]) as listener:
        listener.wait_for_readings(1)
        began, before = time.monotonic(), len(listener.readings)
        listener.wait_for(lambda _: time.monotonic() - began > 0.5, "a while")
        rate = (len(listener.readings) - before) / (time.monotonic() - began)
    # Two bytes a line, one megabyte a second.
    assert rate < 0.8e6


def test_what_a_program_says_of_itself_is_in_the_log_bounded_and_without_passwords(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    script = (
        "import sys\n"
        "print('opening rtsp://user:hidden@yard.lan/1?key=hidden now', file=sys.stderr)\n"
        "print('x' * 100000, file=sys.stderr)\n"
        "for number in range(5000): print('frame', number, '\\x1b[31m', end='\\r', file=sys.stderr)\n"
        "sys.stderr.flush()\n"
        "print(1)\n"
    )
    with command(tmp_path, python(script, "rtsp://user:hidden@yard.lan"), restart="never") as listener:
        listener.wait_until_ended()
    said = [message.removeprefix(f"shed: command {Path(sys.executable).name}: ") for message in caplog.messages]
    assert said[0] == "opening rtsp://yard.lan/1 now"
    assert said[1] == "x" * 400
    assert said[2] == r"frame 0 \x1b[31m"
    assert len(said) == 10
    assert "hidden" not in caplog.text
    assert not any("hidden" in thread.name for thread in threading.enumerate())


def test_everything_that_a_program_has_started_ends_with_it(tmp_path: Path) -> None:
    stubborn = "(trap '' TERM; echo $$ > stubborn; while :; do sleep 1; done)"
    script = f"sleep 1000 & echo $! > sleeper; {stubborn} & echo 1; wait"
    with command(tmp_path, ["sh", "-c", script]) as listener:
        listener.wait_for_readings(1)
        sleeper = pid_in(tmp_path / "sleeper")
        assert alive(sleeper)
    for pid in (sleeper, pid_in(tmp_path / "stubborn")):
        wait_until(lambda pid=pid: not alive(pid), 10, "it has ended")  # type: ignore[misc]  # mypy infers no lambda with a default


# Starts a process as daemons do, which leaves the group and the session; then prints a reading and goes on.
DAEMONIZING = """
import os, pathlib, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path("part").write_text(str(os.getpid()))
        pathlib.Path("part").rename("pid")
        time.sleep(1000)
    os._exit(0)
os.wait()
print(1, flush=True)
time.sleep(1000)
"""


def test_what_a_program_has_made_a_daemon_ends_with_it(tmp_path: Path) -> None:
    with command(tmp_path, python(DAEMONIZING)) as listener:
        listener.wait_for_readings(1)
        daemon = pid_in(tmp_path / "pid")
        assert alive(daemon)
        assert os.getsid(daemon) != os.getsid(0)
    wait_until(lambda: not alive(daemon), 10, "it has ended")


def test_what_a_program_has_made_a_daemon_dies_with_us_even_if_we_are_killed(tmp_path: Path) -> None:
    (tmp_path / "daemonizing.py").write_text(DAEMONIZING)
    ours = _reading_process(tmp_path, [sys.executable, "daemonizing.py"])
    daemon = pid_in(tmp_path / "pid")
    os.kill(ours, signal.SIGKILL)
    os.waitpid(ours, 0)
    wait_until(lambda: not alive(daemon), 10, "it dies too")


def test_a_program_may_say_goodbye(tmp_path: Path) -> None:
    script = "trap 'sleep 0.2; touch goodbye; exit 0' TERM; echo 1; while :; do sleep 0.05; done"
    with command(tmp_path, ["sh", "-c", script]) as listener:
        listener.wait_for_readings(1)
    assert (tmp_path / "goodbye").exists()


def test_a_program_that_does_not_want_to_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "GRACE", 0.2)
    script = "trap '' TERM; echo $$ > pid; echo 1; while :; do sleep 0.05; done"
    with command(tmp_path, ["sh", "-c", script]) as listener:
        listener.wait_for_readings(1)
        pid = pid_in(tmp_path / "pid")
        assert alive(pid)
    wait_until(lambda: not alive(pid), 10, "it has ended")


def _reading_process(folder: Path, argv: list[str]) -> int:
    """Starts a process that runs a program there as a source does; returns its number."""
    script = f"""
import os, pathlib, sys, threading
os.chdir({str(folder)!r})
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from edge_agent.sources.child import Child
running = Child({argv!r}, pathlib.Path(), "test")
for data in running.read(threading.Event().is_set):
    pass
"""
    return os.posix_spawn(sys.executable, [sys.executable, "-c", script], os.environ)


def test_a_program_dies_with_us_even_if_we_are_killed(tmp_path: Path) -> None:
    ours = _reading_process(tmp_path, ["sh", "-c", "sleep 1000 & echo $! > pid; echo 1; wait"])
    sleeper = pid_in(tmp_path / "pid")
    assert alive(sleeper)
    os.kill(ours, signal.SIGKILL)
    os.waitpid(ours, 0)
    wait_until(lambda: not alive(sleeper), 10, "it dies too")


def test_a_program_dies_with_us_even_if_we_are_killed_while_it_starts(tmp_path: Path) -> None:
    script = f"""
import pathlib, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from edge_agent.sources.child import Child
Child(["sh", "-c", "kill -9 $PPID; echo $$ > pid; exec sleep 1000"], pathlib.Path(), "test")
"""
    ours = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r})\n{script}"],
        os.environ,
    )
    assert os.waitstatus_to_exitcode(os.waitpid(ours, 0)[1]) == -signal.SIGKILL
    # It may be ended before it has said which process it is.
    wait_until(lambda: not _running_in(tmp_path), 10, "it dies too")


def _running_in(folder: Path) -> list[str]:
    """Processes with this working directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == folder:
                found.append(process.name)
    return found


def test_a_program_that_cannot_be_started_leaves_no_guard(tmp_path: Path) -> None:
    before = _children()
    with pytest.raises(SourceError, match="there is no program gone"):
        child.Child(["gone"], tmp_path, "test")
    assert _children() == before


def _children() -> str:
    return "".join(file.read_text() for file in Path("/proc/self/task").glob("*/children"))


def test_a_program_killed_by_hand_is_started_again(tmp_path: Path) -> None:
    with command(tmp_path, python(COUNTING)) as listener:
        listener.wait_for_readings(3)
        os.kill(pid_in(tmp_path / "pid"), signal.SIGKILL)
        listener.wait_for(lambda listener: any(series.gap for series in listener.series), "it counts again")
    assert listener.troubles == [f"shed: command {Path(sys.executable).name}: was ended by SIGKILL"]


def test_paths_are_relative_to_the_folder_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "sensor.sh").write_text("#!/bin/sh\ncat readings\n")
    (tmp_path / "sensor.sh").chmod(0o755)
    (tmp_path / "readings").write_text("[1, 2]\n")
    with command(tmp_path, ["./sensor.sh"], restart="never") as listener:
        listener.wait_until_ended()
    assert listener.readings == [[1, 2]]


def test_a_program_that_waits_for_us_to_read_on_can_be_stopped(tmp_path: Path) -> None:
    # It looks at signals only between two lines, and blocks while the pipe is full.
    script = """
import signal, sys
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
while not ended:
    sys.stdout.write("1\\n" * 1000)
open("goodbye", "w").close()
"""
    with command(tmp_path, python(script)) as listener:
        listener.wait_for_readings(1000)
    assert (tmp_path / "goodbye").exists()
