import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.preprocess.image import LETTERBOX_GRAY, Preprocess, fit
from edge_agent.preprocess.placement import Resize

Picture = NDArray[np.uint8]


def preprocess(**keys: Any) -> Preprocess:
    usual = Preprocess(
        height=2, width=3, resize="stretch", color="rgb", layout="nhwc", dtype="uint8", mean=(0.0,), std=(1.0,)
    )
    return dataclasses.replace(usual, **keys)


@pytest.fixture
def picture() -> Picture:
    """Of the model's size, 3 wide and 2 high: every value is another one."""
    return (np.arange(18, dtype=np.uint8) * 14).reshape(2, 3, 3)


def test_red_and_blue_change_places_for_a_model_that_wants_rgb(picture: Picture) -> None:
    assert (preprocess(color="rgb")([picture])[0] == picture[:, :, ::-1]).all()
    assert (preprocess(color="bgr")([picture])[0] == picture).all()


def test_grey_has_one_channel_and_weighs_colours_as_television_does(picture: Picture) -> None:
    tensor = preprocess(color="gray")([picture])
    assert tensor.shape == (1, 2, 3, 1)
    blue, green, red = (picture[:, :, channel].astype(float) for channel in range(3))
    assert tensor[0, :, :, 0] == pytest.approx(0.114 * blue + 0.587 * green + 0.299 * red, abs=0.6)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_layout_says_where_the_channels_are(channels: int, picture: Picture) -> None:
    color = "gray" if channels == 1 else "bgr"
    last = preprocess(color=color)([picture] * 4)
    first = preprocess(color=color, layout="nchw")([picture] * 4)
    assert last.shape == (4, 2, 3, channels)
    assert first.shape == (4, channels, 2, 3)
    assert (first == last.transpose(0, 3, 1, 2)).all()
    assert first.flags.c_contiguous


def test_a_batch_keeps_its_order(picture: Picture) -> None:
    other = 255 - picture
    assert (preprocess(color="bgr")([picture, other]) == np.stack([picture, other])).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_floating_point_values_are_pixel_minus_mean_over_std(dtype: str, picture: Picture) -> None:
    tensor = preprocess(color="bgr", dtype=dtype, mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0))([picture])
    assert tensor.dtype == dtype
    expected = (picture.astype(float) - [100, 110, 120]) / [50, 60, 70]
    assert tensor[0] == pytest.approx(expected, rel=2e-3 if dtype == "float16" else 1e-6, abs=1e-3)


@pytest.mark.parametrize(
    ("dtype", "mean", "std"),
    [
        ("uint8", 0.0, 1.0),
        ("int8", 128.0, 1.0),
        ("int8", 127.0, 1.0),
        ("uint8", -20.0, 2.0),
        ("int8", 127.5, 0.8),
        ("uint8", 50.0, 0.5),
    ],
)
def test_quantised_values_are_rounded_and_stay_within_their_type(
    dtype: str, mean: float, std: float, picture: Picture
) -> None:
    tensor = preprocess(color="bgr", dtype=dtype, mean=(mean,), std=(std,))([picture])
    limits = np.iinfo(dtype)
    expected = np.clip(np.rint((picture.astype(float) - mean) / std), limits.min, limits.max)
    assert tensor.dtype == dtype
    assert np.abs(tensor[0].astype(float) - expected).max() <= (0 if std == 1.0 else 1)
    assert (tensor[0] == expected).mean() > 0.9


def marked(width: int, height: int) -> Picture:
    """A picture whose left, right, upper and lower quarters differ: blue, green, red in the corners."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    return pixels


def test_to_stretch_takes_the_whole_picture() -> None:
    fitted = fit(marked(400, 100), 20, 20, "stretch")
    assert (fitted == marked(20, 20)).all()


def test_to_crop_keeps_the_shape_and_cuts_what_is_too_much() -> None:
    picture = np.zeros((100, 400, 3), np.uint8)
    picture[:, 150:250] = marked(100, 100)
    assert (fit(picture, 20, 20, "center_crop") == marked(20, 20)).all()
    assert (fit(picture.transpose(1, 0, 2), 20, 20, "center_crop") == marked(20, 20).transpose(1, 0, 2)).all()


@pytest.mark.parametrize(("width", "height"), [(400, 100), (100, 400)])
def test_to_letterbox_keeps_the_shape_and_pads_with_grey_right_and_below(width: int, height: int) -> None:
    fitted = fit(marked(width, height), 40, 40, "letterbox")
    inner = fitted[:10] if width > height else fitted[:, :10]
    assert (inner == marked(width // 10, height // 10)).all()
    assert (fitted == LETTERBOX_GRAY).all(axis=2).sum() == 40 * 30


def test_a_picture_of_the_right_size_is_left_as_it_is(picture: Picture) -> None:
    assert fit(picture, 3, 2, "stretch") is picture


def test_a_smaller_picture_is_an_average_of_the_larger_one() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    means = noise.reshape(20, 10, 20, 10, 3).mean(axis=(1, 3))
    assert fit(noise, 20, 20, "stretch") == pytest.approx(means, abs=1)


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "center_crop"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 20_000, 3), (20_000, 1, 3), (3, 2, 3), (1, 50), (7, 1000, 3)])
@pytest.mark.parametrize(("width", "height"), [(8, 8), (224, 3), (3, 224)])
def test_any_picture_fits_any_input(resize: Resize, shape: tuple[int, ...], width: int, height: int) -> None:
    fitted = fit(np.full(shape, 200, np.uint8), width, height, resize)
    assert fitted.shape == (height, width, *shape[2:])
    assert (fitted == 200).any()


def test_an_untouched_picture_is_not_written_to(picture: Picture) -> None:
    before = picture.copy()
    picture.flags.writeable = False
    for dtype, mean in (("uint8", 0.0), ("int8", 128.0), ("float32", 127.5)):
        preprocess(color="bgr", dtype=dtype, mean=(mean,))([picture])
    assert (picture == before).all()


def test_a_crop_of_a_frame_is_as_good_as_a_picture_of_its_own() -> None:
    frame = np.random.default_rng(2).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    crop = frame[10:40, 5:55]
    for color in ("rgb", "bgr", "gray"):
        prepare = preprocess(color=color, height=16, width=16)
        assert (prepare([crop]) == prepare([crop.copy()])).all()


@pytest.mark.parametrize(
    ("size", "resize", "most"),
    [
        ((640, 480), "stretch", (2, 2)),
        ((639, 479), "stretch", (1, 1)),
        ((10_000, 480), "stretch", (31, 2)),
        ((640, 480), "center_crop", (2, 2)),
        ((10_000, 480), "center_crop", (2, 2)),
        ((640, 480), "letterbox", (2, 2)),
        ((10_000, 480), "letterbox", (31, 31)),
        ((10_000, 3), "letterbox", (31, 31)),
        ((200, 100), "letterbox", (1, 1)),
        ((1, 1), "stretch", (1, 1)),
    ],
)
def test_a_picture_may_be_reduced_as_long_as_it_is_as_large_as_it_goes_in(
    size: tuple[int, int], resize: Resize, most: tuple[int, int]
) -> None:
    wanted = preprocess(width=320, height=240, resize=resize)
    assert wanted.reduction(*size) == most
    assert dataclasses.replace(wanted, reduced_decoding=False).reduction(*size) == (1, 1)
