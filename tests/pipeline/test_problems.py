from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.pipeline.poison import PoisonInputs
from edge_agent.pipeline.registry import HUNG_AFTER, Pipelines

CAMERA = {"type": "camera", "device": 0}


def running(diagnosis: str = "", busy: float = 0.0, **source: Any) -> Any:
    options = settings.Pipeline.model_validate({"source": source or CAMERA, "model": "m"})
    return SimpleNamespace(options=options, diagnosis=diagnosis, busy_for=lambda: busy)


@pytest.mark.parametrize(
    ("pipelines", "problems"),
    [
        ({"a": running()}, {"a": ""}),
        ({"a": running("gone"), "b": running()}, {"a": "gone", "b": ""}),
        ({"a": running(busy=HUNG_AFTER + 1)}, {"a": "one sample has taken more than 30 s"}),
        (
            {"c": running(type="pipeline", name="b"), "b": running(type="pipeline", name="a"), "a": running("gone")},
            {"c": "pipeline a: gone", "b": "pipeline a: gone", "a": "gone"},
        ),
        ({"b": running("x", type="pipeline", name="a"), "a": running("gone")}, {"b": "x", "a": "gone"}),
        ({"b": running(type="pipeline", name="a")}, {"b": ""}),
    ],
    ids=["none", "own", "hung", "of the one it observes", "its own first", "the other one does not run"],
)
def test_a_pipeline_has_its_own_problem_or_that_of_the_pipeline_it_observes(
    pipelines: dict[str, Any], problems: dict[str, str]
) -> None:
    all_of_them = Pipelines(lambda: 1.0, lambda *_: None, PoisonInputs())
    all_of_them.running = pipelines
    assert all_of_them.problems() == problems
