"""Average precision of detections and poses, as COCO defines it.

Sources: https://cocodataset.org/#detection-eval, https://cocodataset.org/#keypoints-eval, and for what these leave open
pycocotools/cocoeval.py of https://github.com/cocodataset/cocoapi.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
# Areas in square pixels: of all objects, and of small, medium and large ones.
AREAS = {"all": (0.0, 1e10), "small": (0.0, 1024.0), "medium": (1024.0, 9216.0), "large": (9216.0, 1e10)}
_RANGES = np.array(list(AREAS.values()))
MAX_DETECTIONS = {"detection": 100, "pose": 20}
# Of COCO's 17 keypoints of a person: how far apart annotators put them.
SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
_NOTHING_SMALLER = 1e-10
_NONE, _NO_OBJECTS = np.zeros((1, 1, 1), bool), np.zeros(len(AREAS), np.intp)


@dataclass(frozen=True, slots=True)
class Truths:
    """The labelled objects of one class in one picture.

    Attributes:
        boxes: (objects, 4), x1, y1, x2, y2 in pixels.
        areas: (objects,), in square pixels.
        crowd: (objects,), of those any number of detections is right, and none of them is needed.
        keypoints: (objects, points, 3), x, y, visibility; None where boxes are compared.
    """

    boxes: "NDArray[np.float64]"
    areas: "NDArray[np.float64]"
    crowd: "NDArray[np.bool_]"
    keypoints: "NDArray[np.float64] | None" = None


@dataclass(frozen=True, slots=True)
class Matches:
    """Detections of one class in one picture, compared with the truth, for each of A areas and T thresholds.

    Attributes:
        scores: (detections,), the highest first.
        right: (A, T, detections).
        ignored: (A, T, detections), neither right nor wrong.
        needed: (A,), number of objects to be found.
    """

    scores: "NDArray[np.float64]"
    right: "NDArray[np.bool_]"
    ignored: "NDArray[np.bool_]"
    needed: "NDArray[np.intp]"


def overlaps(
    found: "NDArray[np.float64]", truth: "NDArray[np.float64]", crowd: "NDArray[np.bool_]"
) -> "NDArray[np.float64]":
    """Intersection over union of boxes; over the area of the detection alone where the object is a crowd.

    Args:
        found: (detections, 4), x1, y1, x2, y2.
        truth: (objects, 4), the same.
        crowd: (objects,).

    Returns:
        (detections, objects), 0 to 1.
    """
    low = np.maximum(found[:, None, :2], truth[None, :, :2])
    high = np.minimum(found[:, None, 2:], truth[None, :, 2:])
    both = np.maximum(high - low, 0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (found, truth)]
    either = np.where(crowd[None, :], areas[0][:, None], areas[0][:, None] + areas[1][None, :] - both)
    return np.asarray(both / np.where(either > 0, either, 1), np.float64)


def keypoint_similarities(
    found: "NDArray[np.float64]", truth: Truths, sigmas: "NDArray[np.float64]"
) -> "NDArray[np.float64]":
    """Object keypoint similarity (OKS), (detections, objects), 0 to 1.

    Of an object without labelled keypoints, it says how far the points lie outside of its box, made twice as large.

    Args:
        found: (detections, points, 2 or 3), x, y in pixels.
        truth: with keypoints.
        sigmas: (points,), the spread of each point relative to the object's size.
    """
    if truth.keypoints is None:
        raise ValueError("expected keypoints")
    x, y, seen = (truth.keypoints[None, :, :, axis] for axis in range(3))
    visible: NDArray[np.bool_] = np.asarray(seen > 0)
    labelled = np.asarray(visible.any(axis=2))[:, :, None]
    sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
    low, high = (truth.boxes[:, :2] - sides)[None, :, None], (truth.boxes[:, 2:] + sides)[None, :, None]
    at = found[:, None, :, :2]
    outside = np.maximum(0, low - at) + np.maximum(0, at - high)
    dx = np.where(labelled, found[:, None, :, 0] - x, outside[..., 0])
    dy = np.where(labelled, found[:, None, :, 1] - y, outside[..., 1])
    scale = (truth.areas + np.spacing(1))[None, :, None]
    distances = (dx**2 + dy**2) / (2 * sigmas) ** 2 / scale / 2
    counts = np.where(labelled, visible, 1.0)
    return np.asarray((np.exp(-distances) * counts).sum(axis=2) / counts.sum(axis=2), np.float64)


def sigmas_for(points: int) -> "NDArray[np.float64]":
    """COCO's for 17 keypoints; for others the same for each, 1 / points, as Ultralytics does."""
    return SIGMAS if points == len(SIGMAS) else np.full(points, 1 / points)


