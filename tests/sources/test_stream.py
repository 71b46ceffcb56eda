import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.models.model import Model
from edge_agent.sources import reader
from tests.broker import PATIENCE, wait_until
from tests.sources.contract import LiveContract, Setup
from tests.sources.stage import Stage
from tests.sources.stream_server import StreamServer

STALL_S = 0.5


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "REOPEN_CEILING", 0.3)


@pytest.fixture
def server() -> Iterator[StreamServer]:
    with StreamServer() as running:
        yield running


@pytest.fixture
def stream(server: StreamServer, digits: Model, tmp_path: Path) -> Stage:
    return open_stream(server.url, digits, tmp_path)


def open_stream(url: str, digits: Model, folder: Path, **keys: Any) -> Stage:
    return Stage({"type": "video", "url": url, "stall_timeout": STALL_S} | keys, digits, folder)


class TestStream(LiveContract):
    @pytest.fixture
    def setup(self, server: StreamServer, digits: Model, tmp_path: Path) -> Setup:
        return Setup(open=lambda: open_stream(server.url, digits, tmp_path), origin={"url", "frame"})


def seconds_until_trouble(stage: Stage) -> float:
    began = time.monotonic()
    stage.wait_for(lambda stage: stage.troubles, "the source says that something is wrong")
    return time.monotonic() - began


def nothing_listens(server: StreamServer) -> str:
    where = f"port {server.port} of 127.0.0.1"
    return f"{server.url}: nothing listens at {where}: is the port right, does the server run?"


def wait_for_news(stage: Stage) -> None:
    before = len(stage.results)
    stage.wait_for(lambda stage: len(stage.results) > before + 3, "results come again", timeout=15)


def test_frames_are_numbered_as_they_were_read(stream: Stage, server: StreamServer) -> None:
    with stream:
        results = list(stream.wait_for_results(10))
    numbers = [sample.origin["frame"] for sample in results]
    assert numbers == sorted(set(numbers))
    assert {sample.origin["url"] for sample in results} == {server.url}


@pytest.mark.parametrize("fps", [20, 4])
def test_no_more_frames_come_than_are_asked_for(fps: int, server: StreamServer, digits: Model, tmp_path: Path) -> None:
    with open_stream(server.url, digits, tmp_path, fps=fps) as stage:
        first, *_, last = stage.wait_for_results(6)[:6]
    assert last.captured - first.captured == pytest.approx(5 / fps, rel=0.2)
    assert last.origin["frame"] - first.origin["frame"] > 5


def test_a_stream_slower_than_its_stall_timeout_by_choice_does_not_stall(
    server: StreamServer, digits: Model, tmp_path: Path
) -> None:
    with open_stream(server.url, digits, tmp_path, fps=1) as stage:
        stage.wait_for_results(3)
    assert stage.troubles == []
    assert server.connections == 1


def test_a_server_that_dies_is_noticed_said_once_and_found_again(stream: Stage, server: StreamServer) -> None:
    with stream:
        stream.wait_for_results(3)
        server.die()
        assert seconds_until_trouble(stream) < STALL_S + 0.3
        said = stream.troubles.copy()
        stream.wait_for(lambda stage: len(stage.troubles) > len(said), "it can't be opened again either")
        server.start()
        wait_for_news(stream)
    assert stream.troubles == [
        f"{server.url}: no frame can be read any more",
        nothing_listens(server),
    ]
    assert stream.imbalances == []


def test_a_server_that_stalls_is_noticed_said_once_and_found_again(stream: Stage, server: StreamServer) -> None:
    with stream:
        stream.wait_for_results(3)
        server.stall()
        assert STALL_S - 0.1 < seconds_until_trouble(stream) < STALL_S + 0.5
        wait_until(lambda: server.connections > 1, 5, "it is opened again")
        server.play()
        wait_for_news(stream)
    [trouble] = stream.troubles
    assert trouble in {
        f"{server.url}: no frame can be read any more",
        f"{server.url}: nothing usable has come for {STALL_S:g} s",
    }


