"""Home Assistant's own integration for OpenAI has a language model of this agent switch a light."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.broker import Mosquitto, free_port, wait_until
from tests.daemon_process import Daemon, configuration
from tests.home_assistant.installed import HomeAssistant
from tests.home_assistant.test_real import PATIENCE_S
from tests.language.model_files import Shape, write_model
from tests.pages import ROOT

pytestmark = [pytest.mark.home_assistant, pytest.mark.timeout(900)]

TOKEN = "a token of sixteen letters"
LIGHT = """\
input_boolean: {relay: {name: relay}}
template:
  - light:
      - name: Porch light
        state: "{{ is_state('input_boolean.relay', 'on') }}"
        turn_on: {action: input_boolean.turn_on, target: {entity_id: input_boolean.relay}}
        turn_off: {action: input_boolean.turn_off, target: {entity_id: input_boolean.relay}}
"""
ANSWERS = {"first": '{"name":"HassTurnOn","arguments":{"name":"Porch light"}}', "then": "The porch light is on."}


@pytest.fixture
def port(broker: Mosquitto, tmp_path: Path) -> Iterator[int]:
    """Where a model is served that answers by a script; how it is asked, and what it may answer, is real."""
    pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
    port = free_port()
    write_model(tmp_path / "model", Shape(context=32_768))
    (tmp_path / "token").write_text(TOKEN)
    config = configuration(
        broker,
        "assistant-pi",
        models={"model": {"path": "model", "language": {"context": 32_768}}},
        pipelines={
            "assistant": {
                "source": {"type": "mqtt", "topic": "assistant/ask"},
                "model": "model",
                "text": {"openai": True},
            }
        },
        http={"listen": f"127.0.0.1:{port}", "token_file": "token"},
    )
    folders = f"{ROOT / 'tests' / 'stand_ins' / 'scripted_genai'}:{ROOT}"
    with Daemon(tmp_path, config, environment={"PYTHONPATH": folders, "SCRIPTED_ANSWERS": json.dumps(ANSWERS)}):
        yield port


def test_a_conversation_agent_turns_a_light_on(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The form has no field for the address: the official client, which the integration uses, takes it from here.
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    with HomeAssistant(LIGHT) as house:
        agent = agent_of(house)
        assert house.template("{{ states('light.porch_light') }}") == "off"
        said = house.ask("conversation/process", {"text": "turn the porch light on", "agent_id": agent})
        assert said["response"]["response_type"] == "action_done", said
        assert said["response"]["speech"]["plain"]["speech"] == ANSWERS["then"]
        assert house.template("{{ states('light.porch_light') }}") == "on"


def agent_of(house: HomeAssistant) -> str:
    """Sets the integration up, with the pipeline as the model; returns the id of its agent."""
    flows = "config/config_entries/flow"
    form = house.ask(flows, {"handler": "openai_conversation"})
    entry = house.ask(f"{flows}/{form['flow_id']}", {"api_key": TOKEN})["result"]["entry_id"]

    def states() -> list[Any]:
        entries = house.ask("config/config_entries/entry")
        return [one["state"] for one in entries if one["entry_id"] == entry]

    wait_until(lambda: states() == ["loaded"], PATIENCE_S, "the integration is loaded")
    flows = "config/config_entries/subentries/flow"
    form = house.ask(flows, {"handler": [entry, "conversation"]})
    for answers in (
        {"name": "porch pi", "llm_hass_api": ["assist"], "recommended": False},
        {"chat_model": "assistant", "max_tokens": 200},
        {},
    ):
        form = house.ask(f"{flows}/{form['flow_id']}", answers)
    assert form["type"] == "create_entry", form
    agent = "conversation.porch_pi"
    wait_until(lambda: agent in [one["entity_id"] for one in house.ask("states")], PATIENCE_S, "there is an agent")
    return agent
