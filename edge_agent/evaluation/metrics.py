"""Measures of how right predictions are: pure functions of arrays.

Each takes `weights`, (samples,), how often each sample counts: ones for the data as they are, the counts of a bootstrap
resample for an interval.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALIBRATION_BINS = 15
RESAMPLES = 1000
# Of an expensive measure there are fewer resamples: no more than this many steps, but at least this many resamples.
MAX_STEPS, MIN_RESAMPLES = 300_000_000, 50
CONFIDENCE = 0.95
SEED = 20_211
# Measures that are a share of the samples.
SHARES = ("top1", "top5", "exact")

Statistic = Callable[["NDArray[np.float64]"], Mapping[str, float]]


def mean(values: "NDArray[np.float64]", weights: "NDArray[np.float64]") -> float:
    """The weighted mean of values (samples,); NaN where nothing counts."""
    total = weights.sum()
    return float((values * weights).sum() / total) if total else float("nan")


def confusion(
    truth: "NDArray[np.intp]", found: "NDArray[np.intp]", classes: int, weights: "NDArray[np.float64]"
) -> "NDArray[np.float64]":
    """How often a class, its row, is taken for another, its column: (classes, classes).

    Args:
        truth: (samples,), numbers of classes.
        found: (samples,), numbers of classes.
        classes: how many there are.
        weights: (samples,).
    """
    cells = np.bincount(truth * classes + found, weights, minlength=classes * classes)
    return np.asarray(cells.reshape(classes, classes), np.float64)


def precision_recall(matrix: "NDArray[np.float64]") -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    """Precision and recall of each class of a confusion matrix, each (classes,); NaN where there is no such case."""
    right = np.diag(matrix)
    with np.errstate(invalid="ignore"):
        return right / matrix.sum(axis=0), right / matrix.sum(axis=1)


def calibration(
    confidences: "NDArray[np.float64]", right: "NDArray[np.float64]", weights: "NDArray[np.float64]"
) -> "NDArray[np.float64]":
    """Of each of 15 equal bins of confidence: the weight, the mean confidence, and the share that is right, (bins, 3).

    Args:
        confidences: (samples,), 0 to 1, of the first prediction.
        right: (samples,), 1 where it is right, else 0.
        weights: (samples,).
    """
    bins = np.clip(np.ceil(confidences * CALIBRATION_BINS).astype(np.intp) - 1, 0, CALIBRATION_BINS - 1)
    total = np.bincount(bins, weights, CALIBRATION_BINS)
    sums = [np.bincount(bins, weights * values, CALIBRATION_BINS) for values in (confidences, right)]
    return np.stack([total, *(values / np.where(total > 0, total, 1) for values in sums)], axis=1)


def expected_calibration_error(bins: "NDArray[np.float64]") -> float:
    """The mean distance between confidence and accuracy over the bins of `calibration`, 0 to 1.

    Source: Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599
    """
    total = bins[:, 0].sum()
    return float((bins[:, 0] * np.abs(bins[:, 1] - bins[:, 2])).sum() / total) if total else float("nan")


def auroc(scores: "NDArray[np.float64]", positive: "NDArray[np.bool_]", weights: "NDArray[np.float64]") -> float:
    """The probability that a positive sample has a higher score than a negative one; ties count half.

    Args:
        scores: (samples,).
        positive: (samples,).
        weights: (samples,).
    """
    values, place = np.unique(scores, return_inverse=True)
    ups = np.bincount(place, weights * positive, len(values))
    downs = np.bincount(place, weights * ~positive, len(values))
    pairs = ups.sum() * downs.sum()
    below = np.cumsum(downs) - downs / 2
    return float((ups * below).sum() / pairs) if pairs else float("nan")


def threshold_at(
    scores: "NDArray[np.float64]", positive: "NDArray[np.bool_]", false_alarms: float
) -> tuple[float, float]:
    """The lowest threshold with at most this share of false alarms, and the share of anomalies found with it.

    A sample is an anomaly where its score is above the threshold.

    Args:
        scores: (samples,).
        positive: (samples,), whether it is an anomaly.
        false_alarms: share of normal samples, 0 to 1.
    """
    normal = np.sort(scores[~positive])
    allowed = int(false_alarms * len(normal))
    threshold = float(normal[len(normal) - 1 - allowed]) if allowed < len(normal) else -np.inf
    return threshold, float((scores[positive] > threshold).mean())


def regression(
    truth: "NDArray[np.float64]", found: "NDArray[np.float64]", weights: "NDArray[np.float64]"
) -> dict[str, float]:
    """Mean absolute error, root mean square error, and the share of the variance that is explained (R²).

    Args:
        truth: (samples,).
        found: (samples,).
        weights: (samples,).
    """
    errors = found - truth
    spread = mean(np.square(truth - mean(truth, weights)), weights)
    square = mean(np.square(errors), weights)
    return {
        "mae": mean(np.abs(errors), weights),
        "rmse": float(np.sqrt(square)),
        "r2": 1 - square / spread if spread else float("nan"),
    }


def mean_iou(
    both: "NDArray[np.float64]", either: "NDArray[np.float64]", weights: "NDArray[np.float64]"
) -> "tuple[float, NDArray[np.float64]]":
    """Intersection over union: the mean over the classes that occur, and of each class (classes,), NaN where none.

    Args:
        both: (samples, classes), pixels that are of the class in the truth and in the prediction.
        either: (samples, classes), pixels that are of it in one of them or both.
        weights: (samples,).
    """
    shared, all_ = weights @ both, weights @ either
    with np.errstate(invalid="ignore"):
        each = shared / all_
    occurs = all_ > 0
    return float(each[occurs].mean()) if occurs.any() else float("nan"), each


def resamples(samples: int, steps: int, seed: int = SEED) -> "NDArray[np.float64]":
    """How often each sample counts in each resample of a bootstrap: (resamples, samples). The same for the same data.

    Args:
        samples: their number.
        steps: of one computation of the measure.
        seed: of the generator.
    """
    count = int(np.clip(MAX_STEPS // max(1, steps), MIN_RESAMPLES, RESAMPLES))
    drawn = np.random.default_rng(seed)
    return np.stack([np.bincount(drawn.integers(0, samples, samples), minlength=samples) for _ in range(count)]).astype(
        np.float64
    )


def intervals(
    found: Mapping[str, float], drawn: Sequence[Mapping[str, float]], samples: int
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each measure: percentiles of the resamples, less their bias. Undefined ones are left out.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapters 10 and 13. The calibration error needs the
    shift: each resample is worse calibrated than the data, since some samples occur twice. Where all samples are right,
    or none, no resample shows anything else: there a share has its exact interval (Clopper and Pearson). Others, such
    as average precision, have none there: the bootstrap knows only values that have occurred (the same, 7.4).

    Args:
        found: the measures of the data.
        drawn: the same of each resample.
        samples: their number.
    """
    bounds: dict[str, tuple[float, float]] = {}
    edges = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]
    for key, value in found.items():
        values = np.array([one[key] for one in drawn if key in one])
        values = values[np.isfinite(values)]
        if len(values) and np.isfinite(value):
            low, high = np.percentile(values, edges) - (values.mean() - value)
            bounds[key] = (max(float(low), min(0.0, float(values.min()))), float(high))
        if samples and len(values) and (values == value).all():
            bounds.pop(key, None)
        if key in SHARES and value in (0, 1) and samples:
            beyond = 1 - ((1 - CONFIDENCE) / 2) ** (1 / samples)
            bounds[key] = (1 - beyond, 1.0) if value else (0.0, beyond)
    return bounds