def test_a_picture_that_freezes_is_noticed_said_once_and_found_again(stream: Stage, server: StreamServer) -> None:
    with stream:
        stream.wait_for_results(3)
        server.freeze()
        assert STALL_S - 0.1 < seconds_until_trouble(stream) < STALL_S + 0.5
        wait_until(lambda: server.connections > 3, 10, "it is opened again and again")
        captured = stream.counts()["captured"]
        wait_until(lambda: server.connections > 4, 10, "and again")
        assert stream.counts()["captured"] == captured
        server.play()
        wait_for_news(stream)
    assert stream.troubles == [f"{server.url}: the same frame again and again for {STALL_S:g} s"]


def test_a_failure_after_a_recovery_is_said_anew(stream: Stage, server: StreamServer) -> None:
    with stream:
        for count in (1, 2):
            stream.wait_for(lambda stage: stage.results, "results")
            server.stall()
            stream.wait_for(lambda stage, count=count: len(stage.troubles) == count, "the failure is said")  # type: ignore[misc]  # mypy infers no lambda with a default
            server.play()
            wait_for_news(stream)


def test_a_server_that_is_not_there_yet_is_waited_for(stream: Stage, server: StreamServer) -> None:
    server.die()
    with stream:
        stream.wait_for(lambda stage: stage.troubles, "the source says that something is wrong")
        server.start()
        wait_for_news(stream)
    assert stream.troubles == [nothing_listens(server)]


def test_attempts_grow_rarer(stream: Stage, server: StreamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stall()
    monkeypatch.setattr(reader, "OPEN_PATIENCE", STALL_S)
    monkeypatch.setattr(reader, "REOPEN_CEILING", 30)
    with stream:
        wait_until(lambda: server.connections == 1, 10, "an attempt")
        first = time.monotonic()
        wait_until(lambda: server.connections == 3, 10, "the third attempt")
        # Two attempts of half a second, and pauses of 0.25 to 0.5 s and of 0.5 to 1 s.
        assert time.monotonic() - first > 1.6
        server.die()


def test_an_address_that_does_not_answer_holds_up_no_other_one(
    server: StreamServer, digits: Model, tmp_path: Path
) -> None:
    with (
        StreamServer() as mute,
        open_stream(mute.url, digits, tmp_path),
        open_stream(server.url, digits, tmp_path) as stage,
    ):
        mute.stall()
        wait_until(lambda: mute.connections == 1, 10, "the mute one is asked")
        mute.die()
        mute.start()
        wait_until(lambda: mute.connections > 1, 10, "the mute one is being opened")
        server.die()
        stage.wait_for(lambda stage: stage.troubles, "the other one fails")
        server.start()
        began = time.monotonic()
        wait_for_news(stage)
        # The mute one is given ten seconds to answer.
        assert time.monotonic() - began < 8
        mute.die()


def test_a_stream_that_hangs_does_not_hold_up_the_end(stream: Stage, server: StreamServer) -> None:
    with stream:
        stream.wait_for_results(3)
        server.stall()
        began = time.monotonic()
        stream.stop()
        stream.pipeline.close(time.monotonic() + 0.3)
        assert time.monotonic() - began < 2 * PATIENCE


def test_credentials_are_in_no_message_no_result_and_no_thread_name(
    server: StreamServer, digits: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.url.replace("http://", "http://user:hidden@") + "?key=hidden"
    with open_stream(url, digits, tmp_path) as stage:
        stage.wait_for_results(3)
        names = [thread.name for thread in threading.enumerate()]
        server.die()
        stage.wait_for(lambda stage: stage.troubles, "the source says that something is wrong")
    everything = [*names, *stage.troubles, caplog.text, *(str(sample.origin) for sample in stage.results)]
    assert any(server.url in text for text in everything)
    assert not any("hidden" in text for text in everything)
