"""Average precision, against pycocotools."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from edge_agent.evaluation import average_precision as ap

coco = pytest.importorskip("pycocotools.coco")
cocoeval = pytest.importorskip("pycocotools.cocoeval")

PICTURES, CLASSES, POINTS = 30, 4, 17


def scene(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Objects and detections at random, some of them near each other; crowds, equal scores, all sizes."""
    drawn = np.random.default_rng(seed)
    objects, found = list[dict[str, Any]](), list[dict[str, Any]]()
    for picture in range(PICTURES):
        for _ in range(drawn.integers(0, 9)):
            side = drawn.choice([12, 50, 200])
            box = np.array([*drawn.uniform(0, 400, 2), *drawn.uniform(side / 2, side, 2)])
            points = np.column_stack(
                [box[:2] + box[2:] * drawn.uniform(0, 1, (POINTS, 2)), drawn.integers(0, 3, POINTS)]
            )
            if drawn.random() < 0.15:
                points[:, 2] = 0
            category, crowd = int(drawn.integers(CLASSES)), int(drawn.random() < 0.1)
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": picture,
                    "category_id": category,
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3] * drawn.uniform(0.5, 1)),
                    "iscrowd": crowd,
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                }
            )
            for _ in range(drawn.integers(0, 4)):
                shifted = box + np.append(drawn.normal(0, 0.1, 2) * side, drawn.normal(0, 0.05, 2) * side)
                near = points[:, :2] + drawn.normal(0, side / 50, (POINTS, 2))
                found.append(
                    {
                        "image_id": picture,
                        "bbox": np.maximum(shifted, 1).tolist(),
                        "category_id": category if drawn.random() < 0.9 else int(drawn.integers(CLASSES)),
                        "score": round(float(drawn.random()), 1),
                        "keypoints": np.column_stack([near, np.ones(POINTS)]).ravel().tolist(),
                    }
                )
    return objects, found


def by_pycocotools(objects: list[dict[str, Any]], found: list[dict[str, Any]], kind: str) -> list[float]:
    categories = [{"id": number, "name": str(number)} for number in range(CLASSES)]
    images = [{"id": picture} for picture in range(PICTURES)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {"images": images, "categories": categories, "annotations": objects, "info": {}}
        truth.createIndex()
        other = "bbox" if kind == "keypoints" else "keypoints"
        kept = [{key: value for key, value in one.items() if key != other} for one in found]
        judge = cocoeval.COCOeval(truth, truth.loadRes(kept), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return [float(value) for value in judge.stats]


def curves(objects: list[dict[str, Any]], found: list[dict[str, Any]], task: str) -> list[ap.Curves]:
    made = []
    for category in range(CLASSES):
        matches, pictures = [], []
        for picture in range(PICTURES):
            truth = [one for one in objects if (one["image_id"], one["category_id"]) == (picture, category)]
            here = [one for one in found if (one["image_id"], one["category_id"]) == (picture, category)]
            here = sorted(here, key=lambda one: -one["score"])[: ap.MAX_DETECTIONS[task]]
            if truth or here:
                matches.append(matched(truth, here, task))
                pictures.append(picture)
        made.append(ap.Curves(matches, pictures))
    return made


def matched(truth: list[dict[str, Any]], here: list[dict[str, Any]], task: str) -> ap.Matches:
    boxes, theirs = (corners([one["bbox"] for one in some]) for some in (truth, here))
    given = ap.Truths(
        boxes,
        np.array([one["area"] for one in truth]),
        np.array([one["iscrowd"] for one in truth], bool),
        np.array([one["keypoints"] for one in truth]).reshape(-1, POINTS, 3) if task == "pose" else None,
    )
    points = np.array([one["keypoints"] for one in here]).reshape(-1, POINTS, 3)
    if task == "pose":
        areas = np.ptp(points[..., :2], axis=1).prod(axis=1) if len(points) else np.zeros(0)
        likeness = ap.keypoint_similarities(points, given, ap.SIGMAS)
    else:
        areas, likeness = (theirs[:, 2:] - theirs[:, :2]).prod(axis=1), ap.overlaps(theirs, boxes, given.crowd)
    return ap.match(np.array([one["score"] for one in here]), areas, likeness, given)


def corners(boxes: list[list[float]]) -> Any:
    found = np.array(boxes, float).reshape(-1, 4)
    return np.hstack([found[:, :2], found[:, :2] + found[:, 2:]])


@pytest.mark.parametrize("seed", range(3))
def test_the_average_precision_of_boxes_is_that_of_pycocotools(seed: int) -> None:
    objects, found = scene(seed)
    ours = ap.summary(curves(objects, found, "detection"), np.ones(PICTURES), "detection")
    theirs = by_pycocotools(objects, found, "bbox")
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    assert 0.1 < ours["ap"] < 0.9
    assert [ours[name] for name in names] == pytest.approx(theirs[:6], abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_average_precision_of_poses_is_that_of_pycocotools(seed: int) -> None:
    objects, found = scene(seed)
    ours = ap.summary(curves(objects, found, "pose"), np.ones(PICTURES), "pose")
    theirs = by_pycocotools(objects, found, "keypoints")
    assert 0.1 < ours["ap"] < 0.95
    names = ("ap", "ap50", "ap75", "ap_medium", "ap_large")
    assert [ours[name] for name in names] == pytest.approx(theirs[:5], abs=1e-6)


def test_a_picture_that_counts_twice_counts_as_two_pictures() -> None:
    objects, found = scene(5)
    weights = np.ones(PICTURES)
    weights[3] = 2
    twice = curves(objects, found, "detection")
    doubled = [
        ap.Curves([*(one for one in matches_of(objects, found, category))], [*range(PICTURES), PICTURES])
        for category in range(CLASSES)
    ]
    ours = ap.summary(twice, weights, "detection")["ap"]
    assert ours == pytest.approx(ap.summary(doubled, np.ones(PICTURES + 1), "detection")["ap"], abs=2e-3)


def matches_of(objects: list[dict[str, Any]], found: list[dict[str, Any]], category: int) -> list[ap.Matches]:
    return [
        matched(
            [one for one in objects if (one["image_id"], one["category_id"]) == (picture, category)],
            sorted(
                (one for one in found if (one["image_id"], one["category_id"]) == (picture, category)),
                key=lambda one: -one["score"],
            ),
            "detection",
        )
        for picture in [*range(PICTURES), 3]
    ]
