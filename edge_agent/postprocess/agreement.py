"""How far the predictions of two models for the same sample agree."""

from collections.abc import Sequence
from dataclasses import replace

from edge_agent.decoders.boxes import overlap
from edge_agent.samples import Prediction

MIN_OVERLAP = 0.5
# Values that differ by up to this share of the larger one agree.
SAME_VALUE = 0.1
# Their scale differs from model to model.
NOT_COMPARABLE = ("embedding", "anomaly", "raw")


def by_class(labels: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two models are compared by class number: as many labels in both, but not the same ones.

    Labels are spelled in many ways (`tench`; `tench, Tinca tinca`). A model without labels has numbers only.
    """
    return set(labels) != set(others) and (len(labels) == len(others) or not labels or not others)


def agreement(task: str, one: Sequence[Prediction], other: Sequence[Prediction], *, classes: bool = False) -> float:
    """The share of the predictions of two models that agree, 0 to 1.

    Classification: the same top label, in each region. Predictions with boxes: found by both, with the same label and
    overlapping boxes. Regression: values within a tenth of each other. Other tasks: the labels. Embeddings and anomaly
    scores of two models can't be compared and count as agreeing.

    Args:
        task: of both models.
        one: the predictions of the first model.
        other: those of the second one.
        classes: compares class numbers in place of labels; see `by_class`.
    """
    if classes:
        one, other = _numbered(one), _numbered(other)
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


def _numbered(predictions: Sequence[Prediction]) -> list[Prediction]:
    return [p if p.class_id is None else replace(p, label=str(p.class_id)) for p in predictions]


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
    return overlap(one.box, other.box) if one.label == other.label else 0.0
