import itertools
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.counters import Counters
from edge_agent.errors import EdgeAgentError, SourceError
from edge_agent.samples import Sample
from edge_agent.sources import reader
from edge_agent.sources.images import Images
from edge_agent.sources.queue import SampleQueue
from edge_agent.sources.reader import MAX_ABANDONED, Readable, Reader
from tests.broker import PATIENCE, wait_until
from tests.settlements import ended


class Made:
    """A source whose samples come from a function, called for each opening."""

    name = "made"
    stall_timeout = 0.1

    def __init__(self, samples: Callable[[threading.Event], Iterator[Sample | None]], *, live: bool) -> None:
        self._samples = samples
        self.live = live
        self.openings = 0

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        self.openings += 1
        return self._samples(stopping)


class Running:
    """A reader at work."""

    def __init__(self, made: Readable) -> None:
        self.counters = Counters()
        self.queue = SampleQueue(100, self.counters, keep_newest=made.live)
        self.troubles: list[str] = []
        self.reader = Reader(made)
        self.reader.start(self.queue, self._trouble)

    def _trouble(self, error: EdgeAgentError) -> None:
        self.troubles.append(str(error))

    def stop(self) -> None:
        self.reader.stop()
        self.reader.close(time.monotonic() + 5)
        self.queue.discard_pending()

    def ended(self) -> bool:
        return not ended(self.queue.get())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "REOPEN_CEILING", 0.02)


def sample() -> Sample:
    return Sample(b"", captured_at=time.time(), captured=time.monotonic(), origin={})


def reading_threads() -> int:
    return sum(thread.name == "read made" for thread in threading.enumerate())


def test_readers_that_block_for_ever_are_bounded_in_number() -> None:
    release = threading.Semaphore(0)

    def blocks(_: threading.Event) -> Iterator[Sample | None]:
        yield sample()
        release.acquire()

    made = Made(blocks, live=True)
    running = Running(made)
    wait_until(lambda: made.openings == MAX_ABANDONED, 10, "all that may be left behind are")
    wait_until(lambda: len(running.troubles) == MAX_ABANDONED, 10, "the last one is given up")
    with pytest.raises(AssertionError):
        wait_until(lambda: made.openings > MAX_ABANDONED, 0.5, "one more attempt")
    assert reading_threads() == MAX_ABANDONED
    release.release()
    wait_until(lambda: made.openings == MAX_ABANDONED + 1, 10, "one has returned, and makes room for another")
    assert reading_threads() == MAX_ABANDONED
    for _ in range(MAX_ABANDONED):
        release.release()
    running.stop()
    assert reading_threads() == 0


def test_a_reader_that_returns_after_it_was_left_behind_delivers_nothing() -> None:
    release = threading.Event()
    openings = itertools.count()

    def late(_: threading.Event) -> Iterator[Sample | None]:
        if next(openings) == 0:
            yield sample()
            release.wait()
            yield sample()
        while release.is_set():
            yield None

    made = Made(late, live=True)
    running = Running(made)
    wait_until(lambda: made.openings > 1, 10, "the first is left behind")
    release.set()
    wait_until(lambda: running.reader._attempts[0].ended or len(running.reader._attempts) == 1, 10, "it has returned")
    running.stop()
    assert running.counters.as_dict()["captured"] == 1


def test_a_source_that_stalls_after_a_slow_start_is_noticed_in_time() -> None:
    started, release = threading.Event(), threading.Event()

    def slow(_: threading.Event) -> Iterator[Sample | None]:
        started.wait()
        yield sample()
        release.wait()

    running = Running(made := Made(slow, live=True))
    with pytest.raises(AssertionError):
        wait_until(lambda: running.troubles, 5 * made.stall_timeout, "an opening that takes long is given up")
    started.set()
    began = time.monotonic()
    wait_until(lambda: running.troubles, 10, "the stall is noticed")
    assert time.monotonic() - began < made.stall_timeout + 2 * PATIENCE
    assert running.troubles == ["made: nothing usable has come for 0.1 s"]
    release.set()
    running.stop()


