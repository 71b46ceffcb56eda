"""Measures the bundle with sentences that others wrote: the English tests of github.com/home-assistant/intents.

The sentences (CC BY 4.0) are read from a checkout of that repository; none is part of this project. They come in
groups, those of one meaning. Half of the groups are for looking at what fails (`--half seen`); the figures on the card
are those of the other half, without the sentences that stand in the first one as well. Commands that are to be done
later are left out: the tests do not say as slots what they mean.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edge_agent.models.shipped import shipped
from edge_agent.settings.intents import Device, Intents, Place
from tests.language.typed_commands import Commands, Intent, is_wrong_action

NOT = ("don't", "please do not", "never", "no need to")
LEAST, MOST = 5, 30
"""Degrees that a heater of the bundle can be set to."""
# What the bundle has intents for. Of the rest, nothing is to be done.
NOTHING = "not for it"
SWITCHED = ("light", "switch", "fan", "scene", "script", "media_player", "vacuum", "climate")
OPENED = ("cover", "lock", "valve")
OF_CLASS = {"curtain": "blinds", "blind": "blinds", "shade": "blinds", "shutter": "blinds"}
OF_CLASS |= {"window": "window", "door": "door", "gate": "gate", "garage": "door"}
OF_DOMAIN = {"light": "light", "fan": "fan", "lock": "door", "valve": "valve"}
PERCENTS = {"HassSetPosition": "position", "HassSetVolume": "volume_level", "HassLightSet": "brightness"}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, and what is meant.

    Attributes:
        kind: of meaning.
        answers: any of them is right; empty: whatever does nothing.
    """

    kind: str
    text: str
    answers: tuple[Intent, ...]


class Household:
    """The areas, floors and entities of the tests, beside the devices of the bundle."""

    def __init__(self, known: Sequence[Device], fixtures: Sequence[Mapping[str, Any]], places: Sequence[str]) -> None:
        said = {phrase for one in known for phrase in (one.name.replace("_", " "), *one.also)}
        entities = {one["name"].lower(): one.get("domain") or one["id"].partition(".")[0] for one in fixtures}
        self.domains = {name: domain for name, domain in entities.items() if domain in (*SWITCHED, *OPENED)}
        own = [name for name in self.domains if name not in said]
        self.devices = [*known, *(Device(name=_id(name), opens=self.domains[name] in OPENED) for name in own)]
        self.places = [Place(name=_id(name)) for name in places]

    def device(self, slots: Mapping[str, Any], domain: str) -> Device | None:
        """The one that the slots mean."""
        name = str(slots.get("name", "all")).lower()
        if name == "all":
            name = OF_CLASS.get(slots.get("device_class", ""), OF_DOMAIN.get(domain, ""))
        for one in self.devices:
            if name in (one.name.replace("_", " "), *one.also):
                return one
        return None


def _id(name: str) -> str:
    return name.replace(" ", "_")


def household(known: Sequence[Device], tests: Path) -> Household:
    """That of all files of the tests."""
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(tests.rglob("*.yaml"))]
    entities = [one for file in files for one in file.get("entities", ()) if "id" in one or "domain" in one]
    places = [one["name"].lower() for file in files for key in ("areas", "floors") for one in file.get(key, ())]
    return Household(known, entities, sorted(set(places)))


def sentences(tests: Path, home: Household, half: str) -> Iterator[Sentence]:
    """Those of a half: `seen` or `unseen`."""
    seen = {text.lower() for seen, group, _ in _groups(tests) if seen for text in group["sentences"]}
    for is_seen, group, name in _groups(tests):
        if "conversation_command" in group.get("intent", {}).get("slots", {}):
            continue
        kind, answers = meaning(name, group, home)
        for text in group["sentences"]:
            if is_seen == (half == "seen") and (is_seen or text.lower() not in seen):
                yield Sentence(kind, text, answers)


def _groups(tests: Path) -> Iterator[tuple[bool, dict[str, Any], str]]:
    """Whether it may be looked at, the group, and the name of its intent."""
    for file in sorted(tests.rglob("*.yaml")):
        if file.name == "_fixtures.yaml":
            continue
        name = file.relative_to(tests).as_posix()
        for number, group in enumerate(yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]):
            # Named as in the repository.
            drawn = hashlib.sha256(f"tests/en/{name}:{number}".encode()).digest()[0]
            yield drawn % 2 == 0, group, group.get("intent", {}).get("name") or file.parent.name


