"""A race of candidates: who drops out, and who has won beyond doubt."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from edge_agent.fitting.race import DOUBT, by_chance, race, wilson


def run(
    means: dict[str, float], samples: int, noise: float = 0.1
) -> tuple[list[str], dict[str, int], dict[str, float]]:
    """The order of candidates with these mean scores, on how many samples each was tried, and the chances."""
    drawn = np.random.default_rng(4).normal(0, noise, (samples, len(means)))
    places = {name: place for place, name in enumerate(means)}

    def judge(number: int, names: Sequence[str]) -> Iterator[tuple[float, float]]:
        for name in names:
            yield means[name] + drawn[number, places[name]], 1.0

    standings = race(list(means), samples, judge)
    return (
        [one.name for one in standings],
        {one.name: one.samples for one in standings},
        {one.name: one.chance for one in standings},
    )


def test_the_best_one_wins_and_those_far_behind_drop_out_early() -> None:
    order, tried, chances = run({"a": 0.1, "b": 0.9, "c": 0.6, "d": 0.2, "e": 0.1}, 48)
    assert order[0] == "b"
    assert tried["b"] == 48
    assert tried["a"] < 48
    assert chances["c"] <= DOUBT


def test_nobody_drops_out_who_may_be_behind_by_chance() -> None:
    def judge(number: int, names: Sequence[int]) -> Iterator[tuple[float, float]]:
        yield from ((float((number + name) % 4 == 0), 1.0) for name in names)

    standings = race(range(4), 24, judge)
    assert {one.samples for one in standings} == {24}
    assert min(one.chance for one in standings) > DOUBT


def test_one_that_is_ahead_by_a_little_on_the_first_samples_puts_nobody_out() -> None:
    """Too sure of itself: a little better where it is right, which it is at first, and much worse where it is not."""

    def judge(number: int, names: Sequence[str]) -> Iterator[tuple[float, float]]:
        sure = 1.0 if number % 10 < 9 else 0.0
        yield from (({"sure": sure, "right": 0.98, "other": 0.99 * sure}[name], 1.0) for name in names)

    assert race(["sure", "other", "right"], 200, judge)[0].name == "right"


def test_those_that_do_the_same_are_told_from_those_behind() -> None:
    def judge(number: int, names: Sequence[str]) -> Iterator[tuple[float, float]]:
        yield from ((number / 20, 1.0) for _ in names)

    first, second = race(["usual", "other"], 20, judge)
    assert (first.name, second.same, second.needed) == ("usual", True, 0)


def test_a_message_can_say_how_many_samples_more_would_do() -> None:
    def judge(number: int, names: Sequence[str]) -> Iterator[tuple[float, float]]:
        yield from ((0.5 + (0.3 if number % 5 == 0 else -0.05) * (name == "better"), 1.0) for name in names)

    best, other = race(["usual", "better"], 20, judge)
    assert best.name == "better"
    assert other.chance > DOUBT
    assert other.needed > 20


@pytest.mark.parametrize(("wins", "decided"), [(5, False), (7, True)])
def test_a_difference_is_beyond_doubt_if_it_points_one_way_often_enough(wins: int, decided: bool) -> None:
    assert (by_chance(np.full(wins, 0.1)) <= DOUBT) == decided


def test_no_difference_is_chance() -> None:
    assert by_chance(np.zeros(10)) == 1.0


def test_intervals_are_wilson_s() -> None:
    low, high = wilson(0.9, 20)
    assert (round(low, 3), round(high, 3)) == (0.699, 0.972)
    assert wilson(1.0, 20)[1] == pytest.approx(1.0)
