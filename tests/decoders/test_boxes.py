import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_agent.decoders.boxes import cell_count, grid, iou, nms, strongest, xywh_to_xyxy
from tests.decoders.scenes import Floats, Thing, floats, overlap, suppressed

PIXELS = st.floats(-50, 700, width=32)


@st.composite
def many_boxes(draw: st.DrawFn) -> tuple[Floats, Floats, "np.ndarray[tuple[int], np.dtype[np.intp]]"]:
    """Boxes, scores without equals, class ids."""
    count = draw(st.integers(0, 25))
    corners = draw(arrays(np.float32, (count, 4), elements=PIXELS))
    boxes = np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], axis=1
    )
    scores = floats([rank / (count + 1) for rank in draw(st.permutations(range(1, count + 1)))])
    return boxes, scores, draw(arrays(np.intp, count, elements=st.integers(0, 2)))


@settings(deadline=None)
@given(many_boxes(), many_boxes())
def test_overlap_is_what_it_is_when_written_out(first: tuple[Floats, ...], second: tuple[Floats, ...]) -> None:
    expected = [[overlap(a, b) for b in second[0].tolist()] for a in first[0].tolist()]
    found = iou(first[0], second[0])
    assert found.shape == (len(first[0]), len(second[0]))
    assert np.allclose(found, np.reshape(expected, found.shape), atol=1e-3)


@settings(deadline=None)
@given(many_boxes())
def test_overlap_is_symmetric_and_between_0_and_1(scene: tuple[Floats, ...]) -> None:
    matrix = iou(scene[0], scene[0])
    assert np.array_equal(matrix, matrix.T)
    assert ((matrix >= 0) & (matrix <= 1)).all()


def test_a_box_without_an_area_overlaps_with_nothing() -> None:
    assert iou(floats([[1, 1, 1, 5]]), floats([[0, 0, 9, 9], [1, 1, 1, 5]])).tolist() == [[0, 0]]


@settings(deadline=None)
@given(many_boxes(), st.floats(0, 1), st.integers(1, 30), st.booleans())
def test_of_what_stays_no_two_overlap_and_what_goes_overlaps_with_a_better_one(
    scene: tuple[Floats, Floats, "np.ndarray[tuple[int], np.dtype[np.intp]]"], limit: float, count: int, by_class: bool
) -> None:
    boxes, scores, classes = scene
    kept = nms(boxes, scores, limit, count, classes if by_class else None).tolist()
    overlaps = iou(boxes, boxes) > limit
    if by_class:
        overlaps &= classes[:, None] == classes[None]
    assert len(kept) <= count
    assert list(scores[kept]) == sorted(scores[kept], reverse=True)
    assert not any(overlaps[a, b] for a in kept for b in kept if a != b)
    if len(kept) < count:
        for gone in set(range(len(boxes))) - set(kept):
            assert any(overlaps[gone, stays] and scores[stays] > scores[gone] for stays in kept)


@settings(deadline=None)
@given(many_boxes(), st.randoms())
def test_the_order_of_the_candidates_does_not_matter(
    scene: tuple[Floats, Floats, "np.ndarray[tuple[int], np.dtype[np.intp]]"], random: "np.random.Generator"
) -> None:
    boxes, scores, classes = scene
    order = list(range(len(boxes)))
    random.shuffle(order)
    kept = nms(boxes, scores, 0.45, 100, classes)
    again = nms(boxes[order], scores[order], 0.45, 100, classes[order])
    assert [order[row] for row in again] == kept.tolist()


@settings(deadline=None)
@given(many_boxes())
def test_what_stays_has_nothing_more_to_suppress(
    scene: tuple[Floats, Floats, "np.ndarray[tuple[int], np.dtype[np.intp]]"],
) -> None:
    boxes, scores, classes = scene
    kept = nms(boxes, scores, 0.45, 100, classes)
    assert nms(boxes[kept], scores[kept], 0.45, 100, classes[kept]).tolist() == list(range(len(kept)))


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_suppression_is_what_it_is_when_written_out(class_agnostic: bool) -> None:
    random = np.random.default_rng(4)
    corners = random.integers(0, 60, (300, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + random.integers(5, 30, (300, 2)).astype(np.float32)], axis=1)
    scores, classes = floats(random.permutation(300) / 300), random.integers(0, 3, 300)
    things = [
        Thing((x1, y1, x2, y2), int(of), float(score))
        for (x1, y1, x2, y2), of, score in zip(boxes.tolist(), classes, scores, strict=True)
    ]
    kept = nms(boxes, scores, 0.45, 1000, None if class_agnostic else classes)
    expected = suppressed(things, 0.45, class_agnostic=class_agnostic)
    assert [things[row] for row in kept] == expected
    assert 10 < len(kept) < 300


def test_the_strongest_are_sorted_bounded_and_not_below_the_least_score() -> None:
    scores = floats([0.1, 0.9, 0.5, 0.5, 0.3])
    assert strongest(scores, 0.3, 10).tolist() == [1, 2, 3, 4]
    assert strongest(scores, 0.3, 2).tolist() in ([1, 2], [1, 3])
    assert strongest(scores, 0.95, 10).tolist() == []


def test_a_centre_and_a_size_make_corners() -> None:
    assert xywh_to_xyxy(floats([[10, 20, 4, 6]])).tolist() == [[8, 17, 12, 23]]


def test_cells_run_along_the_rows_of_one_map_after_the_other() -> None:
    cells, strides = grid((16, 24), (8, 16))
    assert cells.tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1], [0, 0], [1, 0]]
    assert strides.ravel().tolist() == [8] * 6 + [16] * 2
    assert cell_count((16, 24), (8, 16)) == 8
    assert cell_count((640, 640), (8, 16, 32)) == 8400