def test_signs_of_life_keep_a_source_from_being_given_up() -> None:
    def lives(stopping: threading.Event) -> Iterator[Sample | None]:
        yield sample()
        while not stopping.wait(0.02):
            yield None

    made = Made(lives, live=True)
    running = Running(made)
    with pytest.raises(AssertionError):
        wait_until(lambda: made.openings > 1, 0.5, "another attempt")
    running.stop()
    assert running.troubles == []


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (SourceError("made: gone"), "made: gone"),
        (PermissionError(13, "Permission denied"), "made: Permission denied"),
        (ValueError("a defect"), "made: internal error: ValueError('a defect')"),
    ],
)
@pytest.mark.parametrize("live", [True, False])
def test_whatever_goes_wrong_is_said_and_ends_only_a_finite_source(error: Exception, sentence: str, live: bool) -> None:
    def fails(_: threading.Event) -> Iterator[Sample | None]:
        yield sample()
        raise error

    made = Made(fails, live=live)
    running = Running(made)
    wait_until(lambda: running.troubles, 10, "it is said")
    assert running.troubles[0] == sentence
    if live:
        wait_until(lambda: made.openings > 2, 10, "it is tried again")
    else:
        assert ended(running.queue.get())
        assert running.ended()
        assert made.openings == 1
    running.stop()


def test_a_live_source_that_ends_is_opened_again() -> None:
    made = Made(lambda _: iter([sample()]), live=True)
    running = Running(made)
    wait_until(lambda: made.openings > 2, 10, "it is opened again")
    running.stop()
    assert running.troubles[0] == "made: the stream has ended"


def test_a_live_source_for_which_no_thread_can_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    start, refused = threading.Thread.start, ["once", "twice"]

    def limited(self: threading.Thread) -> None:
        if self.name.startswith("read ") and refused:
            refused.pop()
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)
    running = Running(Made(lambda _: iter([sample()]), live=True))
    wait_until(lambda: running.counters.as_dict()["captured"] > 0, 10, "it delivers")
    running.stop()
    assert "RLIMIT_NPROC" in running.troubles[0]


def test_the_diagnosis_is_the_failure_until_a_sample_comes_again() -> None:
    there, gone = threading.Event(), SourceError("made: gone")

    def comes_and_goes(_: threading.Event) -> Iterator[Sample | None]:
        if not there.is_set():
            raise gone
        yield sample()
        while there.is_set():
            time.sleep(0.01)
            yield None
        raise gone

    running = Running(Made(comes_and_goes, live=True))
    for _ in range(2):
        wait_until(lambda: running.reader.diagnosis == "made: gone", 10, "it is gone")
        there.set()
        wait_until(lambda: running.reader.diagnosis == "", 10, "it is back")
        there.clear()
    running.stop()


def test_a_live_source_that_ends_and_can_be_opened_again_is_not_at_fault() -> None:
    diagnoses: set[str] = set()
    started: list[Running] = []

    def once(_: threading.Event) -> Iterator[Sample | None]:
        diagnoses.update(one.reader.diagnosis for one in started)
        yield sample()

    made = Made(once, live=True)
    running = Running(made)
    started.append(running)
    wait_until(lambda: made.openings > 3, 10, "it is opened again")
    running.stop()
    assert diagnoses == {""}


def test_a_finite_source_that_fails_keeps_its_diagnosis() -> None:
    def fails(_: threading.Event) -> Iterator[Sample | None]:
        raise SourceError("made: no such file")

    running = Running(Made(fails, live=False))
    wait_until(running.ended, 10, "it has ended")
    assert running.reader.diagnosis == "made: no such file"
    running.stop()


def test_the_debug_log_tells_how_a_source_is_opened_and_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "edge_agent.sources")
    made = Made(lambda _: iter([sample()]), live=True)
    running = Running(made)
    wait_until(lambda: made.openings > 1, 10, "it is opened again")
    running.stop()
    assert [re.sub(r"[\d.]+ s$", "N s", message) for message in caplog.messages[:6]] == [
        "made: opening",
        "made: first sample",
        "made: ended after 1 samples",
        "made: the stream has ended: trying again until it is back",
        "made: reconnecting after N s",
        "made: opening",
    ]


def test_a_path_that_the_system_refuses_ends_the_source_and_is_said(tmp_path: Path) -> None:
    running = Running(Images(str(tmp_path / ("x" * 300))))
    assert running.ended()
    assert len(running.troubles) == 1
    running.stop()
