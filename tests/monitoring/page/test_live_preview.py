from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edge_agent import settings
from edge_agent.config.loader import Config
from edge_agent.monitoring.page import live_preview
from edge_agent.monitoring.page.live_preview import PATIENCE, LivePreview
from edge_agent.samples import Prediction, Result, Sample
from edge_agent.sources.observer import Observation, ResultObserver
from tests.clock import Clock

FRAME = np.full((720, 1280, 3), 128, np.uint8)
FOUND = [Prediction("person", 0, 0.9, box=(100, 100, 300, 600))]


class Agent:
    """An agent with one pipeline, `porch`, of which frames can be shown."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._observers: list[ResultObserver] = []

    def status(self) -> dict[str, Any]:
        return {}

    def latest(self, pipeline: str) -> Result | None:
        return {"porch": None}[pipeline]

    def config(self) -> Config:
        raise NotImplementedError

    def labels_of(self, pipeline: str) -> Sequence[str]:
        raise NotImplementedError

    def reload(self) -> list[str]:
        raise NotImplementedError

    def conversation_of(self, pipeline: str, after: int, *, private: bool) -> dict[str, Any] | None:
        raise NotImplementedError

    def options_of(self, pipeline: str) -> settings.Pipeline:
        source = settings.ImagesSource(type="images", path=".")
        return {"porch": settings.Pipeline(source=source, model="m")}[pipeline]

    def observers_of(self, pipeline: str) -> list[ResultObserver]:
        return {"porch": self._observers}[pipeline]

    def frames(self, count: int, gap: float = 0.1) -> None:
        for _ in range(count):
            self._clock.now += gap
            for observer in list(self._observers):
                sample = Sample(FRAME, self._clock.now, self._clock.now, {})
                observer.on_result(Observation("porch", None, sample, FOUND, FRAME, may_block=False))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(live_preview, "time", made)
    return made


@pytest.fixture
def agent(clock: Clock) -> Agent:
    return Agent(clock)


def test_nothing_follows_a_pipeline_before_somebody_looks(agent: Agent) -> None:
    LivePreview(agent)
    assert agent.observers_of("porch") == []


def test_who_looks_gets_the_next_picture_and_waits_for_none(agent: Agent) -> None:
    preview = LivePreview(agent)
    assert preview.latest("porch") is None
    agent.frames(1)
    first = preview.latest("porch")
    assert first is not None
    assert first.jpeg.startswith(b"\xff\xd8")
    assert preview.latest("porch") == first


def test_however_many_look_there_are_at_most_four_pictures_a_second(agent: Agent) -> None:
    preview = LivePreview(agent)
    seen = set()
    for _ in range(100):
        for _ in range(5):
            seen.add(preview.latest("porch"))
        agent.frames(1, gap=0.02)
    assert len(agent.observers_of("porch")) == 1
    assert 7 <= len(seen - {None}) <= 9


def test_when_nobody_looks_any_more_nothing_follows_and_looking_again_begins_anew(agent: Agent, clock: Clock) -> None:
    preview = LivePreview(agent)
    preview.latest("porch")
    agent.frames(1)
    clock.now += PATIENCE
    agent.frames(2)
    assert agent.observers_of("porch") == []
    assert preview.latest("porch") is None
    agent.frames(1)
    assert preview.latest("porch") is not None


def test_a_pipeline_that_has_been_started_anew_is_followed_again(agent: Agent) -> None:
    preview = LivePreview(agent)
    preview.latest("porch")
    agent.frames(1)
    first = preview.latest("porch")
    agent.observers_of("porch").clear()
    assert preview.latest("porch") == first
    agent.frames(1, gap=1.0)
    second = preview.latest("porch")
    assert second is not None
    assert first is not None
    assert second.number > first.number


def test_there_is_nothing_to_see_of_a_pipeline_that_there_is_not(agent: Agent) -> None:
    with pytest.raises(KeyError):
        LivePreview(agent).latest("nobody")
