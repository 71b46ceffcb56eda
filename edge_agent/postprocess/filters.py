"""Filters predictions by label, confidence, area and zone."""

import dataclasses
import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from edge_agent import settings
from edge_agent.decoders import Limits
from edge_agent.decoders.boxes import overlap
from edge_agent.errors import InputError
from edge_agent.samples import Prediction

Box = tuple[float, float, float, float]
Point = tuple[float, float]
Polygon = Sequence[Point]

# Minimum `top_k` of the decoder where a filter drops some of its predictions.
CANDIDATES = 300
# Keypoints below this confidence do not count as visible, as in the MoveNet tutorial:
# https://www.tensorflow.org/hub/tutorials/movenet
VISIBLE = 0.3


def limits(options: settings.Pipeline, task: str, calibrated: float | None = None) -> Limits:
    """The limits on predictions: those of the settings, else of the model, else the defaults of the task.

    Args:
        options: of the pipeline.
        task: of its model.
        calibrated: see `Model.min_confidence`.
    """
    top_k, least = (5, 0.0) if task == "classification" else (100, 0.25)
    stated = calibrated if options.min_confidence is None else options.min_confidence
    return Limits(
        top_k=top_k if options.top_k is None else options.top_k,
        min_confidence=least if stated is None else stated,
        max_overlap=options.max_overlap,
    )


