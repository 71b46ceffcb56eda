"""How right a model is about one labelled picture, on a scale that tells good from better."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.decoders.boxes import overlap
from edge_agent.evaluation.labelled import LabelledObject
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A probability below this is as bad as one can be.
LEAST_PROBABILITY = 1e-3
# Boxes that overlap by as much are of the same object; an object counts as found from this confidence on.
SAME_PLACE, FOUND = 0.5, 0.5
# Detections below this confidence are not looked at.
LEAST_CONFIDENCE = 0.1


def of_class(confidences: "NDArray[np.float32]", right: int) -> tuple[float, float]:
    """Score and accuracy of a classifier on one picture.

    The score is the logarithm of the right class's share of the confidence, which is a proper scoring rule, on a scale
    from 0 to 1.

    Args:
        confidences: (classes,), 0 to 1.
        right: the right class.
    """
    total = float(confidences.sum())
    share = float(confidences[right]) / total if total > 0 else 0.0
    score = 1 - math.log(max(share, LEAST_PROBABILITY)) / math.log(LEAST_PROBABILITY)
    return score, float(int(confidences.argmax()) == right and total > 0)


def of_objects(
    found: Sequence[Prediction], objects: Sequence[LabelledObject], classes: Mapping[str, int]
) -> tuple[float, float]:
    """Score and accuracy of a detector on one picture.

    Both are what is right of all that is there or was found; in the score each detection has its confidence as its
    weight, and its overlap.

    Args:
        found: the predictions, the most confident first.
        objects: the right ones, in pixels; crowds are left out.
        classes: the class of the model for each label.
    """
    left = [one for one in objects if not one.crowd]
    there = len(left)
    right = certain = wrong = false = 0.0
    for one in found:
        confidence = one.confidence or 0.0
        same = [other for other in left if classes.get(other.label) == one.class_id]
        overlaps = [overlap(one.box, other.box) for other in same]
        if overlaps and max(overlaps) >= SAME_PLACE:
            left.remove(same[overlaps.index(max(overlaps))])
            right += confidence * max(overlaps)
            certain += confidence >= FOUND
        else:
            wrong += confidence
            false += confidence >= FOUND
    if not there:
        return 1 / (1 + wrong), 1 / (1 + false)
    return right / (there + wrong), certain / (there + false)


def certainty(confidences: "NDArray[np.float32]", others: "Sequence[NDArray[np.float32]]") -> float:
    """How sure of itself a classifier is on one picture without a label, 0 to 1.

    It is 1 less the entropy relative to the greatest possible one, times the share of the confidence that stays when
    the picture is mirrored or moved.

    Args:
        confidences: (classes,).
        others: the same for the mirrored or moved picture.
    """
    shares = confidences / max(float(confidences.sum()), 1e-9)
    known = shares[shares > 0]
    entropy = float(-(known * np.log(known)).sum()) / math.log(max(2, len(shares)))
    stays = [float(np.minimum(shares, other / max(float(other.sum()), 1e-9)).sum()) for other in others]
    return (1 - entropy) * (sum(stays) / len(stays) if stays else 1.0)
