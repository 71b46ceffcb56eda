"""The commands of data/commands.txt, and how answers to them are judged."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.language import load_engine
from edge_agent.language.generation import Answer, Generation, Job
from edge_agent.language.intents import vocabulary
from edge_agent.language.intents.answering import answers, recognizer_of
from edge_agent.language.prefixes import PrefixCache
from edge_agent.language.request import ask
from edge_agent.settings import text
from edge_agent.settings.intents import Device, Intents, Place

DATA = Path(__file__).with_name("data")
FILE, UNSEEN = DATA / "commands.txt", DATA / "unseen_commands.txt"
Intent = dict[str, Any]
KEYS = {"in": "in_minutes", "for": "for_minutes"}
# Anything that makes a device do something.
NO_ACTIONS = ("none", "state", "read")
OWN_DEVICES = (
    Device(name="aquarium", also=("fish tank",)),
    Device(name="coffee_machine", also=("espresso machine",)),
    Device(name="robot_mower", also=("mower",)),
    Device(name="christmas_tree"),
    Device(name="boiler"),
)
OWN_PLACES = (
    Place(name="nursery", also=("kids room",)),
    Place(name="barn"),
    Place(name="winter_garden", also=("conservatory",)),
    Place(name="guest_room"),
)


class Commands:
    """The bundle, run as the worker runs it.

    Args:
        folder: of the bundle.

    Attributes:
        generation: the model.
        known: its vocabulary.
    """

    def __init__(self, folder: Path) -> None:
        engine = load_engine(folder, "genai", 1, 128)
        found = vocabulary.read(folder)
        assert found is not None
        self.runtime, self.known = engine.runtime, found
        self.generation = Generation(engine, PrefixCache(engine, 10_000_000))

    def answer(self, job: Job) -> Answer:
        """Of the model alone."""
        return self.generation.answer(job, lambda _piece: None, lambda: False)

    def understand(self, command: str, names: Intents | None = None) -> list[Intent]:
        """The intents of a command, with the names of the user beside those of the bundle or those that are given."""

        def model(job: Job) -> Iterator[str | Answer]:
            yield self.answer(job)

        recognizer = recognizer_of(self.known, names or self.names())
        assert recognizer is not None
        *_, answer = answers(recognizer, job_of(command), model)
        assert isinstance(answer, Answer)
        found: list[Intent] = json.loads(answer.text)
        return found

    def names(self, min_probability: float = 0.8) -> Intents:
        """Those of the bundle and the user's own."""
        return Intents(
            devices=(*self.known.devices, *OWN_DEVICES),
            places=(*self.known.places, *OWN_PLACES),
            min_probability=min_probability,
        )


def job_of(prompt: str) -> Job:
    """A request for a prompt."""
    return ask(prompt, text.Generation()).job("", age=0.0)


@dataclass(frozen=True, slots=True)
class Typed:
    """A command, and what is meant."""

    kind: str
    text: str
    intents: tuple[Intent, ...]


@dataclass(slots=True)
class Score:
    """How many commands were understood.

    Attributes:
        right: every intent as it is meant; `none` for whatever reason.
        reasons: with the reason of `none` as well.
        wrong_actions: with an action that is not meant.
    """

    count: int = 0
    right: int = 0
    reasons: int = 0
    wrong_actions: int = 0

    def add(self, wanted: Sequence[Intent], found: Sequence[Intent]) -> None:
        """Counts one command."""
        self.count += 1
        self.reasons += [_told(one) for one in wanted] == [_told(one) for one in found]
        self.right += [_bare(one) for one in wanted] == [_bare(one) for one in found]
        self.wrong_actions += is_wrong_action(wanted, found)


def typed_commands(file: Path = FILE) -> list[Typed]:
    """All of a file."""
    kind, found = "", list[Typed]()
    for line in file.read_text(encoding="utf-8").splitlines():
        text, arrow, meant = line.partition(" => ")
        if line.startswith("# ") and not arrow:
            kind = line.removeprefix("# ")
        elif arrow:
            found.append(Typed(kind, text, tuple(_intent(one.split()) for one in meant.split(" ; "))))
    return found


def scores(understand: Callable[[str], Sequence[Intent]], file: Path = FILE) -> dict[str, Score]:
    """The score of each kind, and of all of them."""
    found = {"all": Score()}
    for one in typed_commands(file):
        intents = understand(one.text)
        for kind in (one.kind, "all"):
            found.setdefault(kind, Score()).add(one.intents, intents)
    return found


def is_wrong_action(wanted: Sequence[Intent], found: Sequence[Intent]) -> bool:
    """Whether something is done that is not meant."""
    return any(one["intent"] not in NO_ACTIONS and one not in wanted for one in found)


def _intent(words: Sequence[str]) -> Intent:
    intent: Intent = {"intent": words[0]}
    for word in words[1:]:
        key, stated, value = word.partition("=")
        if word.startswith("@"):
            intent["place"] = word[1:]
        elif stated:
            intent[KEYS.get(key, key)] = value if key == "time" else float(value) if "." in value else int(value)
        else:
            intent["reason" if words[0] == "none" else "device"] = word
    return intent


def _told(intent: Intent) -> Intent:
    return {key: value for key, value in intent.items() if key != "guess"}


def _bare(intent: Intent) -> Intent:
    return {"intent": "none"} if intent["intent"] == "none" else intent
