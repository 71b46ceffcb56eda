import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.errors import InputError
from edge_agent.preprocess.regions import Rectangle, Regions


@pytest.fixture
def frame() -> NDArray[np.uint8]:
    """100 wide, 60 high; the first channel is the column, the second the row."""
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[:, :, 0] = np.arange(100)
    pixels[:, :, 1] = np.arange(60)[:, None]
    return pixels


def edges(crop: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of a crop of that frame; x2 and y2 are not inside."""
    return int(crop[0, 0, 0]), int(crop[0, 0, 1]), int(crop[-1, -1, 0]) + 1, int(crop[-1, -1, 1]) + 1


def test_without_regions_the_frame_stays_whole_and_has_no_name(frame: NDArray[np.uint8]) -> None:
    [view] = Regions({}).cut(frame)
    assert view.pixels is frame
    assert (view.region, view.x, view.y, view.picture_size) == (None, 0, 0, (100, 60))


@pytest.mark.parametrize(
    ("rectangle", "cut"),
    [
        ((10, 20, 30, 50), (10, 20, 30, 50)),
        ((0, 0, 100, 60), (0, 0, 100, 60)),
        ((0.0, 0.0, 1.0, 1.0), (0, 0, 100, 60)),
        ((0.5, 0.25, 0.75, 1.0), (50, 15, 75, 60)),
        ((10.4, 20.6, 30.4, 50.6), (10, 21, 30, 51)),
        ((99, 59, 100, 60), (99, 59, 100, 60)),
        ((0.999, 0.999, 1.0, 1.0), (99, 59, 100, 60)),
        ((0.001, 0.001, 0.002, 0.002), (0, 0, 1, 1)),
        ((0, 0, 2, 0.4), (0, 0, 2, 1)),
    ],
)
def test_a_rectangle_is_in_pixels_or_in_fractions(
    rectangle: Rectangle, cut: tuple[int, int, int, int], frame: NDArray[np.uint8]
) -> None:
    [view] = Regions({"here": rectangle}).cut(frame)
    assert edges(view.pixels) == cut
    assert (view.region, view.x, view.y, view.picture_size) == ("here", *cut[:2], (100, 60))


def test_regions_come_in_the_order_of_the_settings(frame: NDArray[np.uint8]) -> None:
    views = Regions({"b": (1, 0, 2, 1), "a": (0, 0, 1, 1), "c": (2, 0, 3, 1)}).cut(frame)
    assert [view.region for view in views] == ["b", "a", "c"]
    assert [int(view.pixels[0, 0, 0]) for view in views] == [1, 0, 2]


@pytest.mark.parametrize("rectangle", [(90, 0, 101, 10), (0, 50, 10, 61), (200, 200, 300, 300)])
def test_a_frame_smaller_than_a_region_is_no_usable_input(rectangle: Rectangle, frame: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError) as caught:
        Regions({"inside": (0, 0, 10, 10), "meter": rectangle}).cut(frame)
    x2, y2 = rectangle[2:]
    assert str(caught.value) == f"region 'meter' reaches to ({x2}, {y2}), the frame has only 100 x 60 pixels"


def test_no_pixels_are_copied(frame: NDArray[np.uint8]) -> None:
    [view] = Regions({"here": (10, 10, 20, 20)}).cut(frame)
    assert np.shares_memory(view.pixels, frame)
