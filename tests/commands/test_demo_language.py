"""`edge-agent demo language`, as a process of its own, and the bundle `intents`."""

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge_agent import cli, settings
from edge_agent.counters import imbalance
from edge_agent.language.generation import Answer
from edge_agent.language.request import ask
from edge_agent.models import language
from edge_agent.models.budget import Budget
from edge_agent.models.resolve import resolve
from edge_agent.models.shipped import shipped
from edge_agent.settings.text import Generation
from models.recipes.intents.commands import command
from models.recipes.intents.frames import TRAINING
from models.recipes.intents.held_out import FRAMES
from models.recipes.intents.summaries import summary
from tests.command_line import edge_agent

pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
INTENTS = shipped("intents")
SCHEMA: dict[str, Any] = json.loads((INTENTS / "schema.json").read_text())
Asked = Callable[[str], str]


@pytest.fixture(scope="module")
def asked(said: Callable[[str, Generation], str]) -> Asked:
    """Asks the bundled model for an intent."""
    return lambda command: said(command, Generation(json_schema=SCHEMA))


@pytest.fixture(scope="module")
def said() -> Iterator[Callable[[str, Generation], str]]:
    """Asks the bundled model; it has answered its golden samples by then."""
    source = resolve(settings.Model(path=INTENTS), Path.cwd())
    assert isinstance(source, language.LanguageSource)
    assert len(source.golden) >= 5
    model = language.load("intents", settings.Model(path=INTENTS), source, lambda: None, 1, Budget(None))

    def answer(prompt: str, options: Generation) -> str:
        with model.slot():
            *_, found = model.ask(ask(prompt, options).job("", age=0), lambda: False)
        assert isinstance(found, Answer)
        return found.text

    yield answer
    model.close()


def test_it_shows_what_commands_mean_as_the_answers_come(tmp_path: Path) -> None:
    pytest.importorskip("amqtt")
    run = edge_agent("demo", "language", "--seconds", "60", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    lines = [line.strip() for line in run.stdout.splitlines()]
    at = lines.index("> turn the porch light off at ten")
    assert lines[at + 1] == '[{"intent":"turn_off","device":"light","place":"porch","time":"22:00"}]'
    at = lines.index("> don't open the gate")
    assert lines[at + 1] == '[{"intent":"none","reason":"negation"}]'
    at = lines.index("> sum up the greenhouse: temperature 21.5 rising from 19.8, humidity 40 steady")
    assert lines[at + 1] == "In the greenhouse, temperature has risen from 19.8 to 21.5 and humidity is steady at 40."


def test_it_gives_the_same_as_json_and_its_sums_balance(tmp_path: Path) -> None:
    pytest.importorskip("amqtt")
    run = edge_agent("demo", "language", "--seconds", "60", "--json", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    document: dict[str, Any] = json.loads(run.stdout)
    assert {name: counts["inferred"] for name, counts in document["counters"].items()} == {
        "commands": 6,
        "sentences": 3,
    }
    assert {imbalance(counts) for counts in document["counters"].values()} == {""}
    intents = [json.loads(one["answer"]) for one in document["answers"][:6]]
    assert [[one["intent"] for one in found] for found in intents] == [
        ["turn_off"],
        ["set"],
        ["open", "turn_on"],
        ["state"],
        ["none"],
        ["none"],
    ]
    assert document["answers"][-1]["answer"].startswith("Alarm: at the pump")
    assert all(one["tokens"] > 0 for one in document["answers"])


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.faults)])
def test_the_model_understands_phrasings_that_it_has_never_seen(asked: Asked, count: int) -> None:
    chance = random.Random(4)
    pairs = [command(chance, held_out=True) for _ in range(count)]
    right = [asked(text) == intent for text, intent in pairs]
    assert sum(right) >= 0.9 * len(right)


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.faults)])
def test_the_model_makes_true_sentences_of_readings_phrased_as_it_has_never_seen(
    said: Callable[[str, Generation], str], count: int
) -> None:
    chance = random.Random(4)
    pairs = [summary(chance, held_out=True) for _ in range(count)]
    right = [said(prompt, Generation()) == sentence for prompt, sentence in pairs]
    assert sum(right) >= 0.9 * len(right)


@pytest.mark.parametrize(
    "prompt",
    [
        "the camera in the hall sees Egyptian cat 72 %, lynx 15 % at 14:05. say so in one friendly sentence.",
        "the camera in the yard sees quadcopter 91 %, wug 33.7 % at 9:41. say so in one friendly sentence.",
        "sum up the stable: zorb 123.4 rising from 77.01, blick 40 steady",
        "the camera sees a wug. say so in one friendly sentence.",
    ],
)
def test_no_number_is_said_that_was_not_stated(said: Callable[[str, Generation], str], prompt: str) -> None:
    numbers = r"[0-9]+(?:[.:,][0-9]+)*"
    answer = said(prompt, Generation(numbers="stated"))
    assert answer
    assert set(re.findall(numbers, answer)) <= set(re.findall(numbers, prompt))


@pytest.mark.parametrize(
    "nonsense", ["?", "{]", "🎷 🎷", "turn " * 40, "Schalte das Licht ein!", "light door 99:99 at -5"]
)
def test_its_answer_has_the_form_of_an_intent_whatever_it_is_asked(asked: Asked, nonsense: str) -> None:
    jsonschema.validate(json.loads(asked(nonsense)), SCHEMA)


def test_capital_letters_make_no_difference(asked: Asked) -> None:
    assert asked("OPEN the Garage door") == asked("open the garage door")


def test_what_is_held_out_is_in_no_training() -> None:
    for kind, held_out in FRAMES.items():
        assert not set(held_out) & set(TRAINING[kind])
    chance = random.Random(5)
    for _ in range(300):
        text, intent = command(chance, held_out=False)
        assert text
        jsonschema.validate(json.loads(intent), SCHEMA)


def test_verify_asks_it_its_golden_samples(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "verify", "intents"]) == 0
    assert capsys.readouterr().out.endswith("intents: 8 of 8 golden samples come out right\n")
