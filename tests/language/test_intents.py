"""Commands in plain English become intents, or are refused with a reason: the bundle `commands` and its rules."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.models.shipped import shipped
from edge_agent.settings.intents import Intents
from tests.broker import Mosquitto, Subscriber
from tests.command_line import edge_agent
from tests.daemon_process import Daemon, configuration
from tests.language.typed_commands import UNSEEN, Commands, Score, scores, typed_commands
from tests.pages import ROOT, blocks

pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
pytest.importorskip("llguidance", reason="the extra `language` is not installed")

PAGE = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def commands() -> Commands:
    return Commands(shipped("commands"))


@pytest.fixture(scope="module")
def found(commands: Commands) -> dict[str, Score]:
    return scores(commands.understand)


def example() -> dict[str, Any]:
    """The example of the page."""
    [block] = [block for block in blocks("yaml", "# agent.yaml", "language.md") if "coffee_machine" in block.text]
    document: dict[str, Any] = yaml.safe_load(block.text)
    return document


def names() -> Intents:
    return Intents.model_validate(example()["pipelines"]["home"]["text"]["intents"])


def test_there_are_at_least_300_commands_and_none_twice() -> None:
    texts = [one.text for one in typed_commands()]
    assert len(set(texts)) == len(texts) >= 300


def test_nine_of_ten_commands_as_people_type_them_are_right(found: dict[str, Score]) -> None:
    assert found["all"].right >= 0.9 * found["all"].count


def test_one_of_a_hundred_does_what_was_not_meant_at_most(found: dict[str, Score]) -> None:
    assert found["all"].wrong_actions <= 0.01 * found["all"].count


def test_nothing_is_done_that_was_forbidden(found: dict[str, Score]) -> None:
    assert found["negation"].wrong_actions == 0


@pytest.mark.parametrize("kind", ["out of range", "unknown device", "out of scope", "own names", "question"])
def test_no_action_is_wrong_where_nothing_or_something_else_was_asked_for(found: dict[str, Score], kind: str) -> None:
    assert found[kind].wrong_actions == 0


def test_the_card_has_the_figures_of_this_model(found: dict[str, Score]) -> None:
    card = (shipped("commands") / "README.md").read_text()
    for kind, one in found.items():
        assert f"| {kind} | {one.count} | {one.right / one.count:.1%} |" in card


def test_the_card_has_the_figures_for_commands_that_nothing_was_corrected_by(commands: Commands) -> None:
    unseen = scores(commands.understand, UNSEEN)["all"]
    card = (shipped("commands") / "README.md").read_text()
    assert f"{unseen.right} of {unseen.count} are right, and {unseen.wrong_actions} are wrong actions" in card


def test_every_number_of_an_answer_stands_in_the_words(commands: Commands) -> None:
    for one in typed_commands():
        numbers = set(re.findall(r"\d+(?:\.\d+)?", one.text))
        if numbers and not re.search("hour|half|quarter|percent|hundred|one|two|five|ten|twent|thirt|noon", one.text):
            values = [str(intent["value"]) for intent in commands.understand(one.text) if "value" in intent]
            assert set(values) <= numbers, one.text


def test_the_answers_on_the_page_are_given(commands: Commands) -> None:
    rows = re.findall(r"^\| ([a-z' 0-9]+) \| `(\{.*\})` \|$", PAGE, re.MULTILINE)
    rows = [(text, json.loads(answer)) for text, answer in rows if text != "something that is not clear"]
    assert len(rows) > 5
    for text, answer in rows:
        assert commands.understand(text, names()) == [answer], text


def test_an_intent_below_the_probability_is_asked_back(commands: Commands) -> None:
    strict = names().model_copy(update={"min_probability": 1.0})
    [intent] = commands.understand("turn the lamp off", strict)
    assert intent == {"intent": "none", "reason": "unsure", "guess": {"intent": "turn_off", "device": "light"}}


def test_a_device_that_is_not_in_the_list_is_not_known(commands: Commands) -> None:
    assert commands.understand("turn the tv off", names()) == [{"intent": "none", "reason": "unknown_device"}]


def test_a_request_without_end_is_refused_at_once(commands: Commands) -> None:
    for text in ("turn on the light and " * 1000, "a" * 100_000, "9" * 100_000, "-" * 100_000, "?!.,;" * 10_000):
        assert all(intent["intent"] == "none" for intent in commands.understand(text))


def test_a_command_over_mqtt_is_answered_with_a_list(mosquitto: Mosquitto, tmp_path: Path) -> None:
    [wanted] = [json.loads(block.text) for block in blocks("json", page="language.md") if "winter_garden" in block.text]
    [line] = [line for line in PAGE.splitlines() if "mosquitto_pub -t house/command" in line]
    command = line.partition("-m '")[2].removesuffix("'")
    config = configuration(mosquitto, "home-pi", **example())
    with Subscriber(mosquitto.port, "edge/home-pi/+/result") as listener, Daemon(tmp_path, config):
        listener.publish("house/command", command.encode())
        listener.publish("house/command", b"don't open the door")
        messages = listener.wait_for(lambda message: message.topic.endswith("home/result"), 2, 60.0)
    first, second = (json.loads(message.payload) for message in messages[:2])
    assert (first["json"], first["finish_reason"]) == (wanted, "stop")
    assert (second["json"], second["finish_reason"]) == ([{"intent": "none", "reason": "negation"}], "refused")


def test_names_for_a_model_that_recognizes_no_commands_are_an_error(mosquitto: Mosquitto, tmp_path: Path) -> None:
    options = example()
    options["models"]["commands"]["path"] = "intents"
    config = configuration(mosquitto, "home-pi", **options)
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(config))
    done = edge_agent("check", "-c", "agent.yaml", cwd=tmp_path)
    assert done.returncode != 0
    assert "text.intents" in done.stdout + done.stderr


OFF = {"intent": "turn_off", "device": "light"}
UNSUPPORTED = {"intent": "none", "reason": "unsupported"}


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("lights off everywhere", OFF),
        ("switch every lamp off in the entire flat", OFF),
        ("turn each and every light off", OFF),
        ("turn off the lamp in this room", OFF),
        ("turn off the light every day", UNSUPPORTED),
        ("turn off every light every day", UNSUPPORTED),
        ("turn off the light in the ballroom", {"intent": "none", "reason": "unknown_place"}),
        ("set the kitchen brightness to 30", {"intent": "set", "device": "light", "place": "kitchen", "value": 30}),
        ("set a timer for 2 hours and 5 minutes", {"intent": "timer", "for_minutes": 125}),
        ("set a timer for an hour and 10 minutes", {"intent": "timer", "for_minutes": 70}),
        ("set a timer for 2 minutes and 30 seconds", UNSUPPORTED),
        ("remove ten minutes from the timer", UNSUPPORTED),
        ("add 3 minutes to the timer", UNSUPPORTED),
    ],
)
def test_all_of_them_brightness_and_timers(commands: Commands, command: str, wanted: dict[str, Any]) -> None:
    found = commands.understand(command)
    assert found[0] == wanted
    assert all(intent["intent"] == "none" for intent in found[1:])


ON = {"intent": "turn_on", "device": "light"}
HALL = {"intent": "set", "device": "light", "place": "hall"}


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("light up the hall", ON | {"place": "hall"}),
        ("would you please light the attic up", ON | {"place": "attic"}),
        ("illuminate the whole house", ON),
        ("turn on all of the house lights", ON),
        ("switch off the lighting in the hall", OFF | {"place": "hall"}),
        ("set the hall lamp to maximum brightness", HALL | {"value": 100}),
        ("hall light brightness to minimum", HALL | {"value": 1}),
        ("turn the heating to max", {"intent": "set", "device": "heating", "value": 30}),
        ("put the hall at 30 %", HALL | {"value": 30}),
        ("set the temperature to nineteen point five degrees", {"intent": "set", "device": "heating", "value": 19.5}),
        ("close the shades", {"intent": "close", "device": "blinds"}),
    ],
)
def test_what_is_meant_by_other_words(commands: Commands, command: str, wanted: dict[str, Any]) -> None:
    assert commands.understand(command) == [wanted]


@pytest.mark.parametrize(
    ("said", "minutes"),
    [
        ("1/2 an hour", 30),
        ("1 1/2 hours", 90),
        ("¾ hour", 45),
        ("three quarters of an hour", 45),
        ("an hour and a quarter", 75),
        ("one and a half hours", 90),
        ("two hours thirty", 150),
        ("1h30", 90),
    ],
)
def test_fractions_of_hours(commands: Commands, said: str, minutes: int) -> None:
    assert commands.understand(f"set a timer for {said}") == [{"intent": "timer", "for_minutes": minutes}]


@pytest.mark.parametrize(
    "command",
    [
        "turn off the 5 minute timer",
        "set a timer for a third of an hour",
        "set a timer for a minute and a half",
        "set timer 2 for 5 minutes",
        "set the heating to 20 degrees fahrenheit",
        "set the heating to 25f",
        "turn on one of the lights",
        "don't light up the hall",
        "set the hall to 30",
        "the highest shelf light on",
        "go back to the last song on the tv",
        "set the lamp to purple",
        "turn off the light on the balcony",
        "light on in sauna",
        "turn off the lights outside",
    ],
)
def test_what_only_resembles_a_command_is_not_done(commands: Commands, command: str) -> None:
    assert [intent["intent"] for intent in commands.understand(command)] == ["none"]


def test_a_name_of_the_configuration_stands_before_a_word_for_something_else(commands: Commands) -> None:
    own = Intents.model_validate({"devices": [{"name": "telly"}, {"name": "living room lamp"}]})
    assert commands.understand("turn the telly on", own) == [{"intent": "turn_on", "device": "telly"}]
    assert commands.understand("living room lamp off", own) == [{"intent": "turn_off", "device": "living room lamp"}]
