from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_agent import settings
from edge_agent.publish import object_pictures
from edge_agent.publish.object_pictures import ObjectPictures, quality_of, slot_of
from edge_agent.samples import Prediction, Sample, Timing
from edge_agent.sources.observer import Observation, Work
from tests.images import decode_image

SHARP = np.random.default_rng(1).integers(0, 256, (360, 640, 3), np.uint8)
BLURRED = np.full((360, 640, 3), 128, np.uint8)
Box = tuple[float, float, float, float]
SMALL, LARGE = (100.0, 100.0, 150.0, 200.0), (100.0, 50.0, 300.0, 350.0)


def person(box: Box, confidence: float = 0.9, track_id: int = 1) -> Prediction:
    return Prediction("person", 0, confidence, box=box, track_id=track_id)


class Yard:
    """A pipeline whose objects are looked at, and the pictures that are published: when, of which object."""

    def __init__(self) -> None:
        self.shown: list[tuple[float, int, bytes]] = []
        self.now = 0.0
        options = settings.Snapshot(interval=2.0, max_side=320)
        self.pictures = ObjectPictures(options, lambda track, jpeg: self.shown.append((self.now, track, jpeg)))

    def see(self, now: float, *found: Prediction, events: tuple[Mapping[str, Any], ...] = ()) -> None:
        self.now = now
        work = Work({}, "", "detection", None, {}, Timing(), (), events)
        sample = Sample(SHARP, now, now, {})
        self.pictures.on_result(Observation("yard", None, sample, found, SHARP, may_block=False, work=work))

    @property
    def moments(self) -> list[tuple[float, int]]:
        return [(at, track) for at, track, _ in self.shown]


def test_the_best_is_the_largest_the_surest_the_sharpest_and_the_one_that_is_whole() -> None:
    best = quality_of(person(LARGE), SHARP)
    assert best > quality_of(person(SMALL), SHARP)
    assert best > quality_of(person(LARGE, 0.5), SHARP)
    assert best > quality_of(person(LARGE), BLURRED)
    assert best > quality_of(person((0.0, 50.0, 200.0, 350.0)), SHARP)
    assert quality_of(person((700.0, 50.0, 900.0, 350.0)), SHARP) == 0


def test_a_picture_is_published_at_once_and_replaced_by_a_better_one_after_the_interval() -> None:
    yard = Yard()
    yard.see(0, person(SMALL))
    yard.see(0.5, person(LARGE))
    yard.see(1.0, person(SMALL))
    assert yard.moments == [(0, 1)]
    yard.see(2.0, person(SMALL))
    assert yard.moments == [(0, 1), (2.0, 1)]  # the large one of half a second
    yard.see(9.0, person(SMALL))
    assert len(yard.shown) == 2
    assert decode_image(yard.shown[0][2]).shape == (180, 320, 3)
    assert yard.shown[0][2] != yard.shown[1][2]


def test_the_best_is_final_when_the_object_has_left_and_not_when_it_has_left_a_zone() -> None:
    yard, leaves = Yard(), {"event": "leave", "track_id": 1, "zone": "path"}
    yard.see(0, person(SMALL))
    yard.see(0.5, person(LARGE), events=(leaves,))
    assert yard.moments == [(0, 1)]
    yard.see(1.0, person(SMALL, track_id=2), events=(leaves,))
    assert yard.moments == [(0, 1), (1.0, 2), (1.0, 1)]
    yard.pictures.on_end()
    assert len(yard.shown) == 3


def test_the_number_of_objects_and_of_topics_is_bounded() -> None:
    yard = Yard()
    for number in range(200):
        yard.see(number / 100, person(SMALL, track_id=number))
    assert len({slot_of(track) for _, track, _ in yard.shown}) == object_pictures.SLOTS
