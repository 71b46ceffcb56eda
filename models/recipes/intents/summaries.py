"""Makes readings, as the template of a pipeline writes them, with the one sentence that says them."""

import random
from collections.abc import Callable

from . import words
from .commands import is_held_out

Kind = Callable[[random.Random, list[str]], tuple[str, str]]

FRAME_OPENING = ("",) * 6 + ("please ", "now ", "hey, ", "could you ")
ORDERS = (
    "sum up",
    "summarise",
    "say in one sentence",
    "make a sentence of",
    "write one sentence about",
    "report on",
    "tell me about",
    "one sentence on",
    "put in one sentence",
    "make a summary of",
)
SUBJECTS = (
    "the {place}",
    "{place}",
    "the readings of the {place}",
    "the sensors in the {place}",
    "what the {place} says",
    "the {place} at {time}",
    "the state of the {place} at {time}",
    "this from the {place}",
    "these values",
    "this",
    "what was measured at {time}",
)
STATEMENTS = (
    "{facts}",
    "{place}: {facts}",
    "the {place}: {facts}",
    "readings: {facts}",
    "readings of the {place}: {facts}",
    "the {place} at {time}: {facts}",
    "{time}, {place}: {facts}",
    "it is {time}, and the {place} has {facts}",
    "the sensors in the {place} say {facts}",
    "the camera in the {place} sees {facts}",
    "the camera in the {place} sees {facts} at {time}",
    "at {time} the {place} says {facts}",
    "the {place} has found {facts}",
    "what is going on in the {place}? {facts}",
)
REQUESTS = (
    "",
    "",
    ". say so in one sentence.",
    ". say so in one friendly sentence.",
    ". sum it up.",
    ". one sentence, please.",
    ", in one sentence",
    ". what does that mean?",
    ".",
)
ASIDE = (
    "what you make of this in a short sentence words into turn put give me tell describe our for from here there news "
    "comes reports report reading readings summary brief be want need i we it is that one now today please and then "
    "so let know see look my your all some about with"
)
HELD_OUT_FRAMES = (
    "describe the {place} in a sentence: {facts}",
    "put the readings of our {place} into words: {facts}",
    "this is what comes from the {place} at {time}: {facts}. give me a summary.",
    "in words, at {time}, for the {place}: {facts}",
    "what do you make of {facts}",
    "i want one short sentence for the {place}, it is {time}: {facts}",
    "news of the {place}, {time}: {facts}. tell me.",
    "turn this into a sentence: {facts}",
    "the {place} reports {facts} at {time}, put that in words",
    "here is the {place}: {facts}. be brief.",
)
SENSORS = (
    "temperature",
    "humidity",
    "pressure",
    "co2",
    "noise",
    "light",
    "level",
    "flow",
    "current",
    "voltage",
    "power",
    "speed",
    "vibration",
    "weight",
    "distance",
    "dust",
    "moisture",
    "wind",
    "rain",
    "torque",
)
FOUND = (
    "person",
    "dog",
    "cat",
    "car",
    "bicycle",
    "truck",
    "bird",
    "bottle",
    "chair",
    "parcel",
    "walking",
    "running",
    "sitting",
    "standing",
    "speech",
    "music",
    "alarm",
    "glass",
    "silence",
    "yes",
    "no",
    "stop",
    "macaw",
    "backpack",
)
MACHINES = ("pump", "washer", "boiler", "lathe", "drill", "mill", "fridge", "freezer", "yard", "street", "roof", "fan")
ALARM = "Alarm"
ASIDES = 0.3
"""Share of prompts with words around that say nothing."""


def summary(chance: random.Random, *, held_out: bool) -> tuple[str, str]:
    """A prompt with readings, and the sentence that says them.

    Args:
        chance: decides everything.
        held_out: phrased as training never shows it, of combinations of place and reading that it never shows;
            otherwise of those that it does.
    """
    frame = chance.choice(HELD_OUT_FRAMES) if held_out else _frame(chance)
    time = f"{chance.randint(0, 23):02}:{chance.randint(0, 59):02}"
    kind = chance.choices(("judged", "found", "level", "trend"), (0.14, 0.2, 0.16, 0.5))[0]
    place, names = _names(chance, FOUND if kind == "found" else SENSORS, held_out=held_out)
    facts, said = KINDS[kind](chance, names)
    opening = (f"at {time} " if "{time}" in frame else "") + (_where(place) if "{place}" in frame else "")
    opening = opening.strip() or "now"
    opening = opening if said.startswith(ALARM) else opening[0].upper() + opening[1:]
    prompt = frame.replace("{place}", place).replace("{time}", time).replace("{facts}", facts)
    return prompt, said.replace("{opening}", opening)


