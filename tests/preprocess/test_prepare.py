import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent import settings
from edge_agent.models import model as models
from edge_agent.preprocess.image import Preprocess
from edge_agent.preprocess.prepare import Pictures, Prepared
from edge_agent.samples import Sample
from tests.sources.stage import DIGITS

PREPROCESS = Preprocess(60, 80, "stretch", "rgb", "nhwc", "uint8", (0.0,), (1.0,))
HALF = {"half": (0.0, 0.0, 0.5, 1.0)}


def jpeg(width: int = 645, height: int = 480) -> bytes:
    done, data = cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))
    assert done
    return bytes(data.tobytes())


def prepared(data: Any, preprocess: Preprocess = PREPROCESS, *, needs_image: bool = False, **options: Any) -> Prepared:
    stated = {"source": settings.ImagesSource(type="images", path=".")} | options
    pictures = Pictures(preprocess, settings.Pipeline(model="m", **stated))
    return pictures(Sample(data, time.time(), time.monotonic(), {"path": "a.jpg"}), needs_image=needs_image)


def test_a_jpeg_that_only_the_model_wants_is_reduced_and_keeps_its_size_in_all_that_is_told() -> None:
    picture = prepared(jpeg())
    assert picture.image is None
    assert picture.size == (645, 480)
    assert picture.facts == {"width": 645, "height": 480, "path": "a.jpg"}
    [placement] = picture.placements
    assert (placement.width, placement.height) == (645, 480)
    # At 1/8 the picture has 81 columns, the last of which is not filled.
    assert placement.scale_x == pytest.approx(80 / 81 / 8)
    assert placement.scale_y == pytest.approx(1 / 8)


def test_a_frame_is_reduced_likewise_to_the_means_of_its_pixels() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    picture = prepared(frame)
    assert (picture.image, picture.size) == (None, (320, 240))
    [placement] = picture.placements
    assert (placement.scale_x, placement.scale_y) == (1 / 4, 1 / 4)
    means = frame.reshape(60, 4, 80, 4, 3).mean(axis=(1, 3))[:, :, ::-1]
    assert np.abs(picture.tensor[0] - means).max() <= 1  # each halving rounds


def test_across_and_down_it_is_reduced_each_as_far_as_that_goes() -> None:
    picture = prepared(np.full((120, 480, 3), 90, np.uint8))
    [placement] = picture.placements
    assert (picture.image, picture.size) == (None, (480, 120))
    assert (placement.scale_x, placement.scale_y) == (80 / 120 / 4, 1 / 2)
    assert (placement.crop_width, placement.crop_height) == (480, 120)


def test_what_is_left_to_shrink_is_nearly_the_mean_of_the_area() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (180, 240, 3), dtype=np.uint8)

    def resized(how: int) -> Any:
        return cv2.cvtColor(cv2.resize(noise, (80, 60), interpolation=how), cv2.COLOR_BGR2RGB).astype(int)

    picture = prepared(noise)
    assert picture.image is None
    error, of_interpolation = (
        np.abs(pixels - resized(cv2.INTER_AREA)).mean() for pixels in (picture.tensor[0], resized(cv2.INTER_LINEAR))
    )
    assert error < of_interpolation / 4


def test_whoever_else_looks_at_a_picture_sees_all_of_it() -> None:
    whole = Preprocess(60, 80, "stretch", "rgb", "nhwc", "uint8", (0.0,), (1.0,), reduced_decoding=False)
    frame = np.full((480, 645, 3), 90, np.uint8)
    for picture in (
        prepared(jpeg(), needs_image=True),
        prepared(jpeg(), regions=HALF),
        prepared(jpeg(), whole),
        prepared(jpeg(159, 119)),
        prepared(frame),
        prepared(frame[:, :640], needs_image=True),
    ):
        assert picture.image is not None
        assert picture.size == (picture.image.shape[1], picture.image.shape[0])


@pytest.mark.parametrize(("stated", "expected"), [(None, True), (True, True), (False, False)])
def test_the_setting_reaches_the_model(stated: bool | None, expected: bool) -> None:
    options = settings.Model(path=DIGITS, threads=1, preprocess=settings.Preprocess(reduced_decoding=stated))
    preprocess = models.load("digits", options, Path.cwd()).preprocess
    assert isinstance(preprocess, Preprocess)
    assert preprocess.reduced_decoding == expected


@pytest.mark.parametrize(
    ("chosen", "sees_the_side"),
    [
        ({}, False),
        ({"regions": {"all": (0.0, 0.0, 1.0, 1.0)}}, True),
        ({"source": settings.PipelineSource(type="pipeline", name="porch")}, True),
    ],
    ids=["a picture", "a region", "what another pipeline found"],
)
def test_of_what_is_chosen_nothing_is_cut_off_unasked(chosen: dict[str, Any], sees_the_side: bool) -> None:
    middle = replace(PREPROCESS, resize="center_crop", crop=0.875, crops_unasked=True)
    pixels = np.zeros((48, 96, 3), np.uint8)
    pixels[:, :8] = 255
    assert bool(prepared(pixels, middle, **chosen).tensor.any()) is sees_the_side
