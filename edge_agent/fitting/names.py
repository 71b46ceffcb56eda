"""Which class of a model a label of the data means: names, orders and offsets that are possible."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from edge_agent.errors import ModelError
from edge_agent.evaluation.labels import Matching

BACKGROUND = "background"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Naming:
    """One possibility.

    Attributes:
        words: what is special about it; "" where nothing is.
        classes: the class of the model for each label of the data.
        labels: what the model is to state as its labels; None: what it has, or class numbers.
    """

    words: str
    classes: dict[str, int]
    labels: tuple[str, ...] | None


def namings(
    used: Collection[str], declared: Sequence[str], known: Sequence[str] | None, count: int | None
) -> list[Naming]:
    """What labels of the data may mean, the most likely first.

    Args:
        used: labels in the data.
        declared: all labels that the data set has, in its order.
        known: names of the model's classes, from a file of labels, the model or its family; perhaps one too many or
            too few, for a background class.
        count: number of the model's classes; None where it does not tell.

    Raises:
        ModelError: labels of the data can't be related to classes.
    """
    if known is not None:
        found = list(_of_names(used, known, count))
        if found:
            return found
        matching = Matching(known, {})
        strangers = sorted(label for label in used if matching.find(label) is None)
        if not all(label.isdigit() for label in used):
            shown = ", ".join(strangers[:_SHOWN]) + (", …" if len(strangers) > _SHOWN else "")
            raise ModelError(f"{len(strangers)} labels of the data are none of the model's {len(known)}: {shown}")
    found = list(_of_numbers(used, count) if all(label.isdigit() for label in used) else _of_orders(declared, count))
    if not found:
        raise ModelError(
            f"the {len(declared)} labels of the data can't be related to the model's {count or 'unknown number of'} "
            "classes: state --labels FILE, one label a line, or label the data with class numbers"
        )
    return found


def _of_names(used: Collection[str], known: Sequence[str], count: int | None) -> Iterator[Naming]:
    variants = {
        "": tuple(known),
        "the first label left out": tuple(known[1:]),
        "a background class before the first label": (BACKGROUND, *known),
    }
    for words, names in variants.items():
        if len(names) != count and (count is not None or words):
            continue
        matching = Matching(names, {})
        classes = {label: place for label in used if (place := matching.find(label)) is not None}
        if len(classes) == len(set(used)):
            yield Naming(words, classes, names if words else None)


def _of_numbers(used: Collection[str], count: int | None) -> Iterator[Naming]:
    for offset, words in ((0, ""), (1, "class numbers + 1"), (-1, "class numbers - 1")):
        classes = {label: int(label) + offset for label in used}
        if all(0 <= number < (count or max(classes.values()) + 1) for number in classes.values()):
            total = count or max(classes.values()) + 1
            names = tuple(str(number - offset) if number >= offset else BACKGROUND for number in range(total))
            yield Naming(words, classes, names if offset else None)


def _of_orders(declared: Sequence[str], count: int | None) -> Iterator[Naming]:
    orders = {"": list(declared), "in alphabetical order": sorted(declared)}
    orders |= {"in alphabetical order, upper and lower case alike": sorted(declared, key=str.casefold)}
    seen: set[tuple[str, ...]] = set()
    for words, order in orders.items():
        for before in ((), (BACKGROUND,)):
            names = (*before, *order)
            if len(names) != (count or len(declared)) or names in seen:
                continue
            seen.add(names)
            what = ", ".join(filter(None, (words, "a background class first" if before else "")))
            yield Naming(what, {name: place for place, name in enumerate(names) if name in order}, names)
