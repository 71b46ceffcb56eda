"""`edge-agent demo language`, as a process of its own, and the model that it shows."""

import importlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from edge_agent import cli, settings
from edge_agent.counters import imbalance
from edge_agent.language.generation import Answer
from edge_agent.language.request import ask
from edge_agent.models import language
from edge_agent.models.budget import Budget
from edge_agent.models.shipped import shipped
from edge_agent.text_settings import Generation
from tests.command_line import PROJECT, edge_agent

pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
INTENTS = shipped("intents")
SCHEMA: dict[str, Any] = json.loads((INTENTS / "schema.json").read_text())
Asked = Callable[[str], str]


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    """Asks the bundled model for an intent; it has answered its golden samples by then."""
    source = language.find(INTENTS)
    assert source is not None
    assert len(source.golden) >= 5
    model = language.load("intents", settings.Model(path=INTENTS), source, lambda: None, 1, Budget(None))

    def answer(command: str) -> str:
        with model.turn():
            *_, found = model.ask(ask(command, Generation(json_schema=SCHEMA)).job("", age=0), lambda: False)
        assert isinstance(found, Answer)
        return found.text

    yield answer
    model.close()


@pytest.fixture(scope="module")
def commands() -> Iterator[ModuleType]:
    """The generator of commands that the model was trained on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PROJECT / "models" / "recipes")
        yield importlib.import_module("intents.commands")


def test_it_shows_what_commands_mean_as_the_answers_come(tmp_path: Path) -> None:
    pytest.importorskip("amqtt")
    run = edge_agent("demo", "language", "--seconds", "60", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    lines = [line.strip() for line in run.stdout.splitlines()]
    at = lines.index("> turn the porch light off at ten")
    assert lines[at + 1] == '{"intent":"turn_off","device":"light","place":"porch","time":"22:00"}'


def test_it_gives_the_same_as_json_and_its_sums_balance(tmp_path: Path) -> None:
    pytest.importorskip("amqtt")
    run = edge_agent("demo", "language", "--seconds", "60", "--json", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    document: dict[str, Any] = json.loads(run.stdout)
    assert document["counters"]["inferred"] == len(document["commands"]) == 6
    assert imbalance(document["counters"]) == ""
    for command in document["commands"]:
        jsonschema.validate(command["intent"], SCHEMA)
        assert command["tokens"] > 5


def test_the_model_understands_phrasings_that_it_has_never_seen(asked: Asked, commands: ModuleType) -> None:
    chance = random.Random(4)
    pairs = [commands.command(chance, held_out=True) for _ in range(200)]
    right = [asked(text) == intent for text, intent in pairs]
    assert sum(right) >= 0.9 * len(right)


@pytest.mark.parametrize(
    "nonsense", ["?", "{]", "🎷 🎷", "turn " * 40, "Schalte das Licht ein!", "light door 99:99 at -5"]
)
def test_its_answer_has_the_form_of_an_intent_whatever_it_is_asked(asked: Asked, nonsense: str) -> None:
    jsonschema.validate(json.loads(asked(nonsense)), SCHEMA)


def test_capital_letters_make_no_difference(asked: Asked) -> None:
    assert asked("OPEN the Garage door") == asked("open the garage door")


def test_what_is_held_out_is_in_no_training(commands: ModuleType) -> None:
    training = importlib.import_module("intents.frames").TRAINING
    for kind, held_out in importlib.import_module("intents.held_out").FRAMES.items():
        assert not set(held_out) & set(training[kind])
    chance = random.Random(5)
    for _ in range(300):
        text, intent = commands.command(chance, held_out=False)
        assert text
        jsonschema.validate(json.loads(intent), SCHEMA)


def test_verify_asks_it_its_golden_samples(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "verify", "intents"]) == 0
    assert capsys.readouterr().out.endswith("intents: 5 of 5 golden samples come out right\n")