def meaning(name: str, group: Mapping[str, Any], home: Household) -> tuple[str, tuple[Intent, ...]]:
    """The kind of a group, and the answers that are right."""
    intent = group.get("intent", group)
    slots, context = intent.get("slots", {}), intent.get("context", {})
    known = home.domains.get(str(slots.get("name", "")).lower(), "")
    domain = str(slots.get("domain") or known or context.get("domain", ""))
    device = home.device(slots, "light" if name == "HassLightSet" else domain)
    stated = [slots[key] for key in ("area", "floor") if key in slots and slots[key] != context.get(key)]
    if slots.get("device_class") == "garage":
        stated = ["garage"]
    where = {"place": _id(str(stated[-1]).lower())} if stated else {}
    found = _told_what_to_do(name, domain, device) if device else None
    found = found or _told_a_value(name, slots, device) or _of_the_rest(name, slots)
    if found is None:
        return f"{NOTHING}: {_subject(name)}", ()
    kind, answer = found
    return kind, (answer if answer["intent"] == "timer" else answer | where,)


def _told_what_to_do(name: str, domain: str, device: Device) -> tuple[str, Intent] | None:
    verbs = {"lock": ("unlock", "lock"), "cover": ("close", "open"), "valve": ("close", "open")}
    if name not in ("HassTurnOn", "HassTurnOff", "HassVacuumStart"):
        return None
    verb = verbs.get(domain, ("turn_off", "turn_on"))[name != "HassTurnOff"]
    kind = "covers, locks, valves" if device.opens else "lights, fans, scenes"
    return kind, {"intent": verb, "device": device.name}


def _told_a_value(name: str, slots: Mapping[str, Any], device: Device | None) -> tuple[str, Intent] | None:
    if device is not None and PERCENTS.get(name) in slots:
        return "brightness, position, volume", {"intent": "set", "device": device.name, "value": slots[PERCENTS[name]]}
    if name == "HassClimateSetTemperature" and LEAST <= slots["temperature"] <= MOST:
        heater = device.name if device is not None else "heating"
        return "temperature", {"intent": "set", "device": heater, "value": slots["temperature"]}
    return None


def _of_the_rest(name: str, slots: Mapping[str, Any]) -> tuple[str, Intent] | None:
    if name == "HassClimateGetTemperature" and "name" not in slots:
        return "temperature", {"intent": "read", "device": "temperature"}
    if name == "HassStartTimer" and "seconds" not in slots:
        return "timers", {"intent": "timer", "for_minutes": 60 * slots.get("hours", 0) + slots.get("minutes", 0)}
    return None


def _subject(name: str) -> str:
    if "Timer" in name:
        return "timers that run, seconds"
    if "Media" in name or "Volume" in name:
        return "media"
    return "questions" if "Get" in name else "colours, lists, chat"


def main() -> None:
    """Prints the figures, by kind, and what failed of the half that may be looked at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="folder of the repository")
    parser.add_argument("--half", choices=("seen", "unseen"), default="unseen")
    options = parser.parse_args()

    tests: Path = options.checkout / "tests" / "en"
    commands = Commands(shipped("commands"))
    home = household(commands.known.devices, tests)
    names = Intents(devices=tuple(home.devices), places=tuple(home.places))
    counts, forbidden = dict[str, list[int]](), 0
    for one in sentences(tests, home, options.half):
        found = commands.understand(one.text, names)
        wrong_action = is_wrong_action(one.answers, found)
        right = found == [one.answers[0]] if one.answers else not wrong_action
        total = NOTHING if one.kind.startswith(NOTHING) else "commands"
        for kind in (one.kind, total, "all"):
            row = counts.setdefault(kind, [0, 0, 0])
            for i, more in enumerate((1, right, wrong_action)):
                row[i] += more
        if one.answers:
            text = f"{NOT[counts['commands'][0] % len(NOT)]} {one.text}"
            if is_wrong_action((), denied := commands.understand(text, names)):
                forbidden += 1
                if options.half == "seen":
                    print(f"FORBIDDEN {text!r} -> {json.dumps(denied)}")
        if options.half == "seen" and not right:
            mark = "ACTION " if wrong_action else ""
            print(f"{mark}{one.kind}: {one.text!r} -> {json.dumps(found)}, not {json.dumps(one.answers)}")
    for kind in sorted(counts):
        n, right, wrong = counts[kind]
        print(f"| {kind} | {n} | {right / n:.1%} | {wrong} |")
    print(f"Of {counts['commands'][0]} commands with {', '.join(NOT)} before them, {forbidden} were done.")


if __name__ == "__main__":
    main()
