"""The graph of a model, as far as it matters for what is left in float."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of a model file.

    Attributes:
        name: unique within the file.
        inputs, outputs: names of tensors.
        weighted: whether it has weights, as convolutions have.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weighted: bool


def tail(operators: Sequence[Operator], outputs: Iterable[str], layers: int) -> frozenset[str]:
    """The operators near the outputs: what decodes boxes or makes probabilities, and the last layers before it.

    Args:
        operators: of the graph, each behind those whose outputs it takes.
        outputs: names of the graph's output tensors.
        layers: up to how many operators with weights there are from each of them on to the nearest output.

    Returns:
        Their names.
    """
    return _near([(one, one.outputs, one.inputs) for one in reversed(operators)], outputs, layers)


def head(operators: Sequence[Operator], inputs: Iterable[str], layers: int) -> frozenset[str]:
    """The operators near the inputs: see `tail`."""
    return _near([(one, one.inputs, one.outputs) for one in operators], inputs, layers)


def _near(
    steps: Iterable[tuple[Operator, Sequence[str], Sequence[str]]], ends: Iterable[str], layers: int
) -> frozenset[str]:
    """The operators that are near some tensors.

    Args:
        steps: each operator with its tensors on the side of the ends, and those on the other side.
        ends: names of tensors.
        layers: see `tail`.
    """
    distance: dict[str, int] = dict.fromkeys(ends, 0)
    found = set()
    for operator, nearer, farther in steps:
        known = [distance[name] for name in nearer if name in distance]
        if not known:
            continue
        own = min(known) + operator.weighted
        if own <= layers:
            found.add(operator.name)
        for name in farther:
            distance[name] = min(distance.get(name, own), own)
    return frozenset(found)


def blocks(operators: Sequence[Operator], count: int) -> list[frozenset[str]]:
    """Cuts a graph, in the order of the file, into up to `count` parts with about as many weighted operators each."""
    weighted = sum(operator.weighted for operator in operators)
    parts: list[set[str]] = [set() for _ in range(min(count, weighted))]
    before = 0
    for operator in operators if parts else ():
        parts[min(len(parts) - 1, before * len(parts) // weighted)].add(operator.name)
        before += operator.weighted
    return [frozenset(part) for part in parts]
