"""Makes commands with the intents that they mean, from frames, words and chance."""

import json
import random
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from . import frames, words
from . import held_out as held_out_frames

HELD_OUT_SHARE = 0.15
"""Of combinations of intent, device and place: never seen in training."""
TIMED = 0.4
"""Share of orders with a time."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["intent"],
    "properties": {
        "intent": {"enum": list(words.ACTIONS)},
        "device": {"enum": [*words.DEVICES, *words.READINGS]},
        "place": {"enum": list(words.PLACES)},
        "value": {"type": "integer", "minimum": 0, "maximum": 100},
        "time": {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"},
        "in_minutes": {"type": "integer", "minimum": 1, "maximum": 180},
        "for_minutes": {"type": "integer", "minimum": 1, "maximum": 180},
    },
}
"""What every intent follows; its parts come in this order."""


def command(chance: random.Random, *, held_out: bool, timed: float = TIMED) -> tuple[str, str]:
    """A command, and its intent as JSON.

    Args:
        chance: decides everything.
        held_out: phrased as training never shows it and, if a place is named, of a combination of intent, device and
            place that it never shows; otherwise of those that it does.
        timed: share of orders with a time.
    """
    phrasings = held_out_frames.FRAMES if held_out else frames.TRAINING
    common = ("turn_on", "turn_off", "set", "state")
    kind = chance.choice((*phrasings, *common, *common))
    frame = chance.choice(phrasings[kind])
    action = "read" if kind in ("warm", "damp") else kind
    intent: dict[str, Any] = {"intent": action}
    ordered = not frame.startswith("!")
    frame = frame.removeprefix("!")
    if kind in ("warm", "damp"):
        intent["device"] = "temperature" if kind == "warm" else "humidity"
        intent |= _place(chance, action, held_out=held_out)
        frame = frame.replace(
            "{in}", f" in the {_said(chance, words.PLACES, intent['place'])}" if "place" in intent else ""
        )
    elif kind == "timer":
        said, intent["for_minutes"] = _duration(chance)
        # "a 5 minutes timer" is what people say, too.
        frame = frame.replace("{d}", said)
    elif kind == "none":
        while "{x}" in frame:
            frame = frame.replace("{x}", chance.choice(frames.THINGS), 1)
    else:
        intent["device"] = chance.choice(words.ACTIONS[action])
        intent |= _place(chance, action, intent["device"], held_out=held_out)
        frame = frame.replace("{it}", _named(chance, intent, held_out=held_out))
        if "{n}" in frame:
            said, intent["value"] = _value(chance, intent["device"])
            frame = frame.replace("{n}", said)
    text = (chance.choice(frames.ORDER) if ordered else "") + frame
    if action not in ("state", "read", "timer", "none") and chance.random() < timed:
        said, moment = _when(chance)
        intent |= moment
        text = f"{said} {text}" if chance.random() < 0.25 else f"{text} {said}"
    closing = frames.QUESTION_CLOSING if action in ("state", "read") else frames.CLOSING
    return chance.choice(frames.OPENING) + text + chance.choice(closing), json.dumps(intent, separators=(",", ":"))


def with_typo(chance: random.Random, text: str) -> str:
    """The text with two letters exchanged, or one left out, doubled or replaced, in a word of at least five letters."""
    parts = text.split(" ")
    long = [i for i, part in enumerate(parts) if len(part) >= 5 and part.isalpha()]
    if not long:
        return text
    which = chance.choice(long)
    word, at = parts[which], chance.randrange(1, len(parts[which]) - 1)
    other = chance.choice("etaoinshrdlu")
    parts[which] = chance.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + other + word[at + 1 :],
        )
    )
    return " ".join(parts)


def is_held_out(*combination: str) -> bool:
    """Whether training never sees a combination of words."""
    return crc32("/".join(combination).encode()) % 1000 < 1000 * HELD_OUT_SHARE


def _place(chance: random.Random, action: str, device: str = "", *, held_out: bool) -> Mapping[str, str]:
    """A place that makes the combination one that is held out, or is not; sometimes none."""
    if chance.random() < 0.25:
        return {}
    known = [place for place in words.PLACES if is_held_out(action, device, place) == held_out]
    return {"place": chance.choice(known)} if known else {}


def _named(chance: random.Random, intent: Mapping[str, str], *, held_out: bool) -> str:
    device = _said(chance, words.DEVICES | words.READINGS, intent["device"])
    if "place" not in intent:
        return chance.choice(frames.DEVICE_ONLY).format(device=device)
    ways = frames.DEVICE_AND_PLACE + (held_out_frames.DEVICE_AND_PLACE if held_out else ())
    return chance.choice(ways).format(device=device, place=_said(chance, words.PLACES, intent["place"]))


def _said(chance: random.Random, table: Mapping[str, tuple[str, ...]], name: str) -> str:
    ways = table[name]
    return ways[0] if chance.random() < 0.5 else chance.choice(ways)


def _value(chance: random.Random, device: str) -> tuple[str, int]:
    """Degrees for heating, otherwise percent."""
    number = chance.randint(5, 30) if device == "heating" else chance.randint(0, 100)
    if device != "heating" and chance.random() < 0.4:
        number = number // 5 * 5
    unit = chance.choice((" degrees", "")) if device == "heating" else chance.choice((" percent", " %", "%", ""))
    said = words.spoken(number) if chance.random() < 0.3 and "%" not in unit else str(number)
    return said + unit, number


def _duration(chance: random.Random) -> tuple[str, int]:
    fixed = (
        ("half an hour", 30),
        ("an hour", 60),
        ("two hours", 120),
        ("three hours", 180),
        ("a minute", 1),
        ("a quarter of an hour", 15),
        ("one hour", 60),
        ("an hour and a half", 90),
    )
    if chance.random() < 0.25:
        return chance.choice(fixed)
    minutes = (
        chance.randint(1, 120) if chance.random() < 0.5 else chance.choice((1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90))
    )
    said = words.spoken(minutes) if chance.random() < 0.3 and minutes < 100 else str(minutes)
    return (
        f"{said} {chance.choice(('minute', 'min')) if minutes == 1 else chance.choice(('minutes', 'minutes', 'min'))}",
        minutes,
    )


def _when(chance: random.Random) -> tuple[str, dict[str, Any]]:
    kind = chance.random()
    if kind < 0.2:
        said, minutes = _duration(chance)
        return f"in {said}", {"in_minutes": minutes}
    if kind < 0.4:
        said, minutes = _duration(chance)
        return f"for {said}", {"for_minutes": minutes}
    said, time = _time(chance)
    return said, {"time": f"{time // 60:02}:{time % 60:02}"}


def _time(chance: random.Random) -> tuple[str, int]:
    """A time of day as it is said, and in minutes. An hour without more is after noon; 7:30 is in the morning."""
    hour = chance.randint(1, 12)
    afternoon = hour % 12 + 12
    said = words.spoken(hour) if chance.random() < 0.6 else str(hour)
    minute = chance.choice((5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55))
    anywhere, any_minute = chance.randint(0, 23), chance.randint(0, 59)
    morning, evening = chance.randint(1, 11), chance.randint(5, 11)
    return chance.choice(
        (
            (f"at {said}", afternoon * 60),
            (f"at {said}", afternoon * 60),
            (f"at {said} o'clock", afternoon * 60),
            (f"at half past {said}", afternoon * 60 + 30),
            (f"at quarter past {said}", afternoon * 60 + 15),
            (f"at quarter to {said}", afternoon * 60 - 15),
            (
                f"at {words.spoken(hour)} {words.spoken(minute)}" if minute > 5 else f"at {said}",
                afternoon * 60 + (minute if minute > 5 else 0),
            ),
            (f"at {anywhere}:{any_minute:02}", anywhere * 60 + any_minute),
            (f"at {anywhere:02}:{any_minute:02}", anywhere * 60 + any_minute),
            (f"at {morning}{chance.choice((' am', ' in the morning', 'am'))}", morning * 60),
            (f"at {words.spoken(morning)} in the morning", morning * 60),
            (f"at {hour % 12 or 12}{chance.choice((' pm', 'pm'))}", afternoon * 60),
            (f"at {hour}:{minute:02} pm", afternoon * 60 + minute),
            (f"at {morning}:{minute:02} am", morning * 60 + minute),
            (f"at {words.spoken(evening)} in the evening", evening * 60 + 720),
            (f"tonight at {words.spoken(evening)}", evening * 60 + 720),
            ("at noon", 720),
            ("at midnight", 0),
        )
    )
