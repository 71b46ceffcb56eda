"""A source that is looked at now and then is closed in between."""

import threading
import time
from collections.abc import Iterator

import pytest

from edge_agent.errors import SourceError
from edge_agent.samples import Sample
from edge_agent.sources import occasional
from edge_agent.sources.occasional import Occasional, looked_at


class Camera:
    """Gives a frame each hundredth of a second while it is open."""

    name = "camera"
    stall_timeout = 10.0

    def __init__(self, *, live: bool = True, frames: int = 1_000_000) -> None:
        self.live = live
        self.frames = frames
        self.log: list[str] = []

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        self.log.append("opened")
        try:
            for number in range(self.frames):
                stopping.wait(0.01)
                yield Sample(b"", time.time(), time.monotonic(), {"frame": number})
        finally:
            self.log.append("closed")


def test_it_is_opened_for_the_last_picture_of_a_moment_and_closed_until_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(occasional, "LOOK", 0.1)
    camera, stopping, taken = Camera(), threading.Event(), list[Sample]()
    for sample in Occasional(camera, 0.3).samples(stopping):
        if sample is not None:
            assert camera.log[-1] == "closed"
            taken.append(sample)
        if len(taken) == 2:
            stopping.set()
    assert camera.log == ["opened", "closed"] * 2
    assert all(sample.origin["frame"] >= 3 for sample in taken)
    assert taken[1].captured - taken[0].captured == pytest.approx(0.3, abs=0.2)


def test_a_program_that_gives_one_picture_and_ends_is_enough_and_one_that_gives_none_has_failed() -> None:
    stopping = threading.Event()
    assert any(Occasional(Camera(frames=1), 60).samples(stopping))
    with pytest.raises(SourceError):
        list(Occasional(Camera(frames=0), 60).samples(stopping))


def test_a_file_is_read_as_a_whole() -> None:
    file = Camera(live=False)
    assert looked_at(file, 600) is file
