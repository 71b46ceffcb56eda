import os

import pytest

from edge_agent import settings
from edge_agent.models.accelerator_choice import threads_of
from edge_agent.models.loading import with_threads
from tests.sources.stage import DIGITS


@pytest.mark.parametrize(
    ("cores", "models", "each"),
    [(1, 1, 1), (1, 3, 1), (2, 1, 1), (4, 1, 2), (4, 2, 2), (4, 3, 1), (4, 9, 1), (8, 1, 4), (8, 2, 4), (8, 3, 2)],
)
def test_models_that_state_no_threads_share_the_cores(
    cores: int, models: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert threads_of(with_threads(settings.Model(path=DIGITS), models)) == each


def test_threads_that_are_stated_are_left_as_they_are() -> None:
    assert threads_of(with_threads(settings.Model(path=DIGITS, threads=7), engines=5)) == 7
