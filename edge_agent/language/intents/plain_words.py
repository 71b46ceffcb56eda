"""Phrases in plainer words: "everywhere" and "in this room" name no place, "light up" is "turn on the light"."""

from collections.abc import Collection, Sequence

from edge_agent.language.intents.lexicon import (
    ALL_OF,
    BEFORE_VERB,
    DETERMINERS,
    EACH,
    EVERYWHERE,
    HOME,
    LIGHT,
    LIGHT_UP,
    OF_HOME,
    SWITCH,
    WHERE,
)
from edge_agent.language.intents.names import Names
from edge_agent.language.intents.words import SEPARATORS
from edge_agent.settings.intents import Device


def in_plain_words(words: Sequence[str], names: Names) -> list[str]:
    """The words without "everywhere", "in the whole house", "in this room", "every" before a device, and the like.

    "Every day" stays: it is a condition. "Light up the hall" becomes "turn on light in the hall".
    """
    return _without_everywhere(_without_light_up(words, names), names)


def _without_light_up(words: Sequence[str], names: Names) -> list[str]:
    plain, at = list[str](), 0
    while at < len(words):
        is_verb = words[at] in LIGHT_UP and (not plain or plain[-1] in BEFORE_VERB or plain[-1] in SEPARATORS)
        end = next((i for i in range(at, len(words)) if words[i] in SEPARATORS or words[i] == "and"), len(words))
        rest = [word for word in words[at + 1 : end] if word not in ("up", "it")]
        is_up = words[at] != LIGHT or "up" in words[at + 1 : end]
        if is_verb and is_up and not any(isinstance(names.named(rest, i), Device) for i in range(len(rest))):
            plain += ["turn", "on", LIGHT, *(["in"] if rest else []), *rest]
            at = end
        else:
            plain.append(words[at])
            at += 1
    return plain


def _without_everywhere(words: Sequence[str], names: Names) -> list[str]:
    kept, at = list[str](), 0
    while at < len(words):
        if words[at] in EVERYWHERE:
            at += 1
        elif named := names.find(words, at):
            kept += words[at : at + named[1]]
            at += named[1]
        elif words[at] == "of" and _is_off(words, at):
            kept.append("off")
            at += 1
        elif length := _home(words, at, names) or _each(words, at, names) or _of(words, at, names):
            at += length
        else:
            kept.append(words[at])
            at += 1
    return kept


def _is_off(words: Sequence[str], at: int) -> bool:
    """Whether "of" is a typing mistake: "turn of the fan", "fan of"."""
    is_last = at + 1 == len(words) or words[at + 1] in SEPARATORS
    return at > 0 and (words[at - 1] in SWITCH or is_last)


def _home(words: Sequence[str], at: int, names: Names) -> int:
    """The number of words of "in the whole house" and the like; 0 if it is not that."""
    end = at + _run(words, at, WHERE)
    if end == at:
        return 0
    end += _run(words, end, DETERMINERS | EACH)
    is_home = end < len(words) and words[end] in HOME and names.find(words, end) is None
    return end + 1 - at if is_home else 0


def _run(words: Sequence[str], at: int, of: Collection[str]) -> int:
    """How many words from there on are of a set."""
    end = at
    while end < len(words) and words[end] in of:
        end += 1
    return end - at


def _each(words: Sequence[str], at: int, names: Names) -> int:
    """The number of words of "every" and the like before a device; 0 if it is not that."""
    end = at + _run(words, at, EACH)
    if end > at and words[end : end + 2] == ["and", "every"]:
        end += 2
    found = names.find(words, end) if end > at else None
    return end - at if found is not None and isinstance(found[0], Device) else 0


def _of(words: Sequence[str], at: int, names: Names) -> int:
    """Whether it is the word "of" of "all of the lights", or "house" of "the house lights"."""
    if words[at] == "of":
        return int(at > 0 and words[at - 1] in ALL_OF)
    return int(words[at] in OF_HOME and isinstance(names.named(words, at + 1), Device))
