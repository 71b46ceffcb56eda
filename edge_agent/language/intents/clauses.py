"""Splits a request into clauses and finds the slots of each: devices, places, values and times."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from edge_agent.language.intents import quantities
from edge_agent.language.intents.lexicon import (
    FILLERS,
    FUNCTION,
    JOINERS,
    NEGATIONS,
    PREPOSITIONS,
    PRONOUNS,
    WEATHER,
    WHERE_AT,
    WHERE_IN,
)
from edge_agent.language.intents.names import Names
from edge_agent.language.intents.quantities import Quantity
from edge_agent.language.intents.words import SEPARATORS
from edge_agent.settings.intents import Device, Place

PREFIX = "intent: "
"""Begins a prompt with a clause."""
PLACEHOLDERS = ("@", "%", "$", "~", "?")


@dataclass(frozen=True, slots=True)
class Clause:
    """What is said about one thing.

    Attributes:
        words: what the model gets: `@` is a device that is switched, `%` one that opens, `$` a value, `~` a time, `?` a
            word that is not known. Places and `FILLERS` are left out.
        devices, places: that are named.
        quantities: values and times.
        joiner: the word or mark before it; empty at the beginning.
        strange_device, strange_place: whether an unknown word stands where a part of such a name would.
    """

    words: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    places: tuple[Place, ...] = ()
    quantities: tuple[Quantity, ...] = ()
    joiner: str = ""
    strange_device: bool = False
    strange_place: bool = False

    @property
    def is_fragment(self) -> bool:
        """Whether it does not say what is to be done: "and the fan", "in the hall"."""
        has_value = any(one.kind == "value" for one in self.quantities)
        return all(word in FUNCTION or word in PLACEHOLDERS for word in self.words) and not (self.devices and has_value)

    @property
    def is_negated(self) -> bool:
        """Whether a negation stands in it."""
        return not NEGATIONS.isdisjoint(self.words)

    @property
    def has_pronoun(self) -> bool:
        """Whether it is about what was named before."""
        return not self.devices and not PRONOUNS.isdisjoint(self.words) and WEATHER.isdisjoint(self.words)


def split(words: Sequence[str], names: Names, known: Collection[str]) -> list[Clause]:
    """The clauses of a request.

    Args:
        words: of the request: see `words_of`.
        names: of devices and places.
        known: words that the model knows.
    """
    parts = [clause for clause in _parts(words, names, known) if clause.words or clause.places]
    clauses = list[Clause]()
    waiting: Clause | None = None
    for number, found in enumerate(parts):
        following = parts[number + 1] if number + 1 < len(parts) else None
        part = found if waiting is None else _joined(waiting, found)
        waiting = None
        last = clauses[-1] if clauses else None
        if part.is_fragment and not part.is_negated:
            if not (part.devices or part.places or part.quantities or "?" in part.words):
                continue
            if last is not None and not last.is_fragment:
                clauses[-1:] = _continued(last, part)
            elif following is not None and not (part.devices and following.devices):
                waiting = part
            elif following is not None and following.devices and not following.is_fragment:
                clauses.append(_like(following, part))
            else:
                clauses.append(part)
        elif part.has_pronoun and last is not None and last.devices:
            clauses.append(_about(part, last))
        elif not part.devices and part.places and following is not None and following.is_fragment and following.devices:
            clauses.append(_about(part, following))
        else:
            clauses.append(part)
    return [*clauses, waiting] if waiting is not None else clauses


def _continued(last: Clause, part: Clause) -> list[Clause]:
    """The last clause, and what a fragment after it means: the same with other slots, or one more of its slots."""
    only_when = not part.devices and not part.places and all(one.kind != "value" for one in part.quantities)
    if only_when and part.quantities and "?" not in part.words:
        joined = replace(last, words=(*last.words, "~"), quantities=(*last.quantities, *part.quantities))
        return [joined]
    if part.joiner not in JOINERS and not part.devices and part.places and not last.places:
        return [replace(last, places=part.places)]
    if part.joiner == "and" and part.devices and not last.places:
        last = replace(last, places=part.places)  # "the tv and the radio in the kitchen": both are there
    return [last, _like(last, part)]


def _like(model: Clause, part: Clause) -> Clause:
    """A clause with the words of another one and the slots of a fragment."""
    devices = part.devices or (() if "?" in part.words else model.devices)
    kinds = {one.kind for one in part.quantities}
    kept = tuple(one for one in model.quantities if one.kind not in kinds)
    words = [word for word in model.words if word not in ("@", "%")]
    at = next((i for i, word in enumerate(model.words) if word in ("@", "%")), len(words))
    words[at:at] = _placeholders(devices) or (["?"] if "?" in part.words else [])
    if "value" in kinds and "$" not in words:
        words += ["to", "$"]
    return replace(
        part,
        words=tuple(words),
        devices=devices,
        places=part.places or model.places,
        quantities=(*kept, *part.quantities),
        joiner=part.joiner,
    )


def _about(part: Clause, other: Clause) -> Clause:
    """A clause about the devices of another one."""
    words = [word for word in part.words if word not in PRONOUNS]
    at = next((i for i, word in enumerate(part.words) if word in PRONOUNS), len(words))
    words[at:at] = _placeholders(other.devices)
    return replace(part, words=tuple(words), devices=other.devices, places=part.places or other.places)


def _joined(first: Clause, second: Clause) -> Clause:
    """Both as one clause. What is named first takes the place of a pronoun."""
    if first.devices and second.has_pronoun:
        joined = _about(second, first)
        return replace(joined, quantities=(*first.quantities, *second.quantities), joiner=first.joiner)
    return replace(
        second,
        words=(*first.words, *second.words),
        devices=(*first.devices, *second.devices),
        places=(*first.places, *second.places),
        quantities=(*first.quantities, *second.quantities),
        joiner=first.joiner,
        strange_device=first.strange_device or second.strange_device,
        strange_place=first.strange_place or second.strange_place,
    )


def _placeholders(devices: Sequence[Device]) -> list[str]:
    return ["%" if device.opens else "@" for device in devices]


def _parts(words: Sequence[str], names: Names, known: Collection[str]) -> Iterator[Clause]:
    """The clauses as punctuation and joiners separate them."""
    part, at = _Part(""), 0
    while at < len(words):
        word = words[at]
        quantity = None if word in SEPARATORS else quantities.find(list(words), at)
        if (named := names.find(words, at)) is not None:
            at += named[1]
            following = names.find(words, at)
            part.name(named[0], before_device=following is not None and isinstance(following[0], Device))
        elif quantity is not None:
            part.quantity(quantity)
            at += quantity.length
        elif word in SEPARATORS or word in JOINERS:
            if part.has_words:
                yield part.clause()
                part = _Part(word)
            elif word in JOINERS:
                part.joiner = word
            at += 1
        else:
            part.word(word if word in known or word in FILLERS else "?")
            at += 1
    yield part.clause()


class _Part:
    """Collects the words and slots of a clause."""

    def __init__(self, joiner: str) -> None:
        self.joiner = joiner
        self.has_words = False
        self._words: list[str] = []
        self._devices: list[Device] = []
        self._places: list[Place] = []
        self._quantities: list[Quantity] = []
        self._strange_device = self._strange_place = False
        self._last = self._preposition = ""

    def name(self, named: Device | Place, *, before_device: bool) -> None:
        """A device or a place; a preposition before a place is left out with it."""
        self.has_words = True
        if isinstance(named, Device):
            self._strange_device |= self._last == "?"
            self._devices.append(named)
            self._words.append("%" if named.opens else "@")
            self._seen("@")
            return
        self._places.append(named)
        if not before_device and self._words and self._words[-1] in PREPOSITIONS:
            self._words.pop()
        self._seen("#")

    def quantity(self, found: Quantity) -> None:
        """A number or a time."""
        self.has_words = True
        self._quantities.append(found)
        self._words.append("$" if found.kind == "value" else "~")
        self._seen("$")

    def word(self, word: str) -> None:
        """Any other word."""
        self.has_words = True
        if word == "?":
            self._strange_device |= self._last in ("@", "#")
            self._strange_place |= self._preposition in WHERE_IN or (
                bool(self._devices) and self._preposition in WHERE_AT
            )
        if word not in FILLERS:
            self._words.append(word)
        self._seen(word)

    def clause(self) -> Clause:
        """What has been collected."""
        return Clause(
            tuple(self._words),
            tuple(self._devices),
            tuple(self._places),
            tuple(self._quantities),
            self.joiner,
            self._strange_device,
            self._strange_place,
        )

    def _seen(self, word: str) -> None:
        self._last = word
        if word not in FILLERS:
            self._preposition = word