def match(
    scores: "NDArray[np.float64]",
    areas: "NDArray[np.float64]",
    likeness: "NDArray[np.float64]",
    truth: Truths,
) -> Matches:
    """Gives each detection, the most confident first, the object that it is most like.

    Args:
        scores: (detections,), the highest first.
        areas: (detections,), in square pixels.
        likeness: (detections, objects), IoU or OKS.
        truth: the objects.
    """
    ranges = _RANGES
    unlabelled = truth.crowd
    if truth.keypoints is not None:
        unlabelled = unlabelled | ~(truth.keypoints[:, :, 2] > 0).any(axis=1)
    outside = (truth.areas < ranges[:, :1]) | (truth.areas > ranges[:, 1:])
    ignore = unlabelled[None, :] | outside  # (A, objects)
    shape = (len(ranges), len(THRESHOLDS), len(scores))
    right, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    taken = np.zeros((*shape[:2], len(truth.areas)), bool)
    least = np.minimum(THRESHOLDS, 1 - _NOTHING_SMALLER)[None, :, None]
    # The last one of equals is taken, as pycocotools does; an object that counts before one that does not.
    for number in np.flatnonzero(likeness.max(axis=1, initial=0) >= THRESHOLDS[0]):
        row = likeness[number]
        usable = (row >= least) & (~taken | truth.crowd)
        value = np.where(usable, row + 2.0 * ~ignore[:, None, :], -1)
        best = value.shape[2] - 1 - value[:, :, ::-1].argmax(axis=2)
        hit = np.take_along_axis(value, best[..., None], 2)[..., 0] >= 0
        area, threshold = np.nonzero(hit)
        object_ = best[area, threshold]
        taken[area, threshold, object_] = True
        right[area, threshold, number] = ~ignore[area, object_]
        ignored[area, threshold, number] = ignore[area, object_]
    too_small_or_large = (areas < ranges[:, :1]) | (areas > ranges[:, 1:])
    ignored |= ~right & ~ignored & too_small_or_large[:, None, :]
    return Matches(scores, right, ignored, (~ignore).sum(axis=1))


def unmatched(scores: "NDArray[np.float64]", areas: "NDArray[np.float64]") -> Matches:
    """The same where there is no object: most classes are found in most pictures with hardly any confidence."""
    shape = (len(_RANGES), len(THRESHOLDS), len(scores))
    outside = (areas < _RANGES[:, :1]) | (areas > _RANGES[:, 1:])
    ignored = np.broadcast_to(outside[:, None, :], shape)
    return Matches(scores, np.broadcast_to(_NONE, shape), ignored, _NO_OBJECTS)


