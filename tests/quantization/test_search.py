"""What stays in float is found by trying."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest
from numpy.typing import NDArray

from edge_agent.quantization.agreement import Agreement
from edge_agent.quantization.graph import Operator
from edge_agent.quantization.search import Attempt, search

LAYERS = 16


class Chain:
    """A graph of layers in a row; a converted file names those that are in float."""

    inputs: tuple[str, ...] = ("0",)
    outputs: tuple[str, ...] = (str(LAYERS),)
    operators = tuple(
        Operator(f"layer{number}", (str(number),), (str(number + 1),), weighted=True) for number in range(LAYERS)
    )

    def calibrate(self, tensors: Iterable[NDArray[Any]]) -> None:
        raise NotImplementedError

    def convert(self, in_float: Collection[str]) -> bytes:
        return " ".join(sorted(in_float)).encode()


def sensitive(*layers: int) -> Callable[[bytes], Agreement]:
    """A judge for whom the result differs the more, the more of these layers are not in float."""
    names = {f"layer{number}" for number in layers}

    def judge(content: bytes) -> Agreement:
        found = names & set(content.decode().split())
        return Agreement("pictures", 100, 100 - 10 * (len(names) - len(found)), 0)

    return judge


def tried(judge: Callable[[bytes], Agreement]) -> tuple[Attempt, list[Attempt]]:
    attempts: list[Attempt] = []
    return search(Chain(), judge, 0.95, attempts.append), attempts


def test_nothing_stays_in_float_where_that_is_good_enough() -> None:
    found, attempts = tried(sensitive())
    assert found.in_float == frozenset()
    assert len(attempts) == 1


@pytest.mark.parametrize("layers", [(LAYERS - 1,), (0, LAYERS - 1), (6,), (4, 10)])
def test_the_sensitive_layers_are_found_wherever_they_are(layers: tuple[int, ...]) -> None:
    found, _ = tried(sensitive(*layers))
    assert {f"layer{number}" for number in layers} <= found.in_float
    assert found.agreement.share == 1


def test_the_best_one_is_given_where_none_is_good_enough() -> None:
    found, attempts = tried(sensitive(*range(LAYERS)))
    assert found.agreement.share == max(attempt.agreement.share for attempt in attempts) < 0.95
    assert len(attempts) < 20


def test_most_layers_are_converted_in_each_attempt() -> None:
    _, attempts = tried(sensitive(*range(LAYERS)))
    assert max(len(attempt.in_float) for attempt in attempts) <= LAYERS / 2
