"""A race of candidates on the same samples: those far behind drop out early, and the winner has to win beyond doubt."""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Name = TypeVar("Name", bound=Hashable)

# Samples after which candidates drop out; then all.
FIRST_ROUND, GROWTH = 6, 2
# The better half stays, who may have lost by chance with more than this probability, and who is behind by less than
# this in the mean: on a few easy samples, one that is too sure of itself is ahead by a little each time.
BY_CHANCE, NEAR = 0.02, 0.05
# The winner has to beat each rival, with at most this probability of chance. Since it has to beat all of them, their
# number needs no correction (an intersection-union test).
DOUBT = 0.01
DRAWS = 20_000
# Quantiles of the normal distribution: of that probability, and of a power of 90 %.
_STRICT, _POWER = 2.33, 1.28
# Of Wilson's interval: 95 %.
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Standing(Generic[Name]):
    """How a candidate has done.

    Attributes:
        name: of the candidate.
        accuracy: mean of what counts as right, 0 to 1.
        interval: of the accuracy, 95 %.
        score: mean of the finer measure by which candidates are compared, 0 to 1.
        samples: on how many.
        chance: the probability that it is behind the best one by chance; 1 for the best one.
        needed: about how many samples would tell it from the best one; 0 for itself and what does the same.
        same: whether it does exactly as the best one on each sample.
    """

    name: Name
    accuracy: float
    interval: tuple[float, float]
    score: float
    samples: int
    chance: float
    needed: int
    same: bool


def race(
    names: Sequence[Name], samples: int, judge: Callable[[int, Sequence[Name]], Iterator[tuple[float, float]]]
) -> list[Standing[Name]]:
    """Runs candidates on samples.

    Successive halving (Jamieson and Talwalkar, https://arxiv.org/abs/1502.07943), but nobody leaves who may be behind
    by chance.

    Args:
        names: of the candidates, the most likely first.
        samples: number of samples.
        judge: gives score and accuracy of each of some candidates on one sample, 0 to 1 each.

    Returns:
        The standings, the best one first; of equal ones, the most likely first.
    """
    results: dict[Name, list[tuple[float, float]]] = {name: [] for name in names}
    running, done, until = list(names), 0, FIRST_ROUND
    while done < samples:
        for number in range(done, min(until, samples)):
            for name, result in zip(running, judge(number, running), strict=True):
                results[name].append(result)
        done, until = min(until, samples), until * GROWTH
        running = _stay(running, {name: np.array(results[name])[:, 0] for name in running})
    scores = {name: np.array(result) for name, result in results.items()}
    best = max(running, key=lambda name: scores[name][:, 0].mean())
    ranked = sorted(names, key=lambda name: (-len(scores[name]), -scores[name][:, 0].mean()))
    ranked.remove(best)
    return [_standing(name, scores[name], scores[best]) for name in (best, *ranked)]


def _stay(running: Sequence[Name], scores: "dict[Name, NDArray[np.float64]]") -> list[Name]:
    means = {name: values.mean() for name, values in scores.items()}
    ranked = sorted(running, key=lambda name: -means[name])
    best = scores[ranked[0]]
    half = set(ranked[: max(2, math.ceil(len(ranked) / 2))])
    return [name for name in running if name in half or not _is_far(best - scores[name])]


def _is_far(behind: "NDArray[np.float64]") -> bool:
    return float(behind.mean()) >= NEAR and by_chance(behind) <= BY_CHANCE


def by_chance(differences: "NDArray[np.float64]") -> float:
    """The probability that paired differences have so great a mean by chance: a permutation test of their signs.

    Args:
        differences: (samples,), in favour of the better one.
    """
    if not differences.any():
        return 1.0
    return float((1 + (_signs(len(differences)) @ differences >= differences.sum() - 1e-12).sum()) / (DRAWS + 1))


@lru_cache(maxsize=4)
def _signs(count: int) -> "NDArray[np.float64]":
    """(DRAWS, count) of 1 and -1; drawing them takes longer than the test."""
    return np.random.default_rng(0).integers(0, 2, (DRAWS, count), np.int8) * 2.0 - 1


def _standing(name: Name, results: "NDArray[np.float64]", best: "NDArray[np.float64]") -> Standing[Name]:
    behind = best[: len(results), 0] - results[:, 0]
    same = not behind.any()
    chance, needed = by_chance(behind), 0
    mean, spread = float(behind.mean()), float(behind.std(ddof=1)) if len(behind) > 1 else 0.0
    if not same and mean > 0:
        needed = math.ceil(((_STRICT + _POWER) * spread / mean) ** 2)
    accuracy = float(results[:, 1].mean())
    interval = wilson(accuracy, len(results))
    return Standing(name, accuracy, interval, float(results[:, 0].mean()), len(results), chance, needed, same)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval of a share of `count` samples, 95 %."""
    square = _Z * _Z / count
    centre = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)
