from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.preprocess.decoding import decode_picture
from edge_agent.preprocess.image import LETTERBOX_GRAY, Preprocess, fit
from edge_agent.preprocess.placement import Placement, Resize, place
from edge_agent.preprocess.regions import View
from tests.decoders.scenes import floats

SIDES = st.integers(1, 3000)
INPUTS = st.tuples(st.integers(8, 700), st.integers(8, 700))
FITS = st.sampled_from(get_args(Resize))
LETTERBOXES = st.tuples(st.integers(1, 300), st.integers(1, 300))


def into_input(placement: Placement, x: float, y: float) -> tuple[float, float]:
    """The way there, written out."""
    return (
        (x - placement.offset_x) * placement.scale_x + placement.pad_x,
        (y - placement.offset_y) * placement.scale_y + placement.pad_y,
    )


@settings(deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), INPUTS, FITS, st.floats(0, 1), st.floats(0, 1), st.data())
def test_every_point_of_a_crop_finds_its_way_there_and_back_at_any_aspect_ratio(
    picture: tuple[int, int],
    crop: tuple[int, int],
    size: tuple[int, int],
    how: Resize,
    x: float,
    y: float,
    data: st.DataObject,
) -> None:
    crop = (min(crop[0], picture[0]), min(crop[1], picture[1]))
    offset = (data.draw(st.integers(0, picture[0] - crop[0])), data.draw(st.integers(0, picture[1] - crop[1])))
    placement = place("door", offset, crop, picture, size, how)
    point = offset[0] + x * crop[0], offset[1] + y * crop[1]
    back = placement.to_picture(floats([into_input(placement, *point)]))[0]
    # Numbers of the input have 24 bits, and one of its pixels may stand for many of the picture.
    assert back.tolist() == pytest.approx(point, abs=0.001 + 0.001 / min(placement.scale_x, placement.scale_y))


@settings(deadline=None)
@given(st.tuples(SIDES, SIDES), INPUTS, FITS)
def test_no_point_lies_outside_of_the_crop(crop: tuple[int, int], size: tuple[int, int], how: Resize) -> None:
    placement = place(None, (7, 9), crop, (crop[0] + 20, crop[1] + 20), size, how)
    points = placement.to_picture(floats([[-1e7, -1e7], [1e7, 1e7]]))
    assert points.ravel().tolist() == pytest.approx([7, 9, 7 + crop[0], 9 + crop[1]], abs=1e-3)
    assert points.min(axis=0).tolist() >= [7, 9]


@settings(deadline=None)
@given(LETTERBOXES, st.tuples(st.integers(8, 200), st.integers(8, 200)))
def test_a_letterboxed_picture_lies_where_preprocessing_has_put_it(
    crop: tuple[int, int], size: tuple[int, int]
) -> None:
    placement = place(None, (0, 0), crop, crop, size, "letterbox")
    fitted = fit(np.full((crop[1], crop[0]), 255, np.uint8), *size, "letterbox")
    rows, columns = np.nonzero(fitted != LETTERBOX_GRAY)
    assert into_input(placement, 0, 0) == (columns.min(), rows.min())
    assert into_input(placement, *crop) == pytest.approx((columns.max() + 1, rows.max() + 1))


@settings(deadline=None)
@given(LETTERBOXES, st.tuples(st.integers(8, 200), st.integers(8, 200)), st.sampled_from(get_args(Resize)), st.data())
def test_an_edge_in_a_picture_is_found_where_preprocessing_has_put_it(
    crop: tuple[int, int], size: tuple[int, int], how: Resize, data: st.DataObject
) -> None:
    placement = place(None, (0, 0), crop, crop, size, how)
    edge = data.draw(st.integers(0, crop[0]))
    picture = np.zeros((crop[1], crop[0]), np.uint8)
    picture[:, edge:] = 255
    fitted = fit(picture, *size, how)
    row = fitted[min(size[1] - 1, int(into_input(placement, 0, crop[1] / 2)[1]))].astype(float)
    left, right = max(0, round(placement.pad_x)), round(into_input(placement, crop[0], 0)[0])
    # All that is bright, counted in pixels, tells the place of the edge, however it was interpolated.
    bright = row[left : min(right, size[0])].sum() / 255
    expected = min(max(min(right, size[0]) - into_input(placement, edge, 0)[0], 0), min(right, size[0]) - left)
    assert bright == pytest.approx(expected, abs=max(1.0, placement.scale_x))


