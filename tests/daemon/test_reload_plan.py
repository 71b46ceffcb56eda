"""What a reload changes, as a table: no process, no broker, no model file."""

from dataclasses import dataclass
from typing import Any, cast
from unittest.mock import Mock

import pytest

from edge_agent import settings
from edge_agent.daemon.reload import Plan, can_switch, plan
from edge_agent.models.language import LanguageModel
from edge_agent.models.loading import AnyModel
from edge_agent.models.model import Model
from edge_agent.settings import Settings

MQTT = {"type": "mqtt", "topic": "in"}
BASE: dict[str, Any] = {
    "device_id": "pi",
    "models": {"m": {"path": "m.tflite"}, "n": {"path": "n.tflite"}},
    "pipelines": {"a": {"source": MQTT, "model": "m"}, "b": {"source": MQTT, "model": "n"}},
}
REGIONS = {"left": [0, 0, 0.5, 1], "right": [0.5, 0, 1, 1]}


def model(task: str = "detection", together: int = 1, *, stateful: bool = False, source: object = None) -> Model:
    made = Mock(spec=Model, together=together, stateful=stateful, decode=Mock(task=task), source=source or object())
    return cast("Model", made)


OLD, OTHER = model(), model()
MODELS: dict[str, AnyModel] = {"m": OLD, "n": OTHER}
NEW = model()
SCORES = model("anomaly")


@dataclass(frozen=True)
class Running:
    options: settings.Pipeline
    model: AnyModel


def made(**changes: Any) -> Settings:
    """The settings of `BASE`, changed; None takes a section away."""
    document = {key: value for key, value in (BASE | changes).items() if value is not None}
    return Settings.model_validate(document)


def pipelines(**changes: Any) -> dict[str, Any]:
    return {"pipelines": {name: one for name, one in (BASE["pipelines"] | changes).items() if one is not None}}


def running(options: Settings, models: dict[str, AnyModel] = MODELS) -> dict[str, Running]:
    return {name: Running(pipeline, models[pipeline.model_name]) for name, pipeline in options.pipelines.items()}


A = BASE["pipelines"]["a"]
UPDATE = {"url": "https://models.example", "root": "root.json", "models": {"m": "birds"}}
EVERYTHING_AGAIN = {"stop": ("a", "b"), "start": ("a", "b"), "reconnect": True, "discovery": "reconnect"}
ELSEWHERE = EVERYTHING_AGAIN | {"discovery": "withdraw"}

SETTINGS_TABLE: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # What changes; the settings before; after; the plan.
    ("nothing", {}, {}, {}),
    ("thermal options", {}, {"thermal": {"slow_down_at": 60}}, {}),
    ("how often counters are published", {}, {"stats_interval": "1s"}, {}),
    ("a pipeline is added", pipelines(b=None), pipelines(), {"start": ("b",)}),
    ("a pipeline is removed", pipelines(), pipelines(b=None), {"stop": ("b",)}),
    ("a pipeline is changed", pipelines(), pipelines(a=A | {"top_k": 1}), {"stop": ("a",), "start": ("a",)}),
    ("a pipeline uses another model", {}, pipelines(a=A | {"model": "n"}), {"stop": ("a",), "start": ("a",)}),
    ("an option of the broker", {}, {"mqtt": {"keepalive": 7}}, EVERYTHING_AGAIN),
    ("another broker", {}, {"mqtt": {"url": "mqtt://other:1883"}}, ELSEWHERE),
    ("another name", {}, {"device_id": "shed"}, ELSEWHERE),
    ("an option of the outbox", {}, {"outbox": {"max_size": "1MB"}}, EVERYTHING_AGAIN),
    ("updates begin", {}, {"update": UPDATE}, EVERYTHING_AGAIN),
    ("updates end", {"update": UPDATE}, {}, EVERYTHING_AGAIN),
    ("an option of updates", {"update": UPDATE}, {"update": UPDATE | {"interval": "1h"}}, {}),
    # Its switches and numbers are commands, which are subscribed to with the session.
    ("Home Assistant is turned on", {}, {"home_assistant": {"enabled": True}}, ELSEWHERE),
    ("another discovery prefix", {}, {"home_assistant": {"prefix": "ha"}}, {"discovery": "withdraw"}),
    ("battery options", {}, {"battery": {"pause_below": 20}}, {"restart_battery": True}),
    ("metrics are turned on", {}, {"metrics": {}}, {"restart_monitoring": True}),
    ("the status page is turned off", {"http": {}}, {}, {"restart_monitoring": True}),
    (
        "a pipeline and the broker",
        {},
        pipelines(b=None) | {"mqtt": {"keepalive": 7}},
        EVERYTHING_AGAIN | {"start": ("a",)},
    ),
]