def _frame(chance: random.Random) -> str:
    if chance.random() < 0.5:
        order, subject = chance.choice(ORDERS), chance.choice(SUBJECTS)
        frame = f"{order} {subject}{chance.choice((': ', ': ', ', '))}{{facts}}"
        frame = chance.choice(FRAME_OPENING) + frame
    else:
        frame = chance.choice(STATEMENTS) + chance.choice(REQUESTS)
    if chance.random() < ASIDES:
        frame = f"{_aside(chance)}{chance.choice((' ', ': ', ', '))}{frame}"
    if chance.random() < ASIDES:
        frame = f"{frame}{chance.choice((' ', '. ', ', '))}{_aside(chance)}"
    return frame


def _aside(chance: random.Random) -> str:
    return " ".join(chance.choices(ASIDE.split(), k=chance.randint(1, 4)))


def _where(place: str) -> str:
    if place == "porch":
        return "on the porch"
    return f"{'in' if place in (*words.PLACES, 'yard', 'street') else 'at'} the {place}"


def _names(chance: random.Random, known: tuple[str, ...], *, held_out: bool) -> tuple[str, list[str]]:
    """A place, and names of what is measured or found there."""
    count = chance.choices((1, 2, 3), (0.5, 0.35, 0.15))[0]
    while True:
        place, names = chance.choice((*words.PLACES, *MACHINES)), chance.sample(known, count)
        if all(is_held_out("summary", place, name) == held_out for name in names):
            return place, names


def _judged(chance: random.Random, _names: list[str]) -> tuple[str, str]:
    score = _number(chance)
    if chance.random() < 0.5:
        return f"anomaly {score}", f"{ALARM}: {{opening}}, something is not normal, the score is {score}."
    return f"normal {score}", f"{{opening}}, all is normal, the score is {score}."


def _found(chance: random.Random, names: list[str]) -> tuple[str, str]:
    shares = [f"{chance.randint(1, 100)} %" for _ in names]
    pairs = list(zip(names, shares, strict=True))
    listed = _listed([f"{name} ({share})" for name, share in pairs])
    return (
        ", ".join(f"{name} {share}" for name, share in pairs),
        f"{{opening}}, {listed} {'was' if len(names) == 1 else 'were'} found.",
    )


def _each(of_one: Callable[[random.Random, str], tuple[str, str]]) -> Kind:
    def of_all(chance: random.Random, names: list[str]) -> tuple[str, str]:
        pairs = [of_one(chance, name) for name in names]
        return ", ".join(fact for fact, _ in pairs), f"{{opening}}, {_listed([said for _, said in pairs])}."

    return of_all


def _level(chance: random.Random, name: str) -> tuple[str, str]:
    number = _number(chance)
    return f"{name} {number}", f"{name} is {number}"


def _trend(chance: random.Random, name: str) -> tuple[str, str]:
    number = _number(chance)
    other = f"{float(number) * chance.uniform(0.7, 1.4):.4g}" if chance.random() < 0.7 else _number(chance)
    first, last = sorted((number, other), key=float)
    trend = chance.choice(("rising", "falling", "steady"))
    if first == last or trend == "steady":
        return f"{name} {last} steady", f"{name} is steady at {last}"
    if trend == "falling":
        return f"{name} {first} falling from {last}", f"{name} has fallen from {last} to {first}"
    return f"{name} {last} rising from {first}", f"{name} has risen from {first} to {last}"


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _number(chance: random.Random) -> str:
    """As `in_words` of edge_agent writes it."""
    low, high = chance.choice(((-20, 40), (0, 100), (0, 100), (0, 5), (0, 1), (300, 2000), (-1, 1), (0, 10000)))
    value = chance.uniform(low, high)
    return f"{round(value, chance.choice((0, 1, 1, 2, 3))) + 0.0:.4g}"


# Each makes facts as a template writes them, and the sentence, in which the opening is left open.
KINDS: dict[str, Kind] = {"judged": _judged, "found": _found, "level": _each(_level), "trend": _each(_trend)}
