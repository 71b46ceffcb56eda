"""Compares what a model sees in pictures with what is there: objects, poses, classes of pixels."""

import struct
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.errors import ConfigError, InputError
from edge_agent.evaluation import average_precision as ap
from edge_agent.evaluation import metrics
from edge_agent.evaluation.judging import Options, Outcome, expect
from edge_agent.evaluation.labelled import Dataset, LabelledObject, LabelledSample
from edge_agent.evaluation.labels import Matching
from edge_agent.preprocess.opencv import MAX_PIXELS, cv2
from edge_agent.samples import Prediction
from edge_agent.system.text import TextError, read_file
from edge_agent.system.units import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Detections from here up count where one picture is described: the default of a pipeline.
SHOWN = 0.25
MAX_MARKED = 20
NOT_JUDGED = 255
_MAX_MASK = 200_000_000
_PALETTE, _GREY, _HEADER = 3, 0, 33


class Detected:
    """Judges detection and poses: see `average_precision`.

    Args:
        dataset: of objects.
        labels: of the model.
        options: of the evaluation.
        task: `detection` or `pose`.

    Raises:
        ConfigError: the data has no objects, or some that the model does not know, or other keypoints.
    """

    def __init__(self, dataset: Dataset, labels: Sequence[str], options: Options, task: str) -> None:
        needed = "objects with keypoints" if task == "pose" else "objects in pictures: COCO, YOLO, VOC or CSV"
        expect(dataset, "objects", task, needed)
        if task == "pose" and not dataset.keypoints:
            raise ConfigError([f"{dataset.path}: the model's task is pose, which needs {needed}; found boxes alone"])
        self._dataset, self._task = dataset, task
        self._matching = Matching(labels, options.mapping)
        used = {one.label for sample in dataset for one in sample.objects or ()}
        self._key_of = self._matching.resolve([label for label in dataset.classes if label in used])
        self._names = {key: label for label, key in self._key_of.items() if key is not None}
        self._sigmas = ap.sigmas_for(dataset.keypoints) if task == "pose" else None
        self._matches: dict[str, list[ap.Matches]] = defaultdict(list)
        self._pictures: dict[str, list[int]] = defaultdict(list)
        self._made: tuple[int, dict[str, ap.Curves]] = (-1, {})
        self.outcomes: list[Outcome] = []

    def admits(self, sample: LabelledSample) -> bool:
        """See `Judge`: labels that are left out are objects that do not count."""
        del sample
        return True

    def add(self, sample: LabelledSample, predictions: Sequence[Prediction], facts: Mapping[str, Any]) -> None:
        """See `Judge`."""
        objects = sample.objects or ()
        if sample.relative:
            objects = tuple(one.scaled(facts["width"], facts["height"]) for one in objects)
        truths, found = defaultdict[str, list[LabelledObject]](list), defaultdict[str, list[Prediction]](list)
        for one in objects:
            if (key := self._key_of[one.label]) is not None:
                truths[key].append(one)
        for prediction in predictions:
            key = self._matching.key(prediction.label, prediction.class_id)
            if key in self._names:
                found[key].append(prediction)
        right = wrong = needed = 0
        badness, boxes = 0.0, list[tuple[float, float, float, float]]()
        for key in {*truths, *found}:
            best = sorted(found[key], key=lambda one: -(one.confidence or 0))[: ap.MAX_DETECTIONS[self._task]]
            matches = self._matched(truths[key], best)
            self._matches[key].append(matches)
            self._pictures[key].append(len(self.outcomes))
            needed += int(matches.needed[0])
            if not len(matches.scores) or matches.scores[0] < SHOWN:
                continue
            sure = matches.scores >= SHOWN
            mistakes = sure & ~matches.right[0, 0] & ~matches.ignored[0, 0]
            right += int((matches.right[0, 0] & sure).sum())
            wrong += int(mistakes.sum())
            badness += float(matches.scores[mistakes].sum())
            boxes += [box for at in np.flatnonzero(mistakes) if (box := best[at].box) is not None]
        missed = max(0, needed - right)
        score = 2 * right / (2 * right + wrong + missed) if right + wrong + missed else 1.0
        described = f"{right} right, {wrong} wrong, {missed} missed"
        expected, marked = counted(needed, "object"), tuple(boxes[:MAX_MARKED])
        self.outcomes.append(Outcome(sample.name, expected, described, score, badness + missed, marked))

    def finish(self) -> None:
        """See `Judge`."""
        self._matching.check_seen(self._names)

    def _matched(self, objects: Sequence[LabelledObject], found: Sequence[Prediction]) -> ap.Matches:
        """Compares what is there of a class with what was found of it, the most confident first."""
        scores = np.array([one.confidence or 0 for one in found], np.float64)
        if not objects and self._sigmas is None:
            edges = [one.box or (0, 0, 0, 0) for one in found]
            return ap.unmatched(scores, np.array([(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in edges], np.float64))
        boxes = np.array([one.box for one in objects], np.float64).reshape(-1, 4)
        sides = boxes[:, 2:] - boxes[:, :2]
        stated = [sides[number].prod() if one.area is None else one.area for number, one in enumerate(objects)]
        areas, crowd = np.array(stated, np.float64), np.array([one.crowd for one in objects], bool)
        if self._sigmas is None:
            theirs = np.array([one.box or (0, 0, 0, 0) for one in found], np.float64).reshape(-1, 4)
            likeness = ap.overlaps(theirs, boxes, crowd)
            sizes = (theirs[:, 2:] - theirs[:, :2]).prod(axis=1)
            return ap.match(scores, sizes, likeness, ap.Truths(boxes, areas, crowd))
        count = len(self._sigmas)
        if any(len(one.keypoints or ()) != count for one in found):
            number = next(len(one.keypoints or ()) for one in found)
            message = f"objects with {count} keypoints, and the model finds {number}"
            raise ConfigError([f"{self._dataset.path}: {message}: they can't be compared"])
        labelled = [one.keypoints or ((0.0, 0.0, 0.0),) * count for one in objects]
        truth = ap.Truths(boxes, areas, crowd, np.array(labelled, np.float64).reshape(-1, count, 3))
        points = np.array([[point[:2] for point in one.keypoints or ()] for one in found]).reshape(-1, count, 2)
        sizes = np.ptp(points, axis=1).prod(axis=1) if len(points) else np.zeros(0)
        return ap.match(scores, sizes, ap.keypoint_similarities(points, truth, self._sigmas), truth)

    @property
    def curves(self) -> dict[str, ap.Curves]:
        """Precision over recall of each class of the data that is labelled or found, by its label."""
        if self._made[0] != len(self.outcomes):
            made = {
                self._names[key]: ap.Curves(self._matches[key], self._pictures[key])
                for key in self._names
                if key in self._matches
            }
            self._made = (len(self.outcomes), made)
        return self._made[1]

    def statistic(self, weights: "NDArray[np.float64]") -> dict[str, float]:
        """See `Judge`."""
        return ap.summary(list(self.curves.values()), weights, self._task)

    @property
    def steps(self) -> int:
        """See `Judge`."""
        return 10 * sum(curve.steps for curve in self.curves.values()) + 50_000 * len(self.curves)

    def per_class(self) -> list[dict[str, Any]]:
        """See `Judge`."""
        ones = np.ones(len(self.outcomes))
        rows = []
        for label, curve in self.curves.items():
            averages = curve.average_precision(0, ones)
            if averages is not None:
                row = {"label": label, "objects": curve.objects, "ap": float(averages.mean())}
                rows.append(row | {"ap50": float(averages[0])})
        return sorted(rows, key=lambda row: row["ap"])


class Segmented:
    """Judges the classes of pixels.

    Args:
        dataset: of masks.
        labels: of the model.
        options: of the evaluation.

    Raises:
        ConfigError: the data has no masks, or labels that the model does not know.
    """

    def __init__(self, dataset: Dataset, labels: Sequence[str], options: Options) -> None:
        expect(dataset, "masks", "segmentation", "pictures with masks")
        self._matching = Matching(labels, options.mapping)
        self._keys: list[str] = []
        if dataset.classes:
            resolved = self._matching.resolve(dataset.classes)
            self._keys = [resolved[label] or "" for label in dataset.classes]
        else:
            self._keys = [self._matching.key(label, number) for number, label in enumerate(labels)]
        self._names = list(dataset.classes or labels)
        if not self._keys:
            message = "the masks have numbers and the model has no labels: name the classes in classes.txt"
            raise ConfigError([f"{dataset.path}: {message}"])
        self._both: list[NDArray[np.float64]] = []
        self._either: list[NDArray[np.float64]] = []
        self.outcomes: list[Outcome] = []

    def admits(self, sample: LabelledSample) -> bool:
        """See `Judge`."""
        return sample.mask is not None

    def add(self, sample: LabelledSample, predictions: Sequence[Prediction], facts: Mapping[str, Any]) -> None:
        """See `Judge`."""
        truth = read_mask(sample.mask or Path(), len(self._keys))
        if truth.shape != (facts["height"], facts["width"]):
            size = (facts["width"], facts["height"])
            message = f"the mask has {truth.shape[1]} x {truth.shape[0]} pixels, the picture {size[0]} x {size[1]}"
            raise InputError(f"{sample.where}: {message}")
        found = np.full(truth.shape, NOT_JUDGED, np.uint8)
        for one in predictions:
            key = self._matching.key(one.label, one.class_id)
            number = self._keys.index(key) if key in self._keys else NOT_JUDGED - 1
            outlines = [np.round(np.array(part) - 0.5).astype(np.int32) for part in one.polygons or ()]
            filled = np.zeros(truth.shape, np.uint8)
            cv2.fillPoly(filled, outlines, 1)  # by the even-odd rule
            found[filled > 0] = number
        judged = truth != NOT_JUDGED
        classes = np.arange(len(self._keys))
        cells = np.bincount(
            truth[judged].astype(np.intp) * (NOT_JUDGED + 1) + found[judged],
            minlength=(NOT_JUDGED + 1) ** 2,
        ).reshape(NOT_JUDGED + 1, NOT_JUDGED + 1)
        both = cells[classes, classes].astype(np.float64)
        either = cells.sum(axis=1)[classes] + cells.sum(axis=0)[classes] - both
        self._both.append(both)
        self._either.append(either)
        mean, _ = metrics.mean_iou(both[None], either[None], np.ones(1))
        score = 0.0 if np.isnan(mean) else mean
        self.outcomes.append(Outcome(sample.name, "", f"mIoU {score:.3f}", score, 1 - score))

    def finish(self) -> None:
        """See `Judge`."""
        self._matching.check_seen(self._keys)

    def statistic(self, weights: "NDArray[np.float64]") -> dict[str, float]:
        """See `Judge`."""
        both, either = np.stack(self._both), np.stack(self._either)
        return {"miou": metrics.mean_iou(both, either, weights)[0]}

    @property
    def steps(self) -> int:
        """See `Judge`."""
        return 4 * len(self._both) * len(self._keys)

    def per_class(self) -> list[dict[str, Any]]:
        """See `Judge`."""
        if not self._both:
            return []
        both, either = np.stack(self._both), np.stack(self._either)
        _, each = metrics.mean_iou(both, either, np.ones(len(both)))
        rows = [
            {"label": label, "samples": int((either[:, number] > 0).sum()), "iou": float(each[number])}
            for number, label in enumerate(self._names)
            if np.isfinite(each[number])
        ]
        return sorted(rows, key=lambda row: row["iou"])


def read_mask(path: Path, classes: int) -> "NDArray[np.uint8]":
    """The numbers of the classes of a mask's pixels: (height, width), uint8, 255 where it is not judged.

    Args:
        path: of a PNG: grey, or with a palette, whose colours do not matter.
        classes: how many there are.

    Raises:
        InputError: it can't be read, or has numbers beyond the classes.
    """
    try:
        data = read_file(path, _MAX_MASK)
        values = _pixels(data)
    except (OSError, TextError, ValueError, struct.error, cv2.error) as error:
        raise InputError(f"{path}: can't be read as a mask: {error}") from None
    beyond = values[(values >= classes) & (values != NOT_JUDGED)]
    if len(beyond):
        raise InputError(f"{path}: expected numbers of the {classes} classes, or 255, found {beyond[0]}")
    return values


def _pixels(data: bytes) -> "NDArray[np.uint8]":
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or len(data) < _HEADER:
        raise ValueError("expected a PNG")
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    if width * height > MAX_PIXELS or depth > 8 or kind not in (_PALETTE, _GREY):  # noqa: PLR2004 - bits
        raise ValueError("expected a PNG with one channel of 8 bits: numbers of classes, grey or with a palette")
    if kind == _PALETTE:
        # OpenCV gives colours. As grey the same file gives the numbers.
        header = data[12:25] + bytes([_GREY]) + data[26:29]
        chunks, at = [data[:12] + header + struct.pack(">I", zlib.crc32(header))], _HEADER
        while at < len(data):
            (length,) = struct.unpack(">I", data[at : at + 4])
            if data[at + 4 : at + 8] not in (b"PLTE", b"tRNS"):
                chunks.append(data[at : at + 12 + length])
            at += 12 + length
        data = b"".join(chunks)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 2:  # noqa: PLR2004 - axes
        raise ValueError("it is damaged")
    # Fewer bits are spread over the range.
    return np.asarray(image // (255 // (2**depth - 1)), np.uint8)
