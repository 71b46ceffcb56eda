"""How much of what two models say of the same picture is the same."""

from collections.abc import Sequence

import numpy as np

from edge_agent.decoders.boxes import iou
from edge_agent.samples import Prediction

MIN_OVERLAP = 0.5
# Values that differ by less than this share of the larger one are the same.
SAME_VALUE = 0.1
# Each model has a measure of its own for these.
NOT_COMPARABLE = ("embedding", "anomaly")


def agreement(task: str, one: Sequence[Prediction], other: Sequence[Prediction]) -> float:
    """The share, 0 to 1, of what two models say that is the same.

    Of a classification, the winning label (of each region). Of things with boxes, those that both find: the same label
    at the same place. Of values, those that differ by less than a tenth. Of what is left, the labels. Vectors of two
    models, and their scores of anomalies, can't be compared: they agree.
    """
    if task in NOT_COMPARABLE:
        return 1.0
    if task == "regression":
        pairs = list(zip((p.value or 0.0 for p in one), (p.value or 0.0 for p in other), strict=False))
        same = sum(abs(a - b) <= SAME_VALUE * max(abs(a), abs(b)) for a, b in pairs)
        return same / max(len(one), len(other), 1)
    if any(prediction.box for prediction in (*one, *other)):
        return _boxes_agree(one, other)
    if task == "classification":
        first, second = _winners(one), _winners(other)
        regions = first.keys() | second.keys()
        return sum(first.get(region) == second.get(region) for region in regions) / len(regions) if regions else 1.0
    labels, others = {p.label for p in one}, {p.label for p in other}
    return len(labels & others) / len(labels | others) if labels | others else 1.0


def _winners(predictions: Sequence[Prediction]) -> dict[str | None, str | None]:
    winners: dict[str | None, str | None] = {}
    for prediction in predictions:
        winners.setdefault(prediction.region, prediction.label)
    return winners


def _boxes_agree(one: Sequence[Prediction], other: Sequence[Prediction]) -> float:
    left, found = list(other), 0
    for prediction in one:
        match = max(left, key=lambda p: _overlap(prediction, p), default=None)
        if match is not None and _overlap(prediction, match) >= MIN_OVERLAP:
            left.remove(match)
            found += 1
    return 2 * found / (len(one) + len(other))


def _overlap(one: Prediction, other: Prediction) -> float:
    if one.box is None or other.box is None or one.label != other.label:
        return 0.0
    return float(iou(np.array([one.box], np.float32), np.array([other.box], np.float32))[0, 0])
