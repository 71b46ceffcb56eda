"""How far two models agree on the same samples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from edge_agent.decoders.boxes import overlap
from edge_agent.models import golden
from edge_agent.samples import Prediction

COMPARED = ("classification", "detection")
# Labels whose confidences are so close change places from one kernel of the very same model to another; so do objects
# whose confidence is so close to the limit.
TIE = golden.TOLERANCE
# An object counts from this confidence on.
LEAST = golden.LEAST_RECORDED
# Boxes that overlap by as much are those of the same object, in the same place.
SAME_PLACE = 0.75


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two models agree.

    Attributes:
        unit: what is counted.
        compared: number of samples, or of objects that one of both has found.
        same: of them, those with the same top label, or found by both in the same place with the same label.
        tied: further ones whose new top label was practically tied with the original one, or whose confidence is that
            close to the limit.
    """

    unit: str
    compared: int
    same: int
    tied: int

    @property
    def share(self) -> float:
        """Of what is compared: those that are the same or tied, 0 to 1."""
        return (self.same + self.tied) / self.compared if self.compared else 0.0


def agreement(task: str, old: Iterable[Sequence[Prediction]], new: Iterable[Sequence[Prediction]]) -> Agreement:
    """Compares the predictions of two models.

    Args:
        task: of both: one of `COMPARED`.
        old: for each sample the predictions of the original, the most confident first, from `LEAST - TIE` on or all.
        new: the same for the other model.
    """
    verdicts: list[str] = []
    for before, after in zip(old, new, strict=True):
        verdicts += [_rank(before, after)] if task == "classification" else _objects(before, after)
    unit = "samples" if task == "classification" else "objects"
    return Agreement(unit, len(verdicts), verdicts.count("same"), verdicts.count("tied"))


def _rank(old: Sequence[Prediction], new: Sequence[Prediction]) -> str:
    if not old or not new:
        return "same" if not old and not new else "other"
    confidences = {one.class_id: one.confidence or 0.0 for one in old}
    label = new[0].class_id
    if label == old[0].class_id:
        return "same"
    return "tied" if confidences.get(label, -1.0) >= (old[0].confidence or 0.0) - TIE else "other"


def _objects(old: Sequence[Prediction], new: Sequence[Prediction]) -> list[str]:
    """A verdict for each object that one of both has found with enough confidence."""
    left = [one for one in new if _confidence(one) >= LEAST - TIE]
    pairs: list[tuple[float, float]] = []
    for one in old:
        others = [(overlap(one.box, other.box), other) for other in left if other.class_id == one.class_id]
        share, nearest = max(others, key=itemgetter(0), default=(0.0, one))
        if share < SAME_PLACE:
            pairs.append((0.0, _confidence(one)))
            continue
        left.remove(nearest)
        pairs.append((_confidence(one), _confidence(nearest)))
    pairs += [(0.0, _confidence(one)) for one in left]
    return [_verdict(min(pair), max(pair)) for pair in pairs if max(pair) >= LEAST]


def _verdict(least: float, most: float) -> str:
    if least >= LEAST:
        return "same"
    return "tied" if least >= LEAST - TIE or most < LEAST + TIE else "other"


def _confidence(one: Prediction) -> float:
    return one.confidence or 0.0