@pytest.mark.parametrize(("before", "after", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SETTINGS_TABLE])
def test_what_a_change_of_settings_means(
    before: dict[str, Any], after: dict[str, Any], expected: dict[str, Any]
) -> None:
    old, fresh = made(**before), made(**after)
    assert plan(old, fresh, running(old), MODELS, MODELS) == Plan(**expected)


@pytest.mark.parametrize(
    ("fresh_models", "expected"),
    [
        pytest.param(MODELS, Plan(), id="the same models"),
        pytest.param({**MODELS, "m": NEW}, Plan(switch=("a",), retire=("m",)), id="one that can take over"),
        pytest.param(
            {**MODELS, "m": model("anomaly")},
            Plan(stop=("a",), start=("a",), retire=("m",)),
            id="one that can't take over",
        ),
    ],
)
def test_what_another_version_of_a_model_means(fresh_models: dict[str, AnyModel], expected: Plan) -> None:
    options = made()
    assert plan(options, options, running(options), MODELS, fresh_models) == expected


def test_a_model_that_nothing_uses_any_more_is_retired() -> None:
    old, fresh = made(), made(**pipelines(b=None))
    without = {key: one for key, one in MODELS.items() if key != "n"}
    assert plan(old, fresh, running(old), MODELS, without) == Plan(stop=("b",), retire=("n",))


def test_engines_for_other_batch_sizes_make_another_model_that_can_take_over() -> None:
    with_other_engines = model("anomaly", source=SCORES.source)
    a, others = A | {"regions": REGIONS}, pipelines(c=A)
    old, fresh = made(**pipelines(a=a, c=A)), made(**others)
    models: dict[str, AnyModel] = {**MODELS, "m": SCORES}
    expected = Plan(stop=("a",), start=("a",), switch=("c",), retire=("m",))
    assert plan(old, fresh, running(old, models), models, {**MODELS, "m": with_other_engines}) == expected


def test_while_everything_is_paused_nothing_is_stopped_and_all_is_to_be_started() -> None:
    old, fresh = made(), made(**pipelines(a=A | {"top_k": 1}))
    assert plan(old, fresh, {}, MODELS, MODELS) == Plan(start=("a", "b"))


def test_a_pipeline_whose_model_was_switched_before_is_compared_with_the_one_that_serves() -> None:
    options = made()
    switched = {**running(options), "a": Running(options.pipelines["a"], NEW)}
    assert plan(options, options, switched, MODELS, {**MODELS, "m": NEW}).switch == ()


LANGUAGE = cast("LanguageModel", Mock(spec=LanguageModel))


@pytest.mark.parametrize(
    ("old", "fresh", "expected"),
    [
        pytest.param(OLD, OLD, True, id="the same"),
        pytest.param(LANGUAGE, LANGUAGE, True, id="the same language model"),
        pytest.param(OLD, NEW, True, id="of the same task"),
        pytest.param(SCORES, model("anomaly", source=SCORES.source), True, id="the same, with other engines"),
        pytest.param(OLD, model("classification"), False, id="another task"),
        pytest.param(OLD, model(together=8), False, id="takes another number of samples together"),
        pytest.param(model("anomaly"), model("anomaly"), False, id="scores of two models can't be compared"),
        pytest.param(OLD, model(stateful=True), False, id="the new one keeps a state"),
        pytest.param(model(stateful=True), NEW, False, id="the old one keeps a state"),
        pytest.param(LANGUAGE, NEW, False, id="from a language model"),
        pytest.param(OLD, LANGUAGE, False, id="to a language model"),
    ],
)
def test_when_a_running_pipeline_can_change_to_another_model(old: AnyModel, fresh: AnyModel, expected: bool) -> None:
    assert can_switch(old, fresh) is expected
