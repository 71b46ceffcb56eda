"""The figures of an evaluation: measures with intervals, times, and how two models differ."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.evaluation import metrics
from edge_agent.evaluation.judging import Judge
from edge_agent.evaluation.labels import plain
from edge_agent.evaluation.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The measure by which models of a task are compared, and whether more of it is better.
MAIN = {
    "classification": "top1",
    "detection": "ap",
    "pose": "ap",
    "segmentation": "miou",
    "regression": "mae",
    "anomaly": "auroc",
    "text": "exact",
}
LESS_IS_BETTER = ("mae", "rmse", "calibration_error", "false_alarms")
MAX_LISTED = 1000
DIGITS = 4


def measured(judge: Judge) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """The measures of a model, and their 95 % intervals from a bootstrap over the samples.

    Args:
        judge: with one outcome at least.
    """
    count = len(judge.outcomes)
    drawn = [judge.statistic(weights) for weights in metrics.resamples(count, judge.steps)]
    found = judge.statistic(np.ones(count))
    return found, metrics.intervals(found, drawn, count)


def document(run: Run, model: Path | str, data: Path) -> dict[str, Any]:
    """What `evaluate --json` prints of a model.

    Args:
        run: the evaluation.
        model: as it was named.
        data: as it was named.
    """
    found: dict[str, float] = {}
    interval: dict[str, tuple[float, float]] = {}
    if run.judge.outcomes:
        found, interval = measured(run.judge)
    latency = dict(zip(("p50", "p90", "p99"), centiles(run.latencies), strict=True))
    return {
        "model": str(model),
        "data": str(data),
        "task": run.task,
        "samples": len(run.judge.outcomes),
        "left_out": run.left_out,
        "interrupted": run.interrupted,
        "failed": [{"where": where, "error": error} for where, error in run.failures[:MAX_LISTED]],
        "metrics": rounded(found),
        "interval": {key: [_rounded(low), _rounded(high)] for key, (low, high) in interval.items()},
        "latency_ms": latency | {"inference_p50": centiles(run.inferences)[0]},
        "per_second": round(len(run.latencies) / run.seconds, 2) if run.seconds else None,
        "memory_mb": round(run.memory / 1e6, 1),
        "per_class": [rounded(row) for row in run.judge.per_class()],
    }


def centiles(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """The median, the 90th and the 99th centile; None without values."""
    if not values:
        return None, None, None
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return round(float(p50), 2), round(float(p90), 2), round(float(p99), 2)


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same with four decimals; None in place of what is not defined."""
    return {key: _rounded(value) if isinstance(value, float) else value for key, value in row.items()}


def _rounded(value: float) -> float | None:
    return round(value, DIGITS) if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Difference:
    """How two models differ on the samples that both have judged.

    Attributes:
        samples: number of them.
        metrics: the first one's measures less the second one's.
        interval: 95 % intervals of these differences, from the same resamples for both.
        differing: samples of which both say something else: where, what is expected, and what each has found.
    """

    samples: int
    metrics: dict[str, float]
    interval: dict[str, tuple[float, float]]
    differing: list[dict[str, str]]

    def document(self) -> dict[str, Any]:
        """As a part of what `evaluate --json` prints."""
        return {
            "samples": self.samples,
            "metrics": rounded(self.metrics),
            "interval": {key: [_rounded(low), _rounded(high)] for key, (low, high) in self.interval.items()},
            "differing": self.differing,
        }


def difference(first: Run, second: Run) -> Difference:
    """Compares two runs on the same data, paired by sample."""
    rows = [_rows(run) for run in (first, second)]
    both = [key for key in rows[0] if key in rows[1]]
    places = [np.array([one[key] for key in both], np.intp) for one in rows]
    judges = (first.judge, second.judge)

    def at(weights: "NDArray[np.float64]") -> dict[str, float]:
        found = []
        for judge, place in zip(judges, places, strict=True):
            spread = np.zeros(len(judge.outcomes))
            spread[place] = weights
            found.append(judge.statistic(spread))
        return {key: found[0][key] - found[1][key] for key in found[0] if key in found[1] and key != "threshold"}

    if not both:
        return Difference(0, {}, {}, [])
    drawn = [at(weights) for weights in metrics.resamples(len(both), sum(judge.steps for judge in judges))]
    differing = []
    for here, there in zip(*places, strict=True):
        ours, theirs = (judge.outcomes[place] for judge, place in zip(judges, (here, there), strict=True))
        if ours.score != theirs.score or (ours.score < 1 and _named(ours.found) != _named(theirs.found)):
            row = {"where": ours.where, "expected": ours.expected, "found": ours.found, "against": theirs.found}
            differing.append((abs(ours.score - theirs.score), row))
    differing.sort(key=lambda one: -one[0])
    found = at(np.ones(len(both)))
    listed = [row for _, row in differing[:MAX_LISTED]]
    return Difference(len(both), found, metrics.intervals(found, drawn, 0), listed)


def _rows(run: Run) -> dict[tuple[int, int], int]:
    """The place of each outcome, by the number of its sample and of its window."""
    found: dict[tuple[int, int], int] = {}
    seen: dict[int, int] = {}
    for place, number in enumerate(run.numbers):
        seen[number] = seen.get(number, -1) + 1
        found[number, seen[number]] = place
    return found


def _named(found: str) -> str:
    """What an outcome has found, without synonyms and without how sure the model is of it."""
    name, _, confidence = found.rpartition(" ")
    return plain(name.partition(",")[0]) if name and confidence.replace(".", "", 1).isdecimal() else found
