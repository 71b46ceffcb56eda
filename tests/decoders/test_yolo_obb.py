"""Oriented boxes: corners, and which of them overlap."""

import numpy as np
import pytest

from edge_agent.decoders import families
from edge_agent.modelfile.facts import ModelFile
from tests.decoders.scenes import ALL, Floats, as_it_is, decoder, facts, floats

SIZE = (64, 64)
CELLS = 84
FILE = facts((1, 6, CELLS), size=SIZE, metadata={"task": "obb", "stride": "32", "names": "{0: 'ship'}"})
END_TO_END = facts((1, 30, 7), size=SIZE, metadata={"task": "obb", "stride": "32", "names": "{0: 'ship'}"})
Turned = tuple[float, float, float, float, float, float]


def cells(*ships: Turned) -> Floats:
    """Ships at x, y with width, height, an angle in degrees and a score."""
    table = np.zeros((1, 6, CELLS), np.float32)
    table[0, :2] = 40  # pixels
    for at, (x, y, wide, high, degrees, score) in enumerate(ships):
        table[0, :, 3 * at] = x, y, wide, high, score, np.deg2rad(degrees)
    return table


def detections(*ships: Turned) -> Floats:
    table = np.zeros((1, 30, 7), np.float32)
    for at, (x, y, wide, high, degrees, score) in enumerate(ships):
        table[0, at] = x, y, wide, high, score, 0, np.deg2rad(degrees)
    return table


@pytest.mark.parametrize("file", [FILE, END_TO_END])
def test_a_turned_box_has_four_corners_and_the_box_around_them(file: ModelFile) -> None:
    assert [one.family for one in families.fitting(file)] == ["yolo_obb"]
    ship = (30.0, 32.0, 20.0, 8.0, 90.0, 0.9)
    scene = cells(ship) if file is FILE else detections(ship)
    (found,) = decoder(file, "yolo_obb", ["ship"])([scene], [as_it_is(SIZE)], ALL)
    assert found.box == pytest.approx((26, 22, 34, 42), abs=0.01)
    assert found.polygons is not None
    ((*corners,),) = found.polygons
    for corner, wanted in zip(sorted(corners), ((26, 22), (26, 42), (34, 22), (34, 42)), strict=True):
        assert corner == pytest.approx(wanted, abs=0.01)


def test_ships_side_by_side_stay_though_their_upright_boxes_overlap() -> None:
    ships = [(30.0, 30.0, 40.0, 4.0, 45.0, 0.9), (36.0, 24.0, 40.0, 4.0, 45.0, 0.8), (30.5, 30.0, 40.0, 4.0, 46.0, 0.7)]
    found = decoder(FILE, "yolo_obb", ["ship"])([cells(*ships)], [as_it_is(SIZE)], ALL)
    assert [one.confidence for one in found] == [pytest.approx(0.9), pytest.approx(0.8)]


def test_the_task_alone_tells_an_angle_from_a_class() -> None:
    plain = facts((1, 6, CELLS), size=SIZE)
    assert [one.family for one in families.fitting(plain)] == ["yolov8"]
    assert floats(families.stated(plain, "yolo_obb").classes) == 1
