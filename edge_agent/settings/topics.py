"""What may go to a broker as a topic name, a topic filter, a client id or a user property.

MQTT 5, 1.5.4 forbids U+0000 and surrogates in its strings. It lets a receiver close the connection at control
characters and non-characters, and Mosquitto does. Topics: 4.7. Brokers limit the number of levels (Mosquitto: 200).
"""

import unicodedata

MAX_BYTES = 65_535
# Of a topic filter two fewer: a shared subscription adds `$share/GROUP`.
MAX_LEVELS = 200
# Stands for any text without separators in a topic of `publish.topic`.
ANY_LABEL = "{label}"
# Beginnings of topic filters that mean something else to a broker.
_NOT_FILTERS = ("$share", "$queue", "$exclusive", "$delayed")
_PLANE = 0x10000
_NON_CHARACTERS = range(0xFDD0, 0xFDF0)


def forbidden(character: str) -> bool:
    """Whether brokers close the connection at this character."""
    code = ord(character)
    non_character = code in _NON_CHARACTERS or code % _PLANE >= _PLANE - 2
    return non_character or unicodedata.category(character) in ("Cc", "Cs")


def problem_of_text(text: str) -> str:
    """Why a text can't be a string of MQTT; empty: it can."""
    if text.isascii() and text.isprintable():
        size = len(text)
    else:
        if wrong := next(filter(forbidden, text), ""):
            return f"must not hold the character U+{ord(wrong):04X}"
        size = len(text.encode())
    return f"must have at most {MAX_BYTES} bytes in UTF-8 (got {size})" if size > MAX_BYTES else ""


def problem_of_name(topic: str) -> str:
    """Why nothing can be published to a topic; empty: it can."""
    if not topic:
        return "must not be empty"
    if "+" in topic or "#" in topic:
        return "must not hold the wildcards + and #"
    if topic.startswith("$"):
        return "must not begin with $: such topics belong to the broker"
    return problem_of_text(topic) or _problem_of_levels(topic, MAX_LEVELS)


def problem_of_filter(topic: str) -> str:
    """Why a topic filter can't be subscribed to; empty: it can."""
    levels = topic.split("/")
    if not topic:
        return "must not be empty"
    if "#" in topic and (topic.count("#") > 1 or levels[-1] != "#"):
        return "'#' is allowed only as the last level of a topic filter"
    if any("+" in level and level != "+" for level in levels):
        return "'+' must fill a whole level of a topic filter"
    if levels[0] == "$share":
        return "write `share: GROUP` instead of $share/GROUP/…"
    if levels[0] in _NOT_FILTERS:
        return f"must not begin with {levels[0]}: it means something else to brokers"
    return problem_of_text(topic) or _problem_of_levels(topic, MAX_LEVELS - 2)


def _problem_of_levels(topic: str, most: int) -> str:
    count = topic.count("/") + 1
    return f"must have at most {most} levels (got {count})" if count > most else ""


def as_level(label: str) -> str:
    """A label as a level of a topic: what can't be in one becomes `_`."""
    return "".join("_" if one in "/+# " or forbidden(one) else one for one in label)


def overlap(topic_filter: str, topic: str) -> bool:
    """Whether a topic filter matches a topic, in which `{label}` stands for any text within a level."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic_filter[:1] in ("+", "#") and topic.startswith("$"):
        return False
    for number, level in enumerate(wanted):
        if level == "#":
            return True
        if number == len(levels) or not (level == "+" or _fits(level, levels[number])):
            return False
    return len(wanted) == len(levels)


def _fits(level: str, pattern: str) -> bool:
    before, label, rest = pattern.partition(ANY_LABEL)
    if not label:
        return level == pattern
    after = rest.rpartition(ANY_LABEL)[2]
    return level.startswith(before) and level[len(before) :].endswith(after)
