"""Measures, against scikit-learn and by hand."""

import numpy as np
import pytest

from edge_agent.evaluation import metrics

judge = pytest.importorskip("sklearn.metrics")

SAMPLES, CLASSES = 400, 5


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


ONES = np.ones(SAMPLES)
TRUTH = draw(0).integers(0, CLASSES, SAMPLES)
FOUND = np.where(draw(1).random(SAMPLES) < 0.7, TRUTH, draw(2).integers(0, CLASSES, SAMPLES))


def test_confusion_precision_and_recall_are_those_of_scikit_learn() -> None:
    matrix = metrics.confusion(TRUTH, FOUND, CLASSES, ONES)
    assert matrix.tolist() == judge.confusion_matrix(TRUTH, FOUND).tolist()
    precision, recall = metrics.precision_recall(matrix)
    assert precision == pytest.approx(judge.precision_score(TRUTH, FOUND, average=None))
    assert recall == pytest.approx(judge.recall_score(TRUTH, FOUND, average=None))


def test_auroc_is_that_of_scikit_learn_also_with_ties_and_weights() -> None:
    scores, positive = np.round(draw(3).normal(size=SAMPLES), 1), draw(4).random(SAMPLES) < 0.3
    weights = draw(5).integers(0, 3, SAMPLES).astype(float)
    ours = metrics.auroc(scores, positive, weights)
    assert ours == pytest.approx(judge.roc_auc_score(positive, scores, sample_weight=weights))


def test_the_threshold_keeps_to_the_share_of_false_alarms() -> None:
    scores, positive = draw(6).normal(size=SAMPLES), draw(7).random(SAMPLES) < 0.5
    threshold, found = metrics.threshold_at(scores + positive, positive, 0.05)
    alarms = scores + positive > threshold
    assert alarms[~positive].mean() == pytest.approx(0.05, abs=1 / (~positive).sum())
    assert alarms[~positive].mean() <= 0.05
    assert found == pytest.approx(alarms[positive].mean())


def test_regression_measures_are_those_of_scikit_learn() -> None:
    truth, found = draw(8).normal(size=SAMPLES), draw(9).normal(size=SAMPLES)
    ours = metrics.regression(truth, found, ONES)
    assert ours["mae"] == pytest.approx(judge.mean_absolute_error(truth, found))
    assert ours["rmse"] == pytest.approx(judge.root_mean_squared_error(truth, found))
    assert ours["r2"] == pytest.approx(judge.r2_score(truth, found))


def test_mean_iou_is_that_of_scikit_learn() -> None:
    each_class = np.arange(CLASSES)[:, None]
    both = ((each_class == TRUTH) & (each_class == FOUND)).sum(axis=1)[None].astype(float)
    either = ((each_class == TRUTH) | (each_class == FOUND)).sum(axis=1)[None].astype(float)
    ours, each = metrics.mean_iou(both, either, np.ones(1))
    assert each == pytest.approx(judge.jaccard_score(TRUTH, FOUND, average=None))
    assert ours == pytest.approx(judge.jaccard_score(TRUTH, FOUND, average="macro"))


def test_a_model_as_right_as_it_says_has_no_calibration_error() -> None:
    confidences = np.repeat([0.3, 0.9], 100)
    right = np.concatenate([np.arange(100) < 30, np.arange(100) < 90]).astype(float)
    assert metrics.expected_calibration_error(metrics.calibration(confidences, right, np.ones(200))) < 1e-9
    wrong = metrics.calibration(confidences, np.zeros(200), np.ones(200))
    assert metrics.expected_calibration_error(wrong) == pytest.approx(0.6)


def test_confidences_of_zero_and_one_are_in_the_outer_bins() -> None:
    bins = metrics.calibration(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.ones(2))
    assert (bins[0, 0], bins[-1, 0]) == (1, 1)


def test_an_interval_holds_the_truth_about_19_times_in_20() -> None:
    hits = 0
    for seed in range(200):
        right = (draw(seed).random(100) < 0.8).astype(float)
        drawn = [{"mean": metrics.mean(right, weights)} for weights in metrics.resamples(100, 100)]
        low, high = metrics.intervals({"mean": float(right.mean())}, drawn, 100)["mean"]
        hits += low <= 0.8 <= high
    assert 180 <= hits <= 198


def test_resamples_are_the_same_each_time_and_fewer_where_they_are_dear() -> None:
    assert (metrics.resamples(10, 10) == metrics.resamples(10, 10)).all()
    assert len(metrics.resamples(10, 10)) == metrics.RESAMPLES
    assert len(metrics.resamples(10, metrics.MAX_STEPS)) == metrics.MIN_RESAMPLES


def test_the_interval_of_a_biased_measure_holds_what_was_measured() -> None:
    confidences, right = draw(1).random(100), draw(2).random(100) < draw(1).random(100)

    def error(weights: np.typing.NDArray[np.float64]) -> dict[str, float]:
        bins = metrics.calibration(confidences, right.astype(float), weights)
        return {"error": metrics.expected_calibration_error(bins)}

    found = error(np.ones(100))
    low, high = metrics.intervals(found, [error(weights) for weights in metrics.resamples(100, 100)], 100)["error"]
    assert 0 <= low < found["error"] < high


def test_the_interval_of_all_right_is_the_exact_one() -> None:
    drawn = [{"top1": 1.0, "ap": 1.0}] * 100
    found = metrics.intervals({"top1": 1.0, "ap": 1.0}, drawn, 14)
    assert found["top1"] == pytest.approx((0.7684, 1), abs=1e-4)
    none = metrics.intervals({"top1": 0.0}, [{"top1": 0.0}] * 100, 14)
    assert none["top1"] == pytest.approx((0, 1 - 0.7684), abs=1e-4)


def test_where_no_resample_differs_a_measure_that_is_no_share_has_no_interval() -> None:
    drawn = [{"ap": 1.0, "miou": 0.5}] * 99 + [{"ap": 1.0, "miou": 0.4}]
    assert list(metrics.intervals({"ap": 1.0, "miou": 0.5}, drawn, 14)) == ["miou"]
