"""What a pipeline does besides publishing: only what is listed, not too often, and said when it fails."""

import json
from typing import Any

import pytest
from gpiod.line import Value

from edge_agent import settings
from edge_agent.errors import EdgeAgentError
from edge_agent.publish.actions import Actions
from edge_agent.samples import Prediction
from tests.broker import wait_until
from tests.stand_ins.gpiod_lines import Chip

ON, OFF = Prediction("light on", 0, 0.9), Prediction("light off", 1, 0.8)


class Taken:
    """The actions of a pipeline, and what has come of them."""

    def __init__(self, *actions: dict[str, Any]) -> None:
        self.sent: list[tuple[str, str, bool]] = []
        self.errors: list[str] = []
        stated = [settings.Action.model_validate(action) for action in actions]
        self.actions = Actions(
            "voice", "porch-pi", stated, lambda *message: self.sent.append(message), self._note
        )  # fmt: skip

    def _note(self, error: EdgeAgentError) -> None:
        self.errors.append(str(error))


def light(label: str, payload: Any, **more: Any) -> dict[str, Any]:
    return {"when": {"labels": [label]}, "publish": {"topic": "porch/light/set", "payload": payload}} | more


def test_a_result_sends_the_message_that_stands_at_its_label() -> None:
    taken = Taken(light("light on", "ON"), light("light off", "OFF", min_interval=0))
    taken.actions.on_result([ON])
    taken.actions.on_result([OFF])
    taken.actions.on_result([Prediction("gate", 2, 1.0)])
    taken.actions.on_result([])
    assert taken.sent == [("porch/light/set", "ON", False), ("porch/light/set", "OFF", False)]
    assert taken.actions.facts() == {"done": 2, "limited": 0, "failed": 0}


def test_a_result_that_is_not_sure_enough_does_nothing() -> None:
    action = light("light on", "ON")
    action["when"]["min_confidence"] = 0.95
    taken = Taken(action)
    taken.actions.on_result([ON])
    assert taken.sent == []


def test_an_action_is_taken_no_more_often_than_it_may_be() -> None:
    taken = Taken(light("light on", "ON", min_interval=3600), light("light on", "again", min_interval=0))
    for _ in range(5):
        taken.actions.on_result([ON])
    assert [payload for _, payload, _ in taken.sent].count("ON") == 1
    assert taken.actions.facts() == {"done": 6, "limited": 4, "failed": 0}


@pytest.mark.parametrize("label", ['a "quoted" one', "{confidence}", "{pipeline"])
def test_what_a_model_says_stays_a_text_of_a_message_in_json(label: str) -> None:
    taken = Taken({"publish": {"topic": "x", "payload": {"said": "{label}", "list": ["{pipeline}"], "n": 1}}})
    taken.actions.on_result([Prediction(label, 0, 0.9)])
    [(_, payload, _)] = taken.sent
    assert json.loads(payload) == {"said": label, "list": ["voice"], "n": 1}


def test_an_event_sends_the_message_of_its_kind_and_zone() -> None:
    taken = Taken(
        {"when": {"event": "enter", "zone": "path"}, "publish": {"topic": "lamp", "payload": "ON"}},
        {"when": {"event": "leave"}, "publish": {"topic": "lamp", "payload": "OFF"}},
    )
    taken.actions.on_result([ON])
    taken.actions.on_event({"event": "enter", "zone": "lawn", "label": "person", "confidence": 0.9})
    taken.actions.on_event({"event": "enter", "zone": "path", "label": "person", "confidence": 0.9})
    taken.actions.on_event({"event": "leave", "label": "person"})
    assert [payload for _, payload, _ in taken.sent] == ["ON", "OFF"]


def test_a_line_is_set_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip(monkeypatch)
    taken = Taken(
        {"when": {"labels": ["light on"]}, "gpio": {"line": "GPIO17"}},
        {"when": {"labels": ["light off"]}, "gpio": {"line": "GPIO17", "value": "off"}},
    )
    taken.actions.on_result([ON])
    taken.actions.on_result([OFF])
    assert chip.written == [("GPIO17", Value.ACTIVE), ("GPIO17", Value.INACTIVE)]
    taken.actions.close()
    assert "GPIO17" not in chip.held


def test_a_pulse_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip(monkeypatch)
    taken = Taken({"gpio": {"line": 1, "pulse": "20ms"}})
    taken.actions.on_result([ON])
    wait_until(lambda: len(chip.written) == 2, 5, "the end of the pulse")
    assert chip.written == [("GPIO27", Value.ACTIVE), ("GPIO27", Value.INACTIVE)]


def test_a_pulse_ends_with_its_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip(monkeypatch)
    taken = Taken({"gpio": {"line": 1, "pulse": "1h"}})
    taken.actions.on_result([ON])
    taken.actions.close()
    assert chip.written == [("GPIO27", Value.ACTIVE), ("GPIO27", Value.INACTIVE)]


@pytest.mark.parametrize(
    "output", [{"line": "ACT_LED"}, {"line": "GPIO99"}, {"line": 0, "chip": "/dev/gpiochip9"}], ids=str
)
def test_a_line_that_can_not_be_set_is_reported_and_counted(
    output: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    Chip(monkeypatch)
    taken = Taken({"gpio": output, "min_interval": 0})
    taken.actions.on_result([ON])
    taken.actions.on_result([ON])
    assert taken.actions.facts() == {"done": 0, "limited": 0, "failed": 2}
    assert all(str(output["line"]) in error and "actions.0" in error for error in taken.errors)


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"publish": {"topic": "a/#"}},
        {"publish": {"topic": "a", "payload": "x" * 20_000}},
        {"publish": {"topic": "a"}, "when": {"zone": "path"}},
        {"gpio": {"line": 1, "value": "maybe"}},
    ],
)
def test_an_action_that_makes_no_sense_is_refused(action: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        settings.Action.model_validate(action)
