"""What happens in a pipeline is an event entity, and a trigger for automations."""

from typing import Any

import pytest

from edge_agent import settings
from edge_agent.home_assistant.components import Component
from edge_agent.home_assistant.events import MAX_PARTS, is_trigger, of_events
from tests.home_assistant.test_entities import rendered, result

PHRASES = ("light on", "light off")
SPEECH = {"source": {"type": "microphone"}, "model": {"type": "speech", "phrases": PHRASES}}
SOUNDS: dict[str, Any] = {"source": {"type": "microphone"}, "model": "sounds", "smoothing": {}}


def components(options: dict[str, Any], labels: tuple[str, ...]) -> dict[str, Component]:
    return dict(of_events("hall", "edge/pi", settings.Pipeline.model_validate(options), labels))


@pytest.mark.parametrize(("predictions", "event"), [([{"label": "light on"}], '{"event_type": "light on"}'), ([], "")])
def test_a_phrase_that_was_said_is_an_event(predictions: list[Any], event: str) -> None:
    heard = components(SPEECH, PHRASES)["heard"]
    assert (heard["platform"], heard["event_types"]) == ("event", list(PHRASES))
    assert rendered(heard["value_template"], result(*predictions)) == event


def test_each_phrase_is_a_trigger_of_the_device() -> None:
    found = components(SPEECH, PHRASES)
    triggers = [one for one in found.values() if is_trigger(one)]
    assert [(one["subtype"], one["topic"]) for one in triggers] == [
        (phrase, "edge/pi/hall/result") for phrase in PHRASES
    ]
    said = [rendered(one["value_template"], result({"label": "light off"})) == one["payload"] for one in triggers]
    assert said == [False, True]
    assert [rendered(one["value_template"], result()) for one in triggers] == ["", ""]


@pytest.mark.parametrize(("event", "fires"), [("start", True), ("end", False)])
def test_a_label_of_sound_is_a_trigger_when_it_begins(event: str, fires: bool) -> None:
    triggers = [one for one in components(SOUNDS, ("bark", "siren")).values() if is_trigger(one)]
    said = rendered(triggers[0]["value_template"], {"event": event, "label": "bark"})
    assert (said == triggers[0]["payload"]) is fires
    assert triggers[0]["topic"] == "edge/pi/hall/event"


def test_only_labels_that_pass_the_filter_are_triggers() -> None:
    many = tuple(map(str, range(100)))
    filtered = SOUNDS | {"filters": {"labels": ["7", "8"]}}
    assert [one["subtype"] for one in components(filtered, many).values() if is_trigger(one)] == ["7", "8"]
    assert not any(map(is_trigger, components(SOUNDS, many[: MAX_PARTS + 1]).values()))
