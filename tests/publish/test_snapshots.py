from typing import Any

import numpy as np

from edge_agent import settings
from edge_agent.publish.snapshots import Snapshots
from edge_agent.samples import Prediction, Sample
from edge_agent.sources.observer import Observation
from tests.images import decode_image

FRAME = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8)
FOUND = [Prediction("person", 0, 0.9, box=(100, 100, 300, 600))]


def shown(moments: list[float], **options: Any) -> list[bytes]:
    """The snapshots of frames taken at some moments."""
    source = settings.ImagesSource(type="images", path=".")
    pipeline = settings.Pipeline(source=source, model="m", snapshot=settings.Snapshot.model_validate(options))
    assert pipeline.snapshot is not None
    pictures: list[bytes] = []
    snapshots = Snapshots(pipeline, pipeline.snapshot, pictures.append)
    for moment in moments:
        sample = Sample(FRAME, moment, moment, {})
        snapshots.on_result(Observation("porch", None, sample, FOUND, FRAME, may_block=False))
    snapshots.on_end()
    return pictures


def test_there_is_at_most_one_picture_in_an_interval_and_the_first_at_once() -> None:
    assert len(shown([step / 10 for step in range(100)], interval="3s")) == 4


def test_a_slow_source_is_shown_with_each_frame() -> None:
    assert len(shown([0, 60, 120], interval="3s")) == 3


def test_pictures_keep_within_their_size_in_pixels_and_bytes() -> None:
    [picture] = shown([0], max_side=320, max_size=20_000)
    assert len(picture) <= 20_000
    assert max(decode_image(picture).shape[:2]) <= 320


def test_what_was_found_is_drawn_in_and_the_frame_is_left_alone() -> None:
    before = FRAME.copy()
    [picture] = shown([0])
    assert np.array_equal(FRAME, before)
    assert decode_image(picture).shape == (360, 640, 3)


def test_an_empty_scene_is_shown_once_and_then_now_and_then() -> None:
    source = settings.ImagesSource(type="images", path=".")
    pipeline = settings.Pipeline(source=source, model="m", snapshot=settings.Snapshot(interval=10))
    assert pipeline.snapshot is not None
    pictures: list[bytes] = []
    snapshots, shown = Snapshots(pipeline, pipeline.snapshot, pictures.append), list[float]()
    for moment in range(0, 1500, 5):
        count = len(pictures)
        found = FOUND if 100 <= moment < 120 else []
        sample = Sample(FRAME, moment, moment, {})
        snapshots.on_result(Observation("porch", None, sample, found, FRAME, may_block=False))
        shown += [moment] * (len(pictures) - count)
    assert shown == [0, 100, 110, 120, 720, 1320]
