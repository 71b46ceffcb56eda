"""Boxes around lines of text, from a map of how probable text is."""

import numpy as np
import pytest

from edge_agent.decoders import families
from edge_agent.modelfile.facts import Tensor
from edge_agent.preprocess.opencv import cv2
from tests.decoders.scenes import ALL, Box, Floats, as_it_is, decoder, facts

SIZE = (96, 128)
FILE = facts(Tensor("sigmoid_0.tmp_0", (1, 1, *SIZE), "float32"), size=SIZE, operators=("Sigmoid",))


def probabilities(*parts: tuple[Box, float]) -> Floats:
    """A map (1, 1, height, width) with rectangles of text, x1, y1, x2, y2."""
    found = np.zeros((1, 1, *SIZE), np.float32)
    for (x1, y1, x2, y2), score in parts:
        found[0, 0, int(y1) : int(y2), int(x1) : int(x2)] = score
    return found


def test_a_box_is_larger_than_its_part_by_its_area_over_its_circumference() -> None:
    (found,) = decoder(FILE, "text_detection", ["text"])(
        [probabilities(((20, 40, 80, 50), 0.9))], [as_it_is(SIZE)], ALL
    )
    longer = 1.5 * 59 * 9 / (59 + 9)
    assert found.box == pytest.approx(
        (20.5 - longer / 2, 40.5 - longer / 2, 79.5 + longer / 2, 49.5 + longer / 2), abs=0.1
    )
    assert found.confidence == pytest.approx(0.9)
    assert found.label == "text"


def test_a_tilted_line_has_the_corners_of_its_rectangle() -> None:
    tilted = np.zeros(SIZE, np.float32)
    corners = cv2.boxPoints(((64, 48), (70, 12), 30))
    cv2.fillPoly(tilted, [corners.astype(np.int32)], (0.8,))
    (found,) = decoder(FILE, "text_detection", ["text"])([tilted[None, None]], [as_it_is(SIZE)], ALL)
    assert found.polygons is not None
    ((a, b, c, _),) = found.polygons
    sides = sorted(float(np.hypot(*np.subtract(*pair))) for pair in ((a, b), (b, c)))
    assert sides == pytest.approx([27, 85], abs=4)


def test_what_is_faint_or_a_speck_is_no_text() -> None:
    scene = probabilities(((20, 40, 80, 50), 0.2), ((5, 5, 7, 7), 0.9))
    assert decoder(FILE, "text_detection", ["text"])([scene], [as_it_is(SIZE)], ALL) == []


def test_a_map_of_another_name_has_to_be_stated() -> None:
    assert [one.family for one in families.fitting(FILE)] == ["text_detection"]
    assert families.fitting(facts((1, 1, *SIZE), size=SIZE, operators=("Sigmoid",))) == []