def test_a_cut_picture_begins_on_the_pixel_where_preprocessing_has_cut_it() -> None:
    picture = np.tile(np.arange(200, dtype=np.uint8), (50, 1))
    fitted = fit(picture, 50, 50, "center_crop")
    placement = place(None, (0, 0), (200, 50), (200, 50), (50, 50), "center_crop")
    assert fitted[0, 0] == placement.to_picture(floats([[0, 0]]))[0, 0] == 75
    assert placement.to_picture(floats([[50, 50]])).tolist() == [[125, 50]]


def test_padding_only_right_and_below_leaves_the_picture_at_the_upper_left() -> None:
    placement = place(None, (0, 0), (810, 1080), (810, 1080), (640, 640), "letterbox")
    assert (placement.pad_x, placement.pad_y) == (0, 0)
    assert placement.to_picture(floats([[480, 640], [640, 640]])).tolist() == [[810, 1080], [810, 1080]]


def test_a_box_in_a_region_comes_out_in_pixels_of_the_frame() -> None:
    placement = place("door", (100, 50), (200, 100), (400, 300), (100, 100), "letterbox")
    # The region is the upper 100 x 50 pixels of the input.
    assert placement.boxes_to_picture(floats([[10, 15, 20, 25]])).tolist() == [[120, 80, 140, 100]]


def test_pixels_of_a_resized_picture_keep_their_place() -> None:
    picture = np.zeros((300, 200, 3), np.uint8)
    cv2.circle(picture, (150, 60), 12, (255, 255, 255), -1)
    placement = place(None, (0, 0), (200, 300), (200, 300), (96, 96), "letterbox")
    rows, columns = np.nonzero(fit(picture, 96, 96, "letterbox")[:, :, 0] > 200)
    centre = placement.to_picture(floats([[columns.mean() + 0.5, rows.mean() + 0.5]]))[0]
    assert centre.tolist() == pytest.approx((150.5, 60.5), abs=1)


@settings(deadline=None, max_examples=50)
@given(st.tuples(st.integers(200, 700), st.integers(200, 700)), st.sampled_from((2, 4, 8)), FITS, st.data())
def test_what_is_seen_in_a_reduced_picture_is_found_where_it_is_in_the_whole_one(
    size: tuple[int, int], by: int, how: Resize, data: st.DataObject
) -> None:
    (width, height), wanted = size, (min(size) // 10, min(size) // 10)
    # In the middle, where nothing is cut off.
    x = data.draw(st.integers((width - min(size)) // 2 + 40, (width + min(size)) // 2 - 40))
    y = data.draw(st.integers((height - min(size)) // 2 + 40, (height + min(size)) // 2 - 40))
    image = np.zeros((height, width, 3), np.uint8)
    cv2.circle(image, (x, y), 30, (255, 255, 255), -1)
    picture = decode_picture(bytes(cv2.imencode(".jpg", image)[1].tobytes()), lambda *_: (by, by))
    view = View(None, 0, 0, picture.pixels, picture.size, picture.reduced)
    preprocess = Preprocess(wanted[1], wanted[0], how, "gray", "nhwc", "uint8", (0.0,), (1.0,))
    seen = preprocess([picture.pixels])[0, :, :, 0].astype(float)
    if how == "letterbox":  # without the padding
        scale = min(wanted[0] / picture.pixels.shape[1], wanted[1] / picture.pixels.shape[0])
        seen[max(1, round(picture.pixels.shape[0] * scale)) :] = 0
        seen[:, max(1, round(picture.pixels.shape[1] * scale)) :] = 0
    rows, columns = np.mgrid[: wanted[1], : wanted[0]] + 0.5
    centre = (seen * columns).sum() / seen.sum(), (seen * rows).sum() / seen.sum()
    placement = preprocess.place(view)
    assert placement.to_picture(floats([centre]))[0].tolist() == pytest.approx((x + 0.5, y + 0.5), abs=1.5)
    corners = placement.to_picture(floats([[-1e7, -1e7], [1e7, 1e7]])).ravel().tolist()
    if how != "center_crop":
        assert corners == [0, 0, width, height]