class Filter:
    """Drops predictions that the settings exclude.

    Args:
        options: the filters.
        limits: of the predictions that remain.

    Attributes:
        decoder_limits: wider limits for the decoder, so that dropped predictions do not count towards `top_k`, and
            labels with a lower minimum confidence of their own are decoded.
    """

    def __init__(self, options: settings.Filters, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        idle = options == settings.Filters()
        self.decoder_limits = dataclasses.replace(
            limits,
            top_k=limits.top_k if idle else max(limits.top_k, CANDIDATES),
            min_confidence=min(self._thresholds()),
        )

    def __call__(self, predictions: Sequence[Prediction], width: int, height: int) -> list[Prediction]:
        """The remaining predictions, in the same order; where there are zones, with the names of theirs.

        Args:
            predictions: of one frame; in each region, the most confident first.
            width: of the frame, in pixels.
            height: of the frame, in pixels.

        Raises:
            InputError: a zone in pixels reaches beyond the frame.
        """
        self._check_zones(width, height)
        kept: list[Prediction] = []
        taken: Counter[str | None] = Counter()
        for prediction in predictions:
            if not self._is_wanted(prediction) or not self._has_size(prediction, width * height):
                continue
            placed = self._in_zones(prediction, width, height)
            if placed.zones == () or taken[prediction.region] == self._limits.top_k or self._has_rival(placed, kept):
                continue
            taken[prediction.region] += 1
            kept.append(placed)
        return kept

    def _has_rival(self, prediction: Prediction, kept: Sequence[Prediction]) -> bool:
        """Whether a more confident prediction says that the same object is something else."""
        box, most = prediction.box, self._options.max_overlap
        if box is None or most == 1:
            return False
        rivals = (one for one in kept if one.label != prediction.label and one.region == prediction.region)
        return any(overlap(box, one.box) > most for one in rivals)

    def wants_label(self, label: str | None) -> bool:
        """Whether a label passes."""
        return not self._options.labels or label in self._options.labels

    def _thresholds(self) -> Iterator[float]:
        labels, own = self._options.labels, self._options.min_confidence
        if not labels or any(label not in own for label in labels):
            yield self._limits.min_confidence
        yield from (value for label, value in own.items() if not labels or label in labels)

    def _is_wanted(self, prediction: Prediction) -> bool:
        label, options = prediction.label, self._options
        if not self.wants_label(label):
            return False
        least = options.min_confidence.get(label or "", self._limits.min_confidence)
        return prediction.confidence is None or prediction.confidence >= least

    def _has_size(self, prediction: Prediction, frame: int) -> bool:
        limits = self._options.min_area, self._options.max_area
        if limits == (None, None) or (box := extent(prediction)) is None:
            return True
        area = (box[2] - box[0]) * (box[3] - box[1])
        least, most = (_pixels(limit, frame) for limit in limits)
        return (least is None or area >= least) and (most is None or area <= most)

    def _in_zones(self, prediction: Prediction, width: int, height: int) -> Prediction:
        if not self._options.zones or (point := ground_point(prediction)) is None:
            return prediction
        x, y = min(max(point[0], 0.5), width - 0.5), min(max(point[1], 0.5), height - 0.5)
        names = (name for name, zone in self._options.zones.items() if contains(in_pixels(zone, width, height), x, y))
        return dataclasses.replace(prediction, zones=tuple(names))

    def _check_zones(self, width: int, height: int) -> None:
        for name, zone in self._options.zones.items():
            _, _, reach_x, reach_y = bounding_box(in_pixels(zone, width, height))
            if reach_x > width or reach_y > height:
                raise InputError(
                    f"zone {name!r} reaches to ({reach_x:g}, {reach_y:g}), the frame has only {width} x {height} pixels"
                )


def unknown_labels(options: settings.Filters, known: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Labels in the settings that the model does not have: the key of the setting, and a message.

    Args:
        options: the settings.
        known: the model's labels; empty if it has only class numbers, which are not checked.
    """
    for key, wanted in (("labels", options.labels), ("min_confidence", options.min_confidence)):
        yield from ((key, problem) for problem in unknown_names(wanted, known, "the model has no label"))


def unknown_names(wanted: Iterable[str], known: Sequence[str], problem: str) -> Iterator[str]:
    """A message for each name that is not known, with the nearest one that is.

    Args:
        wanted: the names.
        known: those that there are; empty: any.
        problem: how the message begins.
    """
    for name in wanted:
        if known and name not in known:
            # Capitals count as letters of their own, and are the most frequent mistake.
            nearest = [one for one in known if one.casefold() == name.casefold()]
            nearest = nearest or difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(known[:5])}"
            yield f"{problem} {name!r}: {hint}{', …' if not nearest and len(known) > 5 else ''}"  # noqa: PLR2004 - as many as are shown


def extent(prediction: Prediction) -> Box | None:
    """The bounding box of a prediction: x1, y1, x2, y2 in pixels of the frame; None if it has no position.

    Its own box; else the bounding box of its visible keypoints and of its polygons.
    """
    if prediction.box is not None:
        return prediction.box
    points = [point for point in prediction.keypoints or () if is_visible(point)]
    points += [point for part in prediction.polygons or () for point in part]
    return bounding_box(points) if points else None


def is_visible(keypoint: Sequence[float]) -> bool:
    """Whether a keypoint x, y, confidence is visible. One without a confidence (x, y) is."""
    return keypoint[-1] >= VISIBLE if len(keypoint) > len(("x", "y")) else True


def bounding_box(points: Iterable[Sequence[float]]) -> Box:
    """The box x1, y1, x2, y2 around points x, y (further coordinates are ignored)."""
    x, y = zip(*(point[:2] for point in points), strict=True)
    return min(x), min(y), max(x), max(y)


def ground_point(prediction: Prediction) -> Point | None:
    """The point x, y in pixels that decides whether a prediction is in a zone; None if it has no position.

    Zones are mostly drawn on the ground, and objects touch the ground at the middle of their box's lower edge. Poses
    and masks without a box may not show the lower end of the object; the centre of their bounding box is used.
    """
    box = extent(prediction)
    if box is None:
        return None
    x1, y1, x2, y2 = box
    # Half a pixel up is the middle of the lowest row, so that a box at the frame's lower edge is inside the frame.
    return (x1 + x2) / 2, y2 - 0.5 if prediction.box is not None else (y1 + y2) / 2


def in_pixels(polygon: Polygon, width: int, height: int) -> Polygon:
    """A polygon x, y of the settings in pixels of a frame. If no number is above 1, it is in fractions of the frame."""
    if max(max(point) for point in polygon) > 1:
        return polygon
    return [(x * width, y * height) for x, y in polygon]


def contains(polygon: Polygon, x: float, y: float) -> bool:
    """Whether a point lies in a polygon, by the even-odd rule. A point on a common edge is in exactly one of the two.

    Source: https://wrfranklin.org/Research/Short_Notes/pnpoly.html
    """
    inside = False
    x1, y1 = polygon[-1]
    for x2, y2 in polygon:
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            inside = not inside
        x1, y1 = x2, y2
    return inside


def _pixels(limit: float | None, frame: int) -> float | None:
    """An area limit in square pixels. A limit that is not above 1 is a fraction of the frame."""
    return limit * frame if limit is not None and limit <= 1 else limit
