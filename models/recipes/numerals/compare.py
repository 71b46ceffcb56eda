"""What kept samples are worth: the accuracy after training on with as many that rules have kept, and random ones.

Prints a table in Markdown. Rules are those of `keep`, in the order in which a pipeline would see the pictures.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from edge_agent.keeping.rules import Rules
from edge_agent.samples import Prediction, Sample, Timing
from edge_agent.settings import KeepRules
from edge_agent.sources.observer import Observation, Work

from .looks import LABELS, pictures
from .network import Floats, Network
from .train import WEIGHT, first_training, inputs

RULES = KeepRules(confidence=(0.0, 0.8), margin=0.5)
SEEN, MEASURED = 8000, 4000
"""Pictures that the device sees, and others to measure with, half of them in new looks."""
SHARES = (0.05, 0.2, 0.5)
"""Of new looks in what the device sees."""
COUNTS = (50, 100, 200, 400)
"""Of samples to train on with."""


@dataclass(frozen=True)
class Labelled:
    """Pictures as the network gets them, what they show, and whether that is new."""

    inputs: Floats
    labels: NDArray[np.int64]
    is_new: NDArray[np.bool_]

    @classmethod
    def drawn(cls, rng: Generator, count: int, share: float) -> "Labelled":
        """See `pictures`."""
        found, labels, is_new = pictures(rng, count, share)
        return cls(inputs(found), labels, is_new)

    def accuracy(self, network: Network) -> NDArray[np.float64]:
        """In known looks and in new ones."""
        groups = (~self.is_new, self.is_new)
        return np.array([network.accuracy(self.inputs[group], self.labels[group]) for group in groups])


def kept(network: Network, seen: Labelled) -> list[int]:
    """Which pictures the rules keep, in their order."""
    rules = Rules(RULES)
    return [number for number, row in enumerate(network.confidences(seen.inputs)) if rules.reasons(_observed(row))]


def _observed(confidences: Floats) -> Observation:
    """The result of one picture, as a pipeline has it: the five best."""
    best = np.argsort(-confidences)[:5]
    predictions = [Prediction(LABELS[one], int(one), float(confidences[one])) for one in best]
    work = Work({}, "", "classification", None, {}, Timing(), predictions)
    return Observation("field", None, Sample(b"", 0.0, 0.0, {}), predictions, None, False, work)


Run = tuple[NDArray[np.float64], NDArray[np.float64], float]


def compared(seed: int, share: float) -> Run:
    """One run.

    Returns:
        Accuracy before, (known and new); after, (counts, kept and random, known and new), NaN where the rules have
        kept fewer; the share of new looks among what they have kept.
    """
    rng = default_rng(seed)
    before = first_training(4000, seed)
    seen, measured = Labelled.drawn(rng, SEEN, share), Labelled.drawn(rng, MEASURED, 0.5)
    chosen = kept(before, seen)
    after = np.full((len(COUNTS), 2, 2), np.nan)
    for row, count in enumerate(COUNTS):
        if count > len(chosen):
            continue
        for column, numbers in enumerate((chosen[:count], rng.choice(SEEN, count, replace=False))):
            after[row, column] = measured.accuracy(
                before.trained_on(seen.inputs[numbers], seen.labels[numbers], WEIGHT)
            )
    return measured.accuracy(before), after, float(seen.is_new[chosen].mean())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    print("| new looks in the field | samples | new looks, kept | new looks, random | gain | all, kept | all, random |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for share in SHARES:
        runs = [compared(seed, share) for seed in range(1, seeds + 1)]
        new, field = (_means(runs, weights) for weights in ((0, 1), (1 - share, share)))
        found = np.mean([run[2] for run in runs])
        print(f"| {share:.0%} ({found:.0%} of what is kept) | 0 | {new[0]:.1%} | | | {field[0]:.1%} | |")
        for row, count in enumerate(COUNTS):
            gains = np.array([run[1][row, 0, 1] - run[1][row, 1, 1] for run in runs]) * 100
            if np.isnan(gains).any():  # the rules have kept fewer
                continue
            shown = [f"{each[1][row, column]:.1%}" for each in (new, field) for column in (0, 1)]
            gain = f"{gains.mean():+.1f} ({gains.min():+.1f} to {gains.max():+.1f})"
            print(f"| | {count} | {shown[0]} | {shown[1]} | {gain} | {shown[2]} | {shown[3]} |")


def _means(runs: list[Run], weights: tuple[float, float]) -> tuple[float, NDArray[np.float64]]:
    """Of all runs, the accuracy before, and after, (counts, kept and random), with these weights of known and new."""
    before, after = (np.mean([run[part] @ np.array(weights) for run in runs], axis=0) for part in (0, 1))
    return float(before), after


if __name__ == "__main__":
    main()
