"""Which class of a model a label of the data means: by its name, by a synonym, or by a stated mapping."""

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edge_agent.config.yaml_lines import Problems, read
from edge_agent.errors import ConfigError
from edge_agent.system.terminal import printable

MAX_REPORTED = 20
_NEAREST = 3
# A synset of WordNet before a name, as ImageNet's folders and lists have it: n01440764.
_SYNSET_DIGITS = 8


class Matching:
    """Labels of the data and classes of a model.

    Args:
        known: the model's labels, by the number of the class; () if it has only numbers, or names that are not listed.
        stated: label of the data -> label or number of the model; None: samples of that label are left out.
    """

    def __init__(self, known: Sequence[str], stated: Mapping[str, str | None]) -> None:
        self._known, self._stated = known, stated
        self._seen: dict[str, None] = {}
        self._by_name: dict[str, set[int]] = defaultdict(set)
        self._by_part: dict[str, set[int]] = defaultdict(set)
        for number, label in enumerate(known):
            self._by_name[plain(label)].add(number)
            for part in _parts(label):
                self._by_part[part].add(number)

    def resolve(self, labels: Iterable[str]) -> dict[str, str | None]:
        """For each label of the data what the model calls it; None where it is left out.

        A class of the model that has a label twice is called by its number.

        Raises:
            ConfigError: a label means no class, or several; with the nearest ones.
        """
        found: dict[str, str | None] = {}
        problems: list[str] = []
        for label in dict.fromkeys(labels):
            if label in self._stated and self._stated[label] is None:
                found[label] = None
                continue
            wanted = self._stated.get(label) or label
            numbers = self._numbers(wanted, stated=label in self._stated)
            if len(numbers) == 1 or not self._known:
                found[label] = self.name(next(iter(numbers))) if numbers else plain(wanted)
            else:
                problems.append(self._problem(label, wanted, numbers))
        if problems:
            more = len(problems) - MAX_REPORTED
            raise ConfigError(problems[:MAX_REPORTED] + ([f"and {more} more labels"] if more > 0 else []))
        return found

    def find(self, label: str) -> int | None:
        """The class that a label of the data means; None where that is none, or several."""
        numbers = self._numbers(label, stated=False)
        return next(iter(numbers)) if len(numbers) == 1 else None

    def name(self, number: int) -> str:
        """The key of a class: its label, made plain; its number where another class has the same label."""
        name = plain(self._known[number])
        return name if len(self._by_name[name]) == 1 else f"{name} {number}"

    def key(self, label: str | None, number: int | None) -> str:
        """The key of what a prediction names."""
        if number is not None and number < len(self._known):
            return self.name(number)
        key = plain(label) if label is not None else str(number)
        if len(self._seen) < MAX_REPORTED:
            self._seen[key] = None
        return key

    def check_seen(self, expected: Iterable[str]) -> None:
        """Checks names that only the predictions show, where the model lists none, or other ones.

        Args:
            expected: the keys of the data's labels.

        Raises:
            ConfigError: none of them is a label of the data.
        """
        wanted = list(expected)
        if self._seen and wanted and self._seen.keys().isdisjoint(wanted) and not self._known:
            names, labels = (", ".join(map(repr, list(some)[:5])) for some in (self._seen, wanted))
            message = f"what the model finds is called {names}, the labels of the data {labels}"
            raise ConfigError([printable(f"{message}: state with --map what they mean")])

    def _numbers(self, wanted: str, *, stated: bool) -> set[int]:
        if found := self._by_name.get(plain(wanted)):
            return found
        if stated and wanted.isdecimal() and int(wanted) < len(self._known):
            return {int(wanted)}
        for part in (plain(_without_synset(wanted)), *sorted(_parts(wanted), key=len, reverse=True)):
            if found := self._by_name.get(part) or self._by_part.get(part):
                return found
        return set()

    def _problem(self, label: str, wanted: str, numbers: set[int]) -> str:
        if numbers:
            several = ", ".join(f"{number} {self._known[number]!r}" for number in sorted(numbers)[:_NEAREST])
            return printable(f"the label {label!r} means several classes of the model: {several}: state one with --map")
        nearest = difflib.get_close_matches(plain(wanted), self._by_part, n=_NEAREST, cutoff=0.5)
        names = [self._known[min(self._by_part[part])] for part in nearest]
        hint = f"the nearest: {', '.join(map(repr, dict.fromkeys(names)))}"
        hint = hint if names else f"its labels begin with {', '.join(map(repr, self._known[:5]))}"
        return printable(f"the model has no label {wanted!r}; {hint}: state what it means with --map, or leave it out")


def plain(label: str) -> str:
    """A label without what is only spelling: case, accents' encoding, `_` and `-` for spaces, spaces around it."""
    text = unicodedata.normalize("NFKC", label).casefold().replace("_", " ").replace("-", " ")
    return " ".join(text.split())


def _without_synset(label: str) -> str:
    head = label[: _SYNSET_DIGITS + 1]
    rest = label[_SYNSET_DIGITS + 1 :]
    if len(head) > _SYNSET_DIGITS and head[0] == "n" and head[1:].isdecimal() and rest[:1] in ("_", " ", "-"):
        return rest[1:]
    return label


def _parts(label: str) -> set[str]:
    """The names in a list of synonyms, `tench, Tinca tinca`, and the whole of it; plain."""
    without = _without_synset(label)
    names = {plain(without), *(plain(part) for part in without.split(","))}
    if without != label:
        names.add(label[: _SYNSET_DIGITS + 1])
    return names - {""}


def read_mapping(path: Path) -> dict[str, str | None]:
    """A mapping in YAML, lines `label of the data: label of the model`; `label of the data:` leaves that label out.

    Raises:
        ConfigError: it is not as expected, with the line.
    """
    problems = Problems(path)
    try:
        document = read(path, problems, {})
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from None
    if isinstance(document, dict):
        for key, value in document.items():
            if value is not None and not isinstance(value, str):
                problems.add((key,), "expected a label or the number of a class")
    elif not problems.texts():
        problems.add((), "expected lines such as `wolf: timber wolf`")
    if texts := problems.texts():
        raise ConfigError(texts)
    return dict(document) if isinstance(document, dict) else {}
