"""Numbers, times of day and durations in the words of a request; see `find`."""

import math
from dataclasses import dataclass, field

from edge_agent.language.intents.lexicon import HOURS, LEAST, LEVELS, MINUTES, MOST, ONES, SECONDS, TENS

_TENS = {word: 10 * (i + 2) for i, word in enumerate(TENS)}
_SPOKEN = {word: i for i, word in enumerate(ONES)} | _TENS
_NOON = 12
_HOUR, _DAY = 60, 24
MAX_MINUTES = _DAY * _HOUR
_SCALES = {"c": "degrees", "celsius": "degrees", "f": "fahrenheit", "fahrenheit": "fahrenheit"}
_UNITS = ("percent", "degrees", *_SCALES)


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a few words say.

    Attributes:
        kind: `value`, `time`, `in` or `for`.
        value: of a `value`; infinite for "maximum" and, below zero, for "minimum"; minutes from midnight of a `time`;
            minutes of the others. None: there is no such time.
        length: words.
        unit: of a value: `percent`, `degrees`, `fahrenheit`, or empty.
    """

    kind: str
    value: float | None
    length: int
    unit: str = field(default="")


def find(words: list[str], at: int) -> Quantity | None:
    """The quantity that begins with a word; None if none does."""
    return _clock(words, at) or _duration(words, at) or _value(words, at)


def number(words: list[str], at: int) -> tuple[float, int] | None:
    """The number that begins with a word, in digits or spoken, and how many words it has."""
    word = _word(words, at)
    if word == "minus" and (found := number(words, at + 1)):
        return -found[0], found[1] + 1
    if word.lstrip("-")[:1].isdigit() and word[-1].isdigit() and ":" not in word:
        value, length = float(word), 1
    elif word == "a" and _word(words, at + 1) == "hundred":
        return 100.0, 2
    elif word not in _SPOKEN:
        return None
    else:
        value, length = _spoken(words, at)
    if _word(words, at + length) == "point" and (digits := _digits(words, at + length + 1)):
        return float(f"{value:.0f}.{digits}"), length + 1 + len(digits)
    return value, length


def _spoken(words: list[str], at: int) -> tuple[float, int]:
    word = words[at]
    value, length = float(_SPOKEN[word]), 1
    following = _SPOKEN.get(_word(words, at + 1), 0)
    if word in _TENS and following in range(1, _TENS["twenty"] // 2):
        value, length = value + following, 2
    if _word(words, at + length) == "hundred":
        value, length = value * 100, length + 1
    return value, length


def _digits(words: list[str], at: int) -> str:
    """Those after a point: `five`, `two five`, `5`."""
    digits = ""
    while (word := _word(words, at + len(digits))) in ONES[:10] or (len(word) == 1 and word.isdigit()):
        digits += str(ONES.index(word) if word in ONES else word)
    return digits


def _word(words: list[str], at: int) -> str:
    return words[at] if 0 <= at < len(words) else ""


def _starts(words: list[str], at: int, *phrase: str) -> bool:
    return tuple(words[at : at + len(phrase)]) == phrase


def _clock(words: list[str], at: int) -> Quantity | None:
    """`at ten`, `at half past six in the morning`, `8 pm`, `23:00`, `at noon`."""
    begin = at + (_word(words, at) == "tonight" and _word(words, at + 1) == "at")
    preposition = _word(words, begin) in ("at", "by")
    begin += preposition
    if (word := _word(words, begin)) in ("noon", "midnight"):
        return Quantity("time", 0 if word == "midnight" else _NOON * 60, begin + 1 - at)
    minutes, hour, length = _hour(words, begin)
    if not length:
        return None
    stated, after = _half_of_day(words, begin + length)
    digits = ":" in _word(words, begin)
    if not stated and _word(words, begin + length) == "oclock":
        after = 1
    if not (stated or digits or after) and (not preposition or not _is_bare_hour(words, begin, hour, length)):
        return None
    total = hour * 60 + minutes
    valid = 0 <= hour < _DAY and abs(minutes) < _HOUR
    if stated == "pm" or (not stated and not digits and 1 <= hour <= _NOON):
        total = (hour % _NOON + _NOON) * 60 + minutes
    elif stated == "am":
        total = hour % _NOON * 60 + minutes
    return Quantity("time", total if valid else None, begin + length + after - at)


def _hour(words: list[str], at: int) -> tuple[int, int, int]:
    """Minutes, hour, and how many words say it; 0 words: none is said."""
    word = _word(words, at)
    if word[:1].isdigit() and word[-1].isdigit() and (":" in word or "." in word):
        hour, _, minute = word.replace(".", ":").partition(":")
        # 5.30 am is a time, 21.5 is none.
        is_time = ":" in word or (len(minute) == len("30") and bool(_half_of_day(words, at + 1)[0]))
        return (int(minute), int(hour), 1) if is_time else (0, 0, 0)
    return _past_or_to(words, at) or _bare_hour(words, at)


def _past_or_to(words: list[str], at: int) -> tuple[int, int, int] | None:
    """`half past six`, `a quarter to nine`, `at twenty past nine`."""
    begin = at + (_word(words, at) == "a")
    minutes, length = {"half": (30, 1), "quarter": (15, 1)}.get(_word(words, begin), (0, 0))
    if not length and _word(words, at - 1) == "at" and (first := number(words, at)):
        minutes, length = int(first[0]), first[1]
    relation = _word(words, begin + length)
    hour = number(words, begin + length + 1) if length and relation in ("past", "to") else None
    if hour is None:
        return None
    return minutes if relation == "past" else -minutes, int(hour[0]), begin + length + 1 + hour[1] - at


def _bare_hour(words: list[str], at: int) -> tuple[int, int, int]:
    """`ten`, `at ten thirty`."""
    first = number(words, at)
    if first is None:
        return 0, 0, 0
    value, length = first
    is_hour_word = _word(words, at) in _SPOKEN and _word(words, at) not in _TENS
    if is_hour_word and _word(words, at - 1) == "at" and (minutes := number(words, at + 1)):
        return int(minutes[0]), int(value), 1 + minutes[1]
    return 0, int(value), length


def _half_of_day(words: list[str], at: int) -> tuple[str, int]:
    if (word := _word(words, at)) in ("am", "pm"):
        return word, 1
    for part, half in (("morning", "am"), ("afternoon", "pm"), ("evening", "pm")):
        if _starts(words, at, "in", "the", part):
            return half, 3
    if _starts(words, at, "at", "night"):
        return "pm", 2
    return "", 0


def _is_bare_hour(words: list[str], at: int, hour: int, length: int) -> bool:
    following = _word(words, at + length)
    return 1 <= hour <= _NOON and following not in (*_UNITS, "and", *MINUTES, *HOURS)


def _duration(words: list[str], at: int) -> Quantity | None:
    """`in ten minutes`, `for an hour and a half`, `half an hour`, `an hour and ten minutes`, `two hours thirty`."""
    kind = {"in": "in", "for": "for", "after": "in"}.get(_word(words, at), "")
    begin = at + bool(kind)
    found = _part_of_one(words, begin) or _with_fraction(words, begin)
    if found is None:
        return None
    value, length = found
    unit = _word(words, begin + length)
    if unit not in (*MINUTES, *HOURS):
        return None
    end = begin + length + 1
    total, length = value * (_HOUR if unit in HOURS else 1), 0
    if more := _and_fraction(words, end):
        total, length = total + more[0] * (_HOUR if unit in HOURS else 1), more[1]
    elif unit in HOURS and (minutes := _minutes(words, end)):
        total, length = total + minutes[0], minutes[1]
    is_whole = math.isfinite(total) and total == int(total) and 1 <= total <= MAX_MINUTES
    return Quantity(kind or "for", total if is_whole else None, end + length - at)


def _part_of_one(words: list[str], at: int) -> tuple[float, int] | None:
    """`half an`, `a quarter of an`, `an`, and how many words that are: an hour or a minute follows."""
    fraction = _fraction(words, at)
    value, length = fraction or (1.0, 0)
    if (
        fraction is None
        and _word(words, at - 1) == "of"
        and _word(words, at - 2) not in ("timer", "countdown", "alarm")
    ):
        value = math.nan  # a third of an hour
    length += fraction is not None and _word(words, at + length) == "of"
    length += _word(words, at + length) in ("a", "an")
    return (value, length) if length else None


def _fraction(words: list[str], at: int) -> tuple[float, int] | None:
    """`half`, `a quarter`, `three quarters`, and how many words it has."""
    for phrase, value in (
        (("half",), 0.5),
        (("a", "half"), 0.5),
        (("quarter",), 0.25),
        (("a", "quarter"), 0.25),
        (("three", "quarters"), 0.75),
    ):
        if _starts(words, at, *phrase):
            return value, len(phrase)
    return None


def _and_fraction(words: list[str], at: int) -> tuple[float, int] | None:
    """`and a half`, and how many words it has."""
    fraction = _fraction(words, at + 1) if _word(words, at) == "and" else None
    if fraction is None or _word(words, at + 1 + fraction[1]) in ("past", "to", "of", "an"):
        return None
    return fraction[0], fraction[1] + 1


def _minutes(words: list[str], at: int) -> tuple[float, int] | None:
    """Minutes after hours, and how many words say it: `and ten minutes`, `30 minutes`, `thirty`."""
    begin = at + (_word(words, at) == "and")
    found = number(words, begin)
    if found is None:
        return None
    value, length = found
    unit = _word(words, begin + length)
    if unit in MINUTES:
        return value, begin + length + 1 - at
    is_bare = begin == at and value in range(1, _HOUR) and unit not in (*_UNITS, *SECONDS)
    return (value, length) if is_bare else None


def _with_fraction(words: list[str], at: int) -> tuple[float, int] | None:
    """See `number`; also "two and a half"."""
    found = number(words, at)
    more = _and_fraction(words, at + found[1]) if found else None
    return (found[0] + more[0], found[1] + more[1]) if found and more else found


def _value(words: list[str], at: int) -> Quantity | None:
    if _word(words, at) in MOST | LEAST or _is_full(words, at):
        return Quantity("value", -math.inf if _word(words, at) in LEAST else math.inf, 1)
    found = _with_fraction(words, at)
    if found is None:
        return None
    value, length = found
    unit = _word(words, at + length)
    if unit == "of":
        return None  # "one of the lights"
    if unit not in _UNITS:
        return Quantity("value", value, length)
    length += 1
    if unit == "degrees" and _word(words, at + length) in _SCALES:
        unit = _word(words, at + length)
        length += 1
    return Quantity("value", value, length, _SCALES.get(unit, unit))


def _is_full(words: list[str], at: int) -> bool:
    return _word(words, at) == "full" and (_word(words, at - 1) in ("to", "at", "on") or _word(words, at + 1) in LEVELS)