class Curves:
    """Precision over recall of one class, from the matches of all pictures.

    Args:
        matches: of the pictures in which the class is labelled or found.
        pictures: their numbers.
    """

    def __init__(self, matches: Sequence[Matches], pictures: Sequence[int]) -> None:
        scores = np.concatenate([one.scores for one in matches])
        order = np.argsort(-scores, kind="mergesort")
        self.scores = scores[order]
        self.right = np.concatenate([one.right for one in matches], axis=2)[:, :, order]
        self.wrong = ~(self.right | np.concatenate([one.ignored for one in matches], axis=2)[:, :, order])
        self._picture = np.repeat(pictures, [len(one.scores) for one in matches])[order]
        self._needed, self._of = np.stack([one.needed for one in matches]), np.asarray(pictures)

    @property
    def steps(self) -> int:
        """How much work an average precision is."""
        return self.right.size

    @property
    def objects(self) -> int:
        """Number of objects to be found."""
        return int(self._needed[:, 0].sum())

    def weight(self, weights: "NDArray[np.float64]") -> float:
        """Number of objects to be found, where each picture counts as often as `weights` (pictures,) say."""
        return float((self._needed[:, 0] * weights[self._of]).sum())

    def hits(self, weights: "NDArray[np.float64]") -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
        """Of each detection, how often it is right and wrong, at an IoU of 0.5, both (detections,)."""
        each = weights[self._picture]
        return self.right[0, 0] * each, self.wrong[0, 0] * each

    def curve(
        self, area: int, weights: "NDArray[np.float64]"
    ) -> "tuple[NDArray[np.float64], NDArray[np.float64]] | None":
        """Recall, and precision that does not rise with it, at each detection, both (T, detections); None: no object.

        Args:
            area: number of the range of areas.
            weights: (pictures,).
        """
        needed = float((self._needed[:, area] * weights[self._of]).sum())
        if not needed:
            return None
        each = weights[self._picture]
        right = np.cumsum(self.right[area] * each, axis=1)
        wrong = np.cumsum(self.wrong[area] * each, axis=1)
        precision = right / np.maximum(right + wrong, np.spacing(1))
        return right / needed, np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]

    def average_precision(self, area: int, weights: "NDArray[np.float64]") -> "NDArray[np.float64] | None":
        """The mean precision at 101 values of recall, for each threshold (T,); None: there is no object.

        Args:
            area: number of the range of areas.
            weights: (pictures,).
        """
        found = self.curve(area, weights)
        if found is None:
            return None
        averages = np.zeros(len(THRESHOLDS))
        for number, (recall, precision) in enumerate(zip(*found, strict=True)):
            at = np.searchsorted(recall, RECALLS, side="left")
            averages[number] = precision[at[at < len(precision)]].sum() / len(RECALLS)
        return averages


def best_threshold(curves: Sequence[Curves], weights: "NDArray[np.float64]") -> tuple[float, float]:
    """The confidence from which on the detections of all classes are right most often, at an IoU of 0.5.

    Args:
        curves: one a class.
        weights: (pictures,).

    Returns:
        The confidence, half-way to the next lower one, and F1 there; NaN where nothing is labelled or found.
    """
    needed = sum(curve.weight(weights) for curve in curves)
    scores = np.concatenate([curve.scores for curve in curves]) if curves else np.zeros(0)
    if not needed or not len(scores):
        return math.nan, math.nan
    order = np.argsort(-scores, kind="stable")
    each = [curve.hits(weights) for curve in curves]
    right, wrong = (np.cumsum(np.concatenate([one[place] for one in each])[order]) for place in (0, 1))
    scores = scores[order]
    f1 = 2 * right / np.maximum(right + wrong + needed, np.spacing(1))
    f1[:-1][scores[:-1] == scores[1:]] = -1  # a threshold can't part equals
    best = int(f1.argmax())
    below = scores[best + 1] if best + 1 < len(scores) else 0.0
    return float((scores[best] + below) / 2), float(f1[best])


def summary(curves: Sequence[Curves], weights: "NDArray[np.float64]", task: str) -> dict[str, float]:
    """COCO's summary: the mean over the classes that are labelled, 0 to 1; NaN where there are none.

    Args:
        curves: one a class.
        weights: (pictures,).
        task: `detection`; or `pose`, which has no small objects.
    """
    found: dict[str, float] = {}
    for number, name in enumerate(AREAS):
        if (task, name) == ("pose", "small"):
            continue
        each = [one for curve in curves if (one := curve.average_precision(number, weights)) is not None]
        table = np.stack(each) if each else np.full((1, len(THRESHOLDS)), np.nan)
        found["ap" if name == "all" else f"ap_{name}"] = float(table.mean())
        if name == "all":
            found |= {"ap50": float(table[:, 0].mean()), "ap75": float(table[:, 5].mean())}
    found["threshold"], found["f1"] = best_threshold(curves, weights)
    return found
